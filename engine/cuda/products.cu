// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/products.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <array>

#include "engine/core/check.h"
#include "engine/cuda/checked.h"
#include "engine/cuda/fp8.h"
#include "engine/cuda/gemm.h"

namespace winnow::cuda {
namespace {

// Estimates to be replaced by measurements: a library's product needs 2 tokens / 700 TFLOP/s per weight, decoding 4.5 bytes of traffic
// at 4.3 TB/s, that is as long as 370 tokens; own tiles reach about half the library's speed. So decoding pays from some 512 tokens on.
constexpr int kLibraryFrom = 64, kDecodeFrom = 512;
constexpr WeightFormat kHalves{Storage::f16, 16, 0, true};

size_t scratchBytes(int tokens, int cols) {
  size_t bytes = 0;
  for (ActivationMode mode : {ActivationMode::f32, ActivationMode::f16, ActivationMode::bf16, ActivationMode::int8})
    bytes = std::max(bytes, InputForms::bytes(mode, tokens, cols));
  return bytes;
}

}  // namespace

RoadChoice roadOf(const MatrixArgs& w, ActivationMode mode, int tokens, bool library, RoadPreference preference, bool fp8) {
  if (tokens <= kMostTokens) return {ProductRoad::streamed, "a handful of tokens: the weights pass by once"};
  const bool longPrompt = tokens >= kDecodeFrom || preference == RoadPreference::decoded;
  if (fp8 && library && longPrompt && preference != RoadPreference::own && w.rows % kFp8Multiple == 0 && w.cols % kFp8Multiple == 0)
    return {ProductRoad::fp8, "asked for, by so many tokens"};
  const bool packed = w.format.storage == Storage::packed;
  if (!packed && !gemmOfFragments(w.format, w.cols, mode))
    return {ProductRoad::fma, "not a product of two matrices of one 16-bit type"};
  if (mode == ActivationMode::f32 || mode == ActivationMode::int8)
    return {ProductRoad::fragments, "inputs in f32 or in 8 bits are not the library's"};
  if (preference == RoadPreference::own) return {ProductRoad::fragments, "asked for"};
  if (!packed)
    return library && tokens >= kLibraryFrom ? RoadChoice{ProductRoad::library, "16-bit weights as they lie"}
                                             : RoadChoice{ProductRoad::fragments, library ? "few tokens" : "no cuBLASLt"};
  if (w.cols % 8 != 0) return {ProductRoad::fragments, "decoded rows would not begin at 16 bytes"};
  if (preference == RoadPreference::decoded) return {ProductRoad::decoded, "asked for"};
  return library && tokens >= kDecodeFrom ? RoadChoice{ProductRoad::decoded, "so many tokens repay decoding"}
                                          : RoadChoice{ProductRoad::fragments, library ? "decoding would take longer than it saves" : "no cuBLASLt"};
}

Products::Products(Ledger& ledger, int tokens, int cols, Stream stream, int64_t sliceBytes)
    : ledger_(ledger), stream_(stream), sliceBytes_(sliceBytes), scratch_(ledger, MemoryTag::activations, scratchBytes(tokens, cols)),
      twins_(ledger), library_(ledger, tokens > kMostTokens) {
  if (library_.available()) slice_ = DeviceBuffer(ledger, MemoryTag::activations, static_cast<size_t>(sliceBytes));
}

void Products::multiply(std::span<const Target> targets, const Source& source, int tokens, int cols, Activations activations, std::span<const FactorArgs> factors) {
  CHECK(targets.size() <= kMostTargets, targets.size());
  std::array<Target, kMostTargets> eights, others;
  size_t eight = 0, other = 0;
  for (const Target& t : targets) {
    if (t.w.format.sparse)
      multiplyExpanded(t, source, tokens, cols, activations);
    else
      (roadFor(t.w, activations, tokens) == ProductRoad::fp8 ? eights[eight++] : others[other++]) = t;
  }
  if (eight > 0) multiplyFp8({eights.data(), eight}, source, tokens, cols);
  if (other > 0) multiplyModes({others.data(), other}, source, tokens, cols, activations);
  if (!factors.empty()) addErrors(targets, factors, source, tokens, cols, activations);
}

bool Products::reserveExpanded(int64_t bytes) {
  const size_t wanted = static_cast<size_t>(std::min(bytes, sliceBytes_));
  if (expanded_.bytes() >= wanted) return false;
  expanded_ = DeviceBuffer();
  expanded_ = DeviceBuffer(ledger_, MemoryTag::activations, wanted);
  return true;
}

// As many rows at a time as stay in the second-level cache; each slice is a dense product.
void Products::multiplyExpanded(const Target& target, const Source& source, int tokens, int cols, Activations activations) {
  const int64_t rowBytes = int64_t{cols} * static_cast<int64_t>(target.w.format.elementBytes());
  const int64_t fit = static_cast<int64_t>(expanded_.bytes()) / rowBytes;
  const int slice = static_cast<int>(std::min<int64_t>(fit >= 128 ? fit / 128 * 128 : fit, target.w.rows));
  CHECK(slice > 0, expanded_.bytes(), rowBytes);
  Target part = target;
  for (int first = 0; first < target.w.rows; first += slice) {
    part.w = {target.w.format, std::min(slice, target.w.rows - first), cols, expanded_.as<void>()};
    part.w.format.sparse = false;
    part.y = target.y + first;
    part.bias = target.bias ? target.bias + first : nullptr;
    expandRows(stream_, target.w, first, part.w.rows, expanded_.as<void>());
    multiply({&part, 1}, source, tokens, cols, activations);
  }
}

ProductRoad Products::roadFor(const MatrixArgs& w, Activations activations, int tokens) const {
  return roadOf(w, activationMode(activations, w.format), tokens, library_.available(), preference_, activations == Activations::fp8).road;
}

void Products::multiplyModes(std::span<const Target> targets, const Source& source, int tokens, int cols, Activations activations) {
  const auto modeOf = [&](const Target& t) { return activationMode(activations, t.w.format); };
  std::array<Target, kMostTargets> same;
  std::array<bool, kMostTargets> done{};
  for (size_t i = 0; i < targets.size(); ++i) {
    if (done[i]) continue;
    size_t count = 0;
    for (size_t j = i; j < targets.size(); ++j) {
      if (done[j] || modeOf(targets[j]) != modeOf(targets[i])) continue;
      same[count++] = targets[j];
      done[j] = true;
    }
    multiplyMode({same.data(), count}, source, tokens, cols, modeOf(targets[i]));
  }
}

bool Products::reserveRanks(int64_t ranks, int tokens) {
  const size_t bytes = static_cast<size_t>(ranks) * static_cast<size_t>(tokens) * sizeof(float);
  if (ranks_.bytes() >= bytes) return false;
  ranks_ = DeviceBuffer();
  ranks_ = DeviceBuffer(ledger_, MemoryTag::activations, bytes);
  return true;
}

// First what all right factors make of x, then the left ones.
void Products::addErrors(std::span<const Target> targets, std::span<const FactorArgs> factors, const Source& source, int tokens, int cols, ActivationMode mode) {
  CHECK(factors.size() == targets.size(), factors.size(), targets.size());
  std::array<Target, kMostTargets> rights;
  int64_t ranks = 0;
  for (const FactorArgs& factor : factors) ranks += paddedRank(factor.right.rows);
  if (ranks == 0) return;
  CHECK(ranks_.bytes() >= static_cast<size_t>(ranks) * static_cast<size_t>(tokens) * sizeof(float), ranks, tokens);
  size_t count = 0;
  float* made = ranks_.as<float>();
  for (const FactorArgs& factor : factors) {
    if (factor.right.rows == 0) continue;
    rights[count++] = {factor.right, made, ranks};
    made += paddedRank(factor.right.rows);
  }
  multiplyMode({rights.data(), count}, source, tokens, cols, mode);
  count = 0;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (factors[i].right.rows == 0) continue;
    const Target left{factors[i].left, targets[i].y, targets[i].yStride, nullptr, true};
    multiplyMode({&left, 1}, {rights[count++].y, ranks}, tokens, left.w.cols, mode);
  }
}

