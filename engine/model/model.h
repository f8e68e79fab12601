// SPDX-License-Identifier: GPL-3.0-or-later
// An opened model: configuration, vocabulary and the untouched master tensors, memory-mapped. Opening reads headers only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/core/dtype.h"
#include "engine/core/result.h"
#include "engine/model/config.h"

namespace winnow {

enum class TensorRole : uint8_t {
  tokenEmbedding, positionEmbedding, outputNorm, outputNormBias, head,
  attnNorm, attnNormBias, q, k, v, o, qBias, kBias, vBias, oBias, qNorm, kNorm,
  ffnNorm, ffnNormBias, gate, up, down, gateBias, upBias, downBias,
  attnShortcut, ffnShortcut,  // of sliced models (engine/prune/slice.h); no file has them
  count
};
std::string_view tensorRoleName(TensorRole role);  // "q", "token_embedding", ...
bool isMatrix(TensorRole role);                     // embeddings, head, q k v o gate up down, shortcuts

// A matrix (or vector: rows == 1) as the engine wants it; how to read it out of the file is MasterTensor's business.
struct MasterTensor {
  TensorRole role{};
  int layer = -1;            // -1 for tensors outside the blocks
  std::string fileName;      // name in the file
  DType type{};              // as stored
  int64_t rows = 0, cols = 0;  // after slicing, transposing: W[out][in]
  const std::byte* data = nullptr;  // mapped; row r of the stored tensor is at data + r * storedRowBytes
  size_t storedRowBytes = 0;
  int64_t firstStoredRow = 0;   // slice of a fused tensor (GPT-2 qkv)
  int64_t firstStoredCol = 0;   // the same when transposed
  bool transposed = false;      // stored [in][out]
  int unpermuteHeads = 0;       // > 0: rows are interleaved for RoPE pairs in this many heads; decode un-permutes
  int unpermuteDims = 0;        // how many components of each head are permuted so (the rotated ones)

  // True when rows can be used in place: contiguous, not transposed, not permuted, aligned to the element.
  bool direct() const { return !transposed && unpermuteHeads == 0; }
  const std::byte* directRow(int64_t row) const { return data + static_cast<size_t>(firstStoredRow + row) * storedRowBytes; }
  int64_t storedRowOf(int64_t row) const;  // after un-permuting and slicing; not for transposed tensors
};

// What a tokenizer is built from; engine/text turns it into one. Filled by the GGUF and Hugging Face readers.
struct VocabData {
  enum class Kind : uint8_t { none, bpe, spm } kind = Kind::none;
  enum class TokenType : uint8_t { normal = 1, unknown = 2, control = 3, userDefined = 4, unused = 5, byte = 6 };
  std::string pre;                        // tokenizer.ggml.pre for bpe, "" if absent
  std::vector<std::string> splitPatterns; // from tokenizer.json (PCRE text, applied one after the other); wins over `pre`
  std::vector<std::string> tokens;        // bpe: in GPT-2's byte-to-unicode alphabet (as files store them); spm: with U+2581
  std::vector<float> scores;              // spm
  std::vector<TokenType> types;           // one per token, all normal when the file has none
  std::vector<std::string> merges;        // bpe: "left right", best first
  bool ignoreMerges = false;              // a whole word that is a token is taken as it is (Llama 3)
  bool addPrefixSpace = false;            // spm: default true when the file is silent
  bool addBos = false, addEos = false;
  int bos = -1, eos = -1, unk = -1, pad = -1;
  std::vector<int> endOfGeneration;       // eos, eot and friends
  std::vector<int> stripAfter;            // special tokens that swallow the white space after them (Phi-3)
  std::string chatTemplate;               // Jinja text as in the file, may be empty
};

class MappedFile;

class Model {
 public:
  // A .gguf file, a folder with config.json + *.safetensors + tokenizer.json, or one .safetensors file beside those.
  static Result<std::shared_ptr<const Model>> open(const std::string& path);
  // The vocabulary alone: a GGUF without weights, a tokenizer folder (tokenizer.json, or vocab.json + merges.txt).
  static Result<VocabData> openVocab(const std::string& path);

  const ModelConfig& config() const { return config_; }
  const VocabData& vocab() const { return vocab_; }
  const std::string& path() const { return path_; }
  const std::string& format() const { return format_; }  // "gguf" or "safetensors"
  int64_t fileBytes() const { return fileBytes_; }
  const std::vector<MasterTensor>& tensors() const { return tensors_; }
  const MasterTensor* find(TensorRole role, int layer = -1) const;  // null when the model has none
  std::string typeSummary() const;       // "f32", "q4_0 + f32 ...": types by bytes, largest first
  const std::vector<std::string>& notes() const { return notes_; }  // things a person should know ("head stored in q6_k")

  // Decodes rows [row, row+count) to f32, exactly what the stored type says. out [count, cols]. Thread-safe.
  static void decodeRows(const MasterTensor& tensor, int64_t row, int64_t count, float* out);
  // First NaN or infinity in the float tensors and block scales of the matrices; error names tensor and position.
  Status validateValues() const;

 private:
  friend struct ModelBuilder;
  std::string path_, format_;
  int64_t fileBytes_ = 0;
  ModelConfig config_;
  VocabData vocab_;
  std::vector<MasterTensor> tensors_;
  std::vector<std::string> notes_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::vector<std::vector<std::byte>> owned_;  // tensors that had to be made (none for the common case)
};

}  // namespace winnow
