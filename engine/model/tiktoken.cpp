// SPDX-License-Identifier: GPL-3.0-or-later
// Lists of tiktoken ranks: one "BASE64 RANK" a line. The list names no merges; each token's last merge is found by building the
// token out of its bytes with the tokens that rank before it.
#include <charconv>
#include <limits>
#include <unordered_map>

#include "engine/model/message.h"
#include "engine/model/synthetic_vocab.h"
#include "engine/model/tokenizer_model.h"
#include "engine/model/vocab.h"

namespace winnow {
namespace {

constexpr size_t kLlama3Ranks = 128000;

bool fromBase64(std::string_view text, std::string& out) {
  out.clear();
  uint32_t bits = 0;
  int have = 0;
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  for (const char c : text) {
    int v = -1;
    if (c >= 'A' && c <= 'Z') v = c - 'A';
    else if (c >= 'a' && c <= 'z') v = c - 'a' + 26;
    else if (c >= '0' && c <= '9') v = c - '0' + 52;
    else if (c == '+') v = 62;
    else if (c == '/') v = 63;
    if (v < 0) return false;
    bits = bits << 6 | static_cast<uint32_t>(v);
    have += 6;
    if (have >= 8) {
      have -= 8;
      out += static_cast<char>(bits >> have & 0xff);
    }
  }
  return !out.empty();
}

using Ranks = std::unordered_map<std::string, int>;

// Where the last merge of `token` divides it; 0 when it cannot be built from earlier tokens.
size_t lastMerge(const std::string& token, int rank, const Ranks& ranks) {
  std::vector<size_t> cuts;  // beginnings of the parts, and the end
  for (size_t i = 0; i <= token.size(); ++i) cuts.push_back(i);
  while (cuts.size() > 3) {
    int best = std::numeric_limits<int>::max();
    size_t at = 0;
    for (size_t i = 0; i + 2 < cuts.size(); ++i) {
      const auto it = ranks.find(token.substr(cuts[i], cuts[i + 2] - cuts[i]));
      if (it != ranks.end() && it->second < best && it->second < rank) {
        best = it->second;
        at = i + 1;
      }
    }
    if (at == 0) return 0;
    cuts.erase(cuts.begin() + static_cast<ptrdiff_t>(at));
  }
  return cuts[1];
}

std::vector<std::string> llama3Specials() {
  std::vector<std::string> out = {"<|begin_of_text|>", "<|end_of_text|>"};
  int reserved = 0;
  const auto addReserved = [&](int n) {
    for (int i = 0; i < n; ++i) out.push_back("<|reserved_special_token_" + std::to_string(reserved++) + "|>");
  };
  addReserved(4);
  out.insert(out.end(), {"<|start_header_id|>", "<|end_header_id|>"});
  addReserved(1);
  out.push_back("<|eot_id|>");
  addReserved(246);
  return out;
}

}  // namespace

Result<VocabData> readTiktokenRanks(std::string_view text, const std::string& path) {
  std::vector<std::string> tokens;
  Ranks ranks;
  std::string bytes;
  for (size_t line = 1; !text.empty(); ++line) {
    const size_t end = text.find('\n');
    const std::string_view row = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (row.empty()) continue;
    const size_t space = row.find(' ');
    size_t rank = 0;
    const char* last = row.data() + row.size();
    const auto number = space == std::string_view::npos ? std::from_chars_result{last, std::errc::invalid_argument}
                                                        : std::from_chars(row.data() + space + 1, last, rank);
    if (number.ec != std::errc() || number.ptr != last || rank != tokens.size() || space > 256 || !fromBase64(row.substr(0, space), bytes))
      return badInput(path, ": line ", line, " is neither part of a list of tiktoken ranks (base64, a space, ", tokens.size(),
                      ") nor is the file a SentencePiece model");
    if (!ranks.emplace(bytes, static_cast<int>(rank)).second)
      return badInput(path, ": line ", line, " holds a token that was there before");
    tokens.push_back(bytes);
  }
  if (tokens.size() != kLlama3Ranks)
    return badInput(path, ": a list of ", tokens.size(), " tiktoken ranks is of no known model; that of Llama 3 with ", kLlama3Ranks,
                    " is supported");
  VocabData v;
  v.kind = VocabData::Kind::bpe;
  v.pre = "llama-bpe";
  v.addBos = v.ignoreMerges = true;
  const auto alphabet = byteAlphabet();
  const auto spelled = [&](std::string_view raw) {
    std::string out;
    for (const char c : raw) out += alphabet[static_cast<uint8_t>(c)];
    return out;
  };
  for (size_t i = 0; i < tokens.size(); ++i) {
    v.tokens.push_back(spelled(tokens[i]));
    if (tokens[i].size() < 2) continue;
    const size_t cut = lastMerge(tokens[i], static_cast<int>(i), ranks);
    if (cut > 0)
      v.merges.push_back(spelled(std::string_view(tokens[i]).substr(0, cut)) + " " + spelled(std::string_view(tokens[i]).substr(cut)));
  }
  v.types.assign(v.tokens.size(), VocabData::TokenType::normal);
  for (const std::string& special : llama3Specials()) {
    v.tokens.push_back(special);
    v.types.push_back(VocabData::TokenType::control);
  }
  v.bos = static_cast<int>(kLlama3Ranks);
  v.eos = v.bos + 1;
  collectEndOfGeneration(v, {});
  if (Status s = checkVocab(v, path); !s) return s.error();
  return v;
}

}  // namespace winnow
