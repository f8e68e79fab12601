// SPDX-License-Identifier: GPL-3.0-or-later
// Codes that are no integers: what each stands for in units of the group's scale, and which one a weight becomes. One format is one file and
// one line in code_formats.cpp, beside its member of Code; where codes have more than 4 bits, kernels (engine/cpu/packed.h) too.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "engine/weights/matrix.h"

namespace winnow {

struct CodeFormat {
  Code code;
  std::string name;   // value of weights.format
  std::string title;  // for a person
  std::string paper;  // source, section
  int bits;
  int group;                // that weights.group=auto means; 0 = the whole row
  bool fixedGroup;          // it has no other
  std::span<const float> values;  // [2^bits]; codes that are infinite or no number are never made
  float most;               // the largest finite magnitude
  int zero;                 // the code of +0
  // Scale of a group with this largest magnitude: f16 bits, or the biased exponent where the format has those.
  uint16_t (*scaleOf)(float largest);
  // Codes of count weights, nearest in units of the scale (> 0), saturating.
  void (*encode)(const float* w, int count, float scale, uint8_t* q);
  // 4 bits: values as 8-bit integers, value ~ unit8 * (levels8 - offset8); exact but for NF4, which is off by up to unit8 / 2.
  float unit8 = 0;
  int offset8 = 0;
  std::array<uint8_t, 16> levels8{};
};

std::span<const CodeFormat> codeFormats();
const CodeFormat* findCodeFormat(Code code);              // null for integers
const CodeFormat* findCodeFormat(std::string_view name);  // null for "integer" and what is unknown

// The f16 scale with which `most` in its units covers the largest magnitude to 1 in 1024, also among f16 subnormals.
uint16_t coveringScale(float largest, float most);

// For code_formats.cpp, from the files of this folder.
CodeFormat nf4Format();
CodeFormat e4m3Format();
CodeFormat e5m2Format();
CodeFormat mxfp4Format();

}  // namespace winnow
