// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/model/vocab.h"

#include <algorithm>
#include <array>

#include "engine/model/message.h"

namespace winnow {

PreDefaults preDefaults(const std::string& pre) {
  constexpr std::array<std::string_view, 10> llama3 = {"llama3",  "llama-v3", "llama-bpe", "falcon3", "falcon-h1",
                                                       "pixtral", "midm-2.0", "lfm2",      "tekken",  "jina-v5-nano"};
  if (std::find(llama3.begin(), llama3.end(), pre) != llama3.end()) return {true, true};
  if (pre == "chameleon" || pre == "gemma4" || pre == "granite-embed-multi-311m") return {true, false};
  if (pre == "youtu" || pre == "minicpm5" || pre == "granite-embed-multi-97m") return {false, true};
  return {};
}

void collectEndOfGeneration(VocabData& vocab, const std::vector<int>& more) {
  constexpr std::array<std::string_view, 20> endings = {
      "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>", "<|endoftext|>",
      "<|end_of_text|>", "<|eom_id|>", "<EOT>", "_<EOT>", "<|end_of_sentence|>",
      "<\xef\xbd\x9c" "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>",
      "<end_of_utterance>", "[EOT]", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"};
  std::vector<int>& out = vocab.endOfGeneration;
  out.insert(out.end(), more.begin(), more.end());
  if (vocab.eos >= 0) out.push_back(vocab.eos);
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    const std::string& token = vocab.tokens[i];
    if (token.size() < 5 || (token[0] != '<' && token[0] != '[' && token[0] != '_')) continue;
    if (std::find(endings.begin(), endings.end(), token) != endings.end()) out.push_back(static_cast<int>(i));
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  std::erase_if(out, [&](int id) { return id < 0 || static_cast<size_t>(id) >= vocab.tokens.size(); });
}

Status checkVocab(const VocabData& vocab, const std::string& path) {
  const size_t n = vocab.tokens.size();
  if (n > size_t{1} << 24) return badInput(path, ": the vocabulary has ", n, " tokens, at most ", 1 << 24, " were expected");
  if (!vocab.scores.empty() && vocab.scores.size() != n)
    return badInput(path, ": the vocabulary has ", n, " tokens, but ", vocab.scores.size(), " scores");
  if (vocab.types.size() != n) return badInput(path, ": the vocabulary has ", n, " tokens, but ", vocab.types.size(), " token types");
  for (const auto& [name, id] :
       {std::pair{"bos", vocab.bos}, std::pair{"eos", vocab.eos}, std::pair{"unk", vocab.unk}, std::pair{"pad", vocab.pad}})
    if (id >= 0 && static_cast<size_t>(id) >= n)
      return badInput(path, ": the ", name, " token is ", id, ", but the vocabulary has ", n, " tokens");
  return Done{};
}

}  // namespace winnow
