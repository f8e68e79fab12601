// SPDX-License-Identifier: GPL-3.0-or-later
// What a decoder-only transformer is, whatever file it came from. Conventions inside the engine: linear layers are
// W[out][in] row-major (GPT-2 Conv1D is transposed at load), RoPE rotates the pairs (c, c + rope.dims/2) ("half-split";
// llama-architecture GGUF rows of Q and K are un-permuted at load), the k/v head of query head h is h / (heads / kvHeads).
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace winnow {

enum class NormKind : uint8_t { rms, layer };
enum class Activation : uint8_t { silu, geluTanh, geluErf };
enum class PositionKind : uint8_t { rope, learned };
enum class RopeScaling : uint8_t { none, linear, llama3 };

struct RopeConfig {
  int dims = 0;              // rotated components of a head, even, <= headDim
  float base = 10000.0f;
  RopeScaling scaling = RopeScaling::none;
  float factor = 1.0f;                        // linear and llama3
  float lowFreqFactor = 1.0f, highFreqFactor = 4.0f;  // llama3
  int originalContext = 0;                    // llama3
  // Divisors of the frequencies, dims / 2 of them, as a file gives them (the form llama3 scaling has in GGUF); empty = none.
  std::vector<float> frequencyFactors{};
  bool operator==(const RopeConfig&) const = default;
};
// Radians per position of each rotated pair [dims / 2], with all of the above applied. The one place that knows the formulas.
std::vector<float> ropeFrequencies(const RopeConfig& rope);

struct ModelConfig {
  std::string architecture;  // llama, qwen2, qwen3, gpt2 (Mistral is llama)
  std::string name;          // as the file says, may be empty
  int layers = 0;
  int hidden = 0;
  int heads = 0;
  int kvHeads = 0;
  int headDim = 0;
  int ffn = 0;
  int vocab = 0;
  int context = 0;  // trained length, tokens
  int slidingWindow = 0;  // 0 = full attention
  NormKind norm = NormKind::rms;
  float normEps = 1e-5f;
  Activation activation = Activation::silu;
  bool gatedFfn = true;
  PositionKind position = PositionKind::rope;
  RopeConfig rope;
  bool tiedHead = false;  // the head is the token embedding
  bool qkNorm = false;    // RMSNorm per head on q and k before RoPE (Qwen3)
  int64_t parameters = 0; // counted from the tensors, tied head once

  int groupSize() const { return heads / kvHeads; }
  bool operator==(const ModelConfig&) const = default;
  int qRows() const { return heads * headDim; }
  int kvRows() const { return kvHeads * headDim; }
};

}  // namespace winnow
