// SPDX-License-Identifier: GPL-3.0-or-later
// Random models of real shapes, for speed work and for tests; llama.cpp reads them too.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/progress.h"
#include "engine/core/result.h"
#include "engine/model/config.h"

namespace winnow {

struct NamedShape {
  std::string name;         // "starter", "0.1b", "0.3b", "0.5b", "1b", "3b", "8b"
  std::string modelledOn;   // the public model whose dimensions these are
  ModelConfig config;
};
const std::vector<NamedShape>& namedShapes();

// Writes a GGUF v3 with random weights N(0, 1/sqrt(fan_in)) from `seed`, type f32|f16|bf16|q8_0|q4_0 (matrices; norms
// and biases stay f32), and a byte-level BPE vocabulary padded to config.vocab. Written to a temporary name and renamed.
Status synthesize(const NamedShape& shape, std::string_view type, uint64_t seed, const std::string& path, const Progress& progress);

}  // namespace winnow