void Products::multiplyMode(std::span<const Target> targets, const Source& source, int tokens, int cols, ActivationMode mode) {
  if (tokens == 1 && multipliesRow(targets, cols, mode)) return multiplyRow(stream_, targets, source, cols, mode);
  std::array<Target, kMostTargets> own;
  size_t count = 0;
  const auto road = [&](const Target& t) { return roadOf(t.w, mode, tokens, library_.available(), preference_).road; };
  const auto sixteen = [&](const Target& t) { return road(t) == ProductRoad::library || road(t) == ProductRoad::decoded; };
  for (const Target& target : targets)
    if (!sixteen(target)) own[count++] = target;
  const std::span<const Target> group{own.data(), count};
  InputForms forms = InputForms::of(group, mode, tokens);
  if (count < targets.size()) (library_.available() ? forms.halves : forms.fragments) = true;
  const Input input = prepare(stream_, source, tokens, cols, mode, forms, scratch_.as<void>());
  if (count > 0) cuda::multiply(stream_, group, input);
  for (const Target& target : targets) {
    if (road(target) == ProductRoad::decoded) multiplyDecoded(target, input);
    if (road(target) == ProductRoad::library) multiply16(target, input);
  }
}

void Products::makeTwin(const Matrix& matrix, int tokens, Activations activations, const std::function<int64_t()>& room) {
  if (matrix.format.sparse) return;  // expanded each time
  const ProductRoad road = roadFor({matrix.format, matrix.rows, matrix.cols}, activations, tokens);
  if (road == ProductRoad::decoded) twins_.make(matrix, size_t{2} * static_cast<size_t>(matrix.rows) * static_cast<size_t>(matrix.cols), room);
  if (road == ProductRoad::fp8) twins_.make(matrix, fp8Bytes(matrix.rows, matrix.cols), room);
}

