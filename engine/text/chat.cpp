// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/text/chat.h"

namespace winnow {

ChatFormat detectChatFormat(std::string_view jinja) {
  const auto has = [&](std::string_view mark) { return jinja.find(mark) != std::string_view::npos; };
  if (has("<|im_start|>")) return ChatFormat::chatml;
  if (has("<|start_header_id|>")) return ChatFormat::llama3;
  if (has("<start_of_turn>")) return ChatFormat::gemma;
  if (has("[INST]")) return has("<<SYS>>") ? ChatFormat::llama2 : ChatFormat::mistral;
  return ChatFormat::raw;
}

std::string_view chatFormatName(ChatFormat format) {
  constexpr std::string_view names[] = {"raw", "chatml", "llama2", "llama3", "mistral", "gemma"};
  return names[static_cast<int>(format)];
}

std::string applyChat(ChatFormat format, std::string_view userMessage) {
  const std::string message(userMessage);
  switch (format) {
    case ChatFormat::chatml:
      return "<|im_start|>user\n" + message + "<|im_end|>\n<|im_start|>assistant\n";
    case ChatFormat::llama2:
    case ChatFormat::mistral:
      return "[INST] " + message + " [/INST]";
    case ChatFormat::llama3:
      return "<|start_header_id|>user<|end_header_id|>\n\n" + message + "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
    case ChatFormat::gemma:
      return "<start_of_turn>user\n" + message + "<end_of_turn>\n<start_of_turn>model\n";
    case ChatFormat::raw:
      break;
  }
  return message;
}

}  // namespace winnow
