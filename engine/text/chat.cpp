// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/text/chat.h"

namespace winnow {
namespace {

// What the templates do before they put a message between their marks.
std::string_view trimmed(std::string_view text) {
  constexpr std::string_view spaces = " \t\n\v\f\r";
  const size_t begin = text.find_first_not_of(spaces);
  return begin == std::string_view::npos ? std::string_view() : text.substr(begin, text.find_last_not_of(spaces) + 1 - begin);
}

std::string between(std::string_view before, std::string_view message, std::string_view after) {
  std::string out(before);
  out += message;
  out += after;
  return out;
}

}  // namespace

ChatFormat detectChatFormat(std::string_view jinja) {
  const auto has = [&](std::string_view mark) { return jinja.find(mark) != std::string_view::npos; };
  if (has("<|im_start|>")) return ChatFormat::chatml;
  if (has("<|start_header_id|>") && has("<|end_header_id|>")) return ChatFormat::llama3;
  if (has("<start_of_turn>")) return ChatFormat::gemma;
  if (has("[INST]")) return has("<<SYS>>") ? ChatFormat::llama2 : ChatFormat::mistral;
  return ChatFormat::raw;
}

std::string_view chatFormatName(ChatFormat format) {
  switch (format) {
    case ChatFormat::raw: return "raw";
    case ChatFormat::chatml: return "chatml";
    case ChatFormat::llama2: return "llama2";
    case ChatFormat::llama3: return "llama3";
    case ChatFormat::mistral: return "mistral";
    case ChatFormat::gemma: return "gemma";
  }
  return "raw";
}

std::string applyChat(ChatFormat format, std::string_view message) {
  switch (format) {
    case ChatFormat::raw: break;
    case ChatFormat::chatml: return between("<|im_start|>user\n", message, "<|im_end|>\n<|im_start|>assistant\n");
    case ChatFormat::llama2: return between("[INST] ", trimmed(message), " [/INST]");
    case ChatFormat::llama3:
      return between("<|start_header_id|>user<|end_header_id|>\n\n", trimmed(message),
                     "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
    case ChatFormat::mistral: return between("[INST] ", message, " [/INST]");
    case ChatFormat::gemma: return between("<start_of_turn>user\n", trimmed(message), "<end_of_turn>\n<start_of_turn>model\n");
  }
  return std::string(message);
}

}  // namespace winnow
