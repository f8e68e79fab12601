// SPDX-License-Identifier: GPL-3.0-or-later
// Chat templates known by signature: ChatML, Llama-2, Llama-3, Mistral, Gemma. Others run raw, and say so.
#pragma once
#include <string>
#include <string_view>

namespace winnow {

enum class ChatFormat { raw, chatml, llama2, llama3, mistral, gemma };
ChatFormat detectChatFormat(std::string_view jinjaTemplate);
std::string_view chatFormatName(ChatFormat format);
// One user message, ready for the answer. BOS is left to the tokenizer.
std::string applyChat(ChatFormat format, std::string_view userMessage);

}  // namespace winnow