void Products::reserveSlice(size_t bytes) {
  if (slice_.bytes() >= bytes) return;
  slice_ = DeviceBuffer();
  slice_ = DeviceBuffer(ledger_, MemoryTag::activations, bytes);
}

void Products::multiplyDecoded(const Target& target, const Input& input) {
  const int rows = target.w.rows, cols = target.w.cols;
  const int slice = static_cast<int>(std::clamp<int64_t>(sliceBytes_ / (2 * int64_t{cols}) / 128 * 128, 128, (rows + 127) / 128 * 128));
  reserveSlice(size_t{2} * static_cast<size_t>(slice) * static_cast<size_t>(cols));
  const Twins::Held twin = twins_.hold(target.w.data);
  for (int first = 0; first < rows; first += slice) {
    uint16_t* const halves = twin.values() ? twin.as<uint16_t>() + int64_t{first} * cols : slice_.as<uint16_t>();
    Target part = target;
    part.w = {kHalves, std::min(slice, rows - first), cols, halves};
    part.y += first;
    if (part.bias) part.bias += first;
    if (!twin.decoded()) decodeToHalves(stream_, target.w, first, part.w.rows, halves);
    multiply16(part, input);
  }
  twin.wasDecoded();
}

// The scratch holds the codes of x, their scales, and of as many rows of weights as fit the sums. It was made for forms of ten bytes a value, so
// these are all rows wherever a matrix has no more of them than the widest has columns.
void Products::multiplyFp8(std::span<const Target> targets, const Source& source, int tokens, int cols) {
  const auto aligned = [](size_t bytes) { return (bytes + 255) / 256 * 256; };
  const auto n = static_cast<size_t>(tokens), k = static_cast<size_t>(cols);
  const size_t before = aligned(n * k) + aligned(n * sizeof(float));
  auto* const codes = scratch_.as<uint8_t>();
  auto* const scales = reinterpret_cast<float*>(codes + aligned(n * k));
  auto* const sums = reinterpret_cast<float*>(codes + before);
  CHECK(scratch_.bytes() >= before + n * kFp8Multiple * sizeof(float), scratch_.bytes(), tokens, cols);
  const auto room = static_cast<int64_t>((scratch_.bytes() - before) / (n * sizeof(float)));
  encodeInput(stream_, source, tokens, cols, codes, scales);
  for (const Target& target : targets) {
    const int rows = target.w.rows;
    const Twins::Held twin = twins_.hold(target.w.data);
    const int64_t most = twin.values() ? room : std::min<int64_t>(room, sliceBytes_ / (cols + 4));
    const int slice = std::min(static_cast<int>(std::clamp<int64_t>(most / kFp8Multiple * kFp8Multiple, kFp8Multiple, rows)), rows);
    if (!twin.values()) reserveSlice(fp8Bytes(slice, cols));
    uint8_t* const held = twin.values() ? twin.as<uint8_t>() : slice_.as<uint8_t>();
    auto* const heldScales = reinterpret_cast<float*>(held + (twin.values() ? int64_t{rows} : int64_t{slice}) * cols);
    for (int first = 0; first < rows; first += slice) {
      const int count = std::min(slice, rows - first), at = twin.values() ? first : 0;
      uint8_t* const w = held + int64_t{at} * cols;
      if (!twin.decoded()) encodeWeights(stream_, target.w, first, count, w, heldScales + at);
      library_.multiply(stream_, {.fp8 = true, .w = w, .x = codes, .rows = count, .cols = cols, .tokens = tokens, .y = sums, .yStride = count});
      scaleSums(stream_, {sums, scales, heldScales + at, target.bias ? target.bias + first : nullptr, tokens, count, target.y + first, target.yStride, target.accumulate});
    }
    twin.wasDecoded();
  }
}

void Products::multiply16(const Target& target, const Input& input) {
  if (!library_.available()) return cuda::multiply(stream_, {&target, 1}, input);
  library_.multiply(stream_, {target.w.format.storage, false, target.w.data, input.halves, target.w.rows, target.w.cols, input.tokens, target.y,
                              target.yStride, target.accumulate});
  if (target.bias) addBiasRows(stream_, target.y, target.yStride, target.bias, input.tokens, target.w.rows);
}

std::string Cublas::whyNoFp8() const {
  if (!available()) return "products of FP8 are cuBLASLt's: " + reason_ + ".";
  int device = 0, major = 0, minor = 0;
  throwIfFailed(cudaGetDevice(&device), "device");
  throwIfFailed(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "device");
  throwIfFailed(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "device");
  if (10 * major + minor >= 89) return {};
  return "this GPU has compute capability " + std::to_string(major) + "." + std::to_string(minor) + ", and products of FP8 need 8.9 or newer.";
}

}  // namespace winnow::cuda
