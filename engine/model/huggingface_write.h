// SPDX-License-Identifier: GPL-3.0-or-later
// A model's folder as Hugging Face publishes them, to be written: what readHuggingFaceConfig, readHuggingFaceVocab and addSafetensors read back. Built only
// where nlohmann-json is present.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "engine/core/result.h"
#include "engine/model/model.h"

namespace winnow {

// Where a tensor of a model goes, by the library's names. GPT-2's linear layers lie transposed, its q, k and v one after the other in one tensor.
struct HuggingFacePlace {
  std::string name;
  bool transposed = false;  // stored [in][out]
};
HuggingFacePlace huggingFacePlace(const ModelConfig& config, TensorRole role, int layer);

struct SafetensorsEntry {
  std::string name;
  DType type{};  // f32, f16 or bf16
  std::vector<int64_t> shape;
  int64_t bytes() const;
};
// The length and the JSON that come before the data of these tensors, which lie one after the other. `settings` becomes metadata.
std::string safetensorsHeader(std::span<const SafetensorsEntry> entries, const std::string& settings);

struct NamedText {
  std::string name, text;
};
// Everything beside the weights: config.json, which says that they are of `type` and have the extents of `shape`, and the tokenizer. Of a folder its own files, of a GGUF what they
// would say. Notes: what a person should know. Errors: a configuration or a tokenizer that these files can't say.
Result<std::vector<NamedText>> huggingFaceFiles(const Model& model, const ModelConfig& shape, DType type, std::vector<std::string>& notes);

// A part of it: tokenizer.json, tokenizer_config.json and generation_config.json of a vocabulary.
Result<std::vector<NamedText>> huggingFaceTokenizer(const VocabData& vocab, const std::string& path);

}  // namespace winnow
