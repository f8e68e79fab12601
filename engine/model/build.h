// SPDX-License-Identifier: GPL-3.0-or-later
// What the GGUF and the Hugging Face reader share: from a directory of named tensors and a configuration to a Model whose
// tensors are all there and have the shapes that the configuration demands.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/core/result.h"
#include "engine/model/mapped_file.h"
#include "engine/model/model.h"

namespace winnow {

struct SourceTensor {
  std::string name;
  std::vector<int64_t> shape;  // outermost first
  std::optional<DType> type;
  std::string typeName;        // as the format calls it
  const std::byte* data = nullptr;
  bool used = false;
};

// How a format names and stores the tensors of an architecture.
struct TensorNaming {
  std::string (*name)(const std::string& architecture, TensorRole role, int layer);  // weights and biases, q k v apart
  std::string (*fusedQkv)(int layer, bool bias);  // null when q, k and v are tensors of their own
  bool transposedLinears = false;  // GPT-2 of Hugging Face: [in][out]
  bool permutedQk = false;         // llama-architecture GGUF
};

struct ModelBuilder {
  explicit ModelBuilder(std::string path, std::string format);

  std::shared_ptr<Model> model;
  std::vector<SourceTensor> sources;
  std::string supportedTypes;  // for messages

  ModelConfig& config() { return model->config_; }
  VocabData& vocab() { return model->vocab_; }
  std::vector<std::string>& notes() { return model->notes_; }
  void addFile(std::shared_ptr<const MappedFile> file);
  void addSource(SourceTensor tensor);
  SourceTensor* source(const std::string& name);
  void setSources(std::vector<SourceTensor> tensors);  // instead of those there are
  void dropSource(const std::string& name);            // known and not needed

  // Fills model->tensors_, counts parameters, notes tensors that nothing uses.
  Status mapTensors(const TensorNaming& naming);
  Status checkConfig() const;  // ranges and divisibility that everything later relies on

 private:
  Status mapOne(const TensorNaming& naming, TensorRole role, int layer, bool required);
  Status mapFusedPart(const TensorNaming& naming, TensorRole role, int layer);
  Status checkShape(const SourceTensor& tensor, const std::vector<int64_t>& expected) const;
  Status checkType(const SourceTensor& tensor) const;
  void keep(SourceTensor& from, MasterTensor tensor);

  std::unordered_map<std::string, size_t> index_;
};

// What `role` looks like in a model of this configuration.
struct RoleShape {
  int64_t rows, cols;  // rows == 1 for vectors
};
RoleShape roleShape(const ModelConfig& config, TensorRole role);
std::string ggufTensorName(TensorRole role, int layer);  // "blk.3.attn_q.weight"; q, k and v apart

Result<std::shared_ptr<const Model>> openGguf(const std::string& path);
Result<VocabData> openGgufVocab(const std::string& path);
#ifdef WINNOW_HAS_HUGGINGFACE
Result<std::shared_ptr<const Model>> openHuggingFace(const std::string& path);
Result<VocabData> openHuggingFaceVocab(const std::string& where);  // a folder, or a file in it
#endif

// "llama, qwen2, qwen3, gpt2"
std::string supportedArchitectures();

}  // namespace winnow
