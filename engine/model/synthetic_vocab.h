// SPDX-License-Identifier: GPL-3.0-or-later
// A byte-level BPE vocabulary of any size that tokenizes English sensibly: bytes, frequent words, padding.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/core/result.h"

namespace winnow {

struct SyntheticVocab {
  std::vector<std::string> tokens;  // `size` of them
  std::vector<int32_t> types;       // as GGUF numbers them
  std::vector<std::string> merges;
  int endOfText = 0;
};
Result<SyntheticVocab> syntheticVocab(int size);

// GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 and up, all as UTF-8.
std::array<std::string, 256> byteAlphabet();

}  // namespace winnow
