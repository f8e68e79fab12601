// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/text/chat.h"

#include "tests/support/check.h"

using namespace winnow;

TEST(formats_are_told_by_their_marks) {
  EXPECT(detectChatFormat("{% for m in messages %}<|im_start|>{{ m.role }}") == ChatFormat::chatml);
  EXPECT(detectChatFormat("{{ '<|start_header_id|>' + role + '<|end_header_id|>\n\n' }}") == ChatFormat::llama3);
  EXPECT(detectChatFormat("{{ bos }}[INST] <<SYS>>") == ChatFormat::llama2);
  EXPECT(detectChatFormat("{{ bos }}[INST] {{ m }} [/INST]") == ChatFormat::mistral);
  EXPECT(detectChatFormat("<start_of_turn>user") == ChatFormat::gemma);
  EXPECT(detectChatFormat("<|user|>{{ whatever }}<|end|>") == ChatFormat::raw);
  EXPECT(detectChatFormat("") == ChatFormat::raw);
}

TEST(one_message_is_put_between_the_marks) {
  EXPECT_EQ(applyChat(ChatFormat::raw, " x "), std::string(" x "));
  EXPECT_EQ(applyChat(ChatFormat::chatml, "x"), std::string("<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"));
  EXPECT_EQ(applyChat(ChatFormat::llama2, " x\n"), std::string("[INST] x [/INST]"));
  EXPECT_EQ(applyChat(ChatFormat::mistral, "x"), std::string("[INST] x [/INST]"));
  EXPECT_EQ(applyChat(ChatFormat::llama3, "x "),
            std::string("<|start_header_id|>user<|end_header_id|>\n\nx<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"));
  EXPECT_EQ(applyChat(ChatFormat::gemma, " x"), std::string("<start_of_turn>user\nx<end_of_turn>\n<start_of_turn>model\n"));
  EXPECT_EQ(applyChat(ChatFormat::gemma, " \n"), std::string("<start_of_turn>user\n<end_of_turn>\n<start_of_turn>model\n"));
}

TEST(every_format_has_its_name) {
  using enum ChatFormat;
  for (const ChatFormat f : {raw, chatml, llama2, llama3, mistral, gemma})
    EXPECT(!chatFormatName(f).empty());
  EXPECT_EQ(chatFormatName(ChatFormat::llama3), std::string_view("llama3"));
}
