// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/model/model.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "engine/core/check.h"
#include "engine/model/build.h"
#include "engine/model/decode.h"
#include "engine/model/message.h"
#include "engine/model/tokenizer_model.h"

namespace winnow {

std::string_view tensorRoleName(TensorRole role) {
  constexpr std::array<std::string_view, static_cast<size_t>(TensorRole::count)> names = {
      "token_embedding", "position_embedding", "output_norm", "output_norm_bias", "head",
      "attn_norm", "attn_norm_bias", "q", "k", "v", "o", "q_bias", "k_bias", "v_bias", "o_bias", "q_norm", "k_norm",
      "ffn_norm", "ffn_norm_bias", "gate", "up", "down", "gate_bias", "up_bias", "down_bias", "attn_shortcut", "ffn_shortcut"};
  return names[static_cast<size_t>(role)];
}

bool isMatrix(TensorRole role) {
  switch (role) {
    case TensorRole::tokenEmbedding: case TensorRole::positionEmbedding: case TensorRole::head:
    case TensorRole::q: case TensorRole::k: case TensorRole::v: case TensorRole::o:
    case TensorRole::gate: case TensorRole::up: case TensorRole::down:
    case TensorRole::attnShortcut: case TensorRole::ffnShortcut: return true;
    default: return false;
  }
}

namespace {

// Component c of a head in half-split order lies at 2c (first half) or one after its partner's place (second half).
int64_t interleavedPlace(int64_t index, int64_t headDim, int64_t dims) {
  const int64_t head = index / headDim, c = index % headDim;
  if (c >= dims) return index;
  return head * headDim + (c < dims / 2 ? 2 * c : 2 * (c - dims / 2) + 1);
}

}  // namespace

int64_t MasterTensor::storedRowOf(int64_t row) const {
  if (unpermuteHeads > 0 && rows > 1) row = interleavedPlace(row, rows / unpermuteHeads, unpermuteDims);
  return firstStoredRow + row;
}

namespace {

// Rows of W are columns of what is stored: reads a band of columns from each stored row.
void decodeTransposed(const MasterTensor& t, int64_t row, int64_t count, float* out) {
  CHECK(!isBlockType(t.type));
  const size_t element = static_cast<size_t>(dtypeTraits(t.type).blockBytes);
  std::vector<float> band(static_cast<size_t>(count));
  for (int64_t in = 0; in < t.cols; ++in) {
    const std::byte* from = t.data + static_cast<size_t>(in) * t.storedRowBytes + static_cast<size_t>(t.firstStoredCol + row) * element;
    decodeValues(t.type, from, count, band.data());
    for (int64_t r = 0; r < count; ++r) out[r * t.cols + in] = band[static_cast<size_t>(r)];
  }
}

}  // namespace

void Model::decodeRows(const MasterTensor& t, int64_t row, int64_t count, float* out) {
  CHECK(row >= 0 && count >= 0 && row + count <= t.rows, row, count, t.rows);
  if (t.transposed) return decodeTransposed(t, row, count, out);
  if (t.direct()) {  // rows follow each other without gaps
    decodeValues(t.type, t.directRow(row), count * t.cols, out);
    return;
  }
  for (int64_t r = 0; r < count; ++r) {
    const std::byte* from = t.data + static_cast<size_t>(t.storedRowOf(row + r)) * t.storedRowBytes;
    decodeValues(t.type, from, t.cols, out + r * t.cols);
  }
  if (t.rows == 1) {  // a permuted bias
    const std::vector<float> stored(out, out + t.cols);
    for (int64_t c = 0; c < t.cols; ++c)
      out[c] = stored[static_cast<size_t>(interleavedPlace(c, t.cols / t.unpermuteHeads, t.unpermuteDims))];
  }
}

const MasterTensor* Model::find(TensorRole role, int layer) const {
  for (const MasterTensor& t : tensors_)
    if (t.role == role && t.layer == layer) return &t;
  return nullptr;
}

namespace {

int64_t storedBytes(const MasterTensor& t) {
  const DTypeTraits traits = dtypeTraits(t.type);
  return t.rows * t.cols / traits.blockValues * traits.blockBytes;
}

}  // namespace

std::string Model::typeSummary() const {
  std::array<int64_t, static_cast<size_t>(DType::count)> bytes{};
  for (const MasterTensor& t : tensors_) bytes[static_cast<size_t>(t.type)] += storedBytes(t);
  std::vector<size_t> order;
  for (size_t i = 0; i < bytes.size(); ++i)
    if (bytes[i] > 0) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return bytes[a] > bytes[b]; });
  std::string out;
  for (const size_t i : order) out += (out.empty() ? "" : " + ") + std::string(dtypeTraits(static_cast<DType>(i)).name);
  return out;
}

Status Model::validateValues() const {
  for (const MasterTensor& t : tensors_) {
    // A fused or transposed tensor is looked at part by part: rows of it as they are stored.
    const int64_t storedRows = t.transposed ? t.cols : t.rows, storedCols = t.transposed ? t.rows : t.cols;
    for (int64_t r = 0; r < storedRows; ++r) {
      const std::byte* from = t.data + static_cast<size_t>(t.firstStoredRow + r) * t.storedRowBytes +
                              static_cast<size_t>(t.firstStoredCol) * static_cast<size_t>(dtypeTraits(t.type).blockBytes);
      const int64_t at = firstNotFinite(t.type, from, storedCols);
      if (at < 0) continue;
      return badInput(path_, ": tensor ", shown(t.fileName), " holds a value that is not finite (NaN or infinity), the first at row ",
                      t.firstStoredRow + r, ", column ", t.firstStoredCol + at);
    }
  }
  return Done{};
}

Result<std::shared_ptr<const Model>> Model::open(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  if (folder || fs::path(path).extension() == ".safetensors") {
#ifdef WINNOW_HAS_HUGGINGFACE
    return openHuggingFace(path);
#else
    return badInput(path, ": this build reads GGUF files only; the Hugging Face reader needs nlohmann-json when building");
#endif
  }
  return openGguf(path);
}

Result<VocabData> Model::openVocab(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const std::string extension = fs::path(path).extension().string();
  if (fs::is_directory(path, error) || extension == ".json" || extension == ".safetensors") {
#ifdef WINNOW_HAS_HUGGINGFACE
    return openHuggingFaceVocab(path);
#else
    return badInput(path, ": this build has no Hugging Face reader, which needs nlohmann-json when building");
#endif
  }
  if (extension == ".model") return openTokenizerModel(path);
  return openGgufVocab(path);
}

}  // namespace winnow
