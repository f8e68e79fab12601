// SPDX-License-Identifier: GPL-3.0-or-later
// Prepares inputs and routes targets: those of one storage (number of bits, coding) share a launch.
#include <algorithm>
#include <array>
#include <utility>

#include "engine/cuda/gemm.h"
#include "engine/cuda/multiply_packed.h"
#include "engine/cuda/multiply_plain.cuh"
#include "engine/cuda/prepare.cuh"

namespace winnow::cuda {
namespace {

size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }
size_t pieceBytes(ActivationMode mode, int tokens, int cols) {
  return aligned(size_t{4} * static_cast<size_t>(pieceWords(mode)) * static_cast<size_t>(WeightFormat::chunks(cols)) *
                 static_cast<size_t>(tokens));
}
size_t roundedBytes(ActivationMode mode, int tokens, int cols) {
  return mode == ActivationMode::int8 ? 0 : aligned(size_t{4} * static_cast<size_t>(tokens) * static_cast<size_t>(cols));
}
size_t halfBytes(ActivationMode mode, int tokens, int cols) {
  const bool sixteen = mode == ActivationMode::f16 || mode == ActivationMode::bf16;
  return sixteen && tokens > kMostTokens ? aligned(size_t{2} * static_cast<size_t>(tokens) * static_cast<size_t>(cols)) : 0;
}
size_t chunkBytes(int tokens, int cols) {
  return aligned(size_t{4} * static_cast<size_t>(WeightFormat::chunks(cols)) * static_cast<size_t>(tokens));
}

PlainJob plainJob(const Target& target) {
  PlainJob job;
  if (target.w.format.storage == Storage::f32)
    job.f32 = static_cast<const float*>(target.w.data);
  else
    job.half = static_cast<const uint16_t*>(target.w.data);
  job.bias = target.bias;
  job.y = target.y;
  job.yStride = target.yStride;
  job.rows = target.w.rows;
  job.blocks = (target.w.rows + kPlainRows - 1) / kPlainRows;
  job.accumulate = target.accumulate;
  return job;
}

template <Storage storage, int T>
void launchPlain(Stream stream, const PlainJobs& jobs, unsigned blocks, int tokens, bool vector) {
  const Grid grid{dim3(blocks), dim3(kPlainWarps * 32)};
  if (vector)
    launch("multiplyPlain", stream, grid, multiplyPlainRows<storage, T, true>, jobs, tokens);
  else
    launch("multiplyPlain", stream, grid, multiplyPlainRows<storage, T, false>, jobs, tokens);
}
template <Storage storage>
void launchPlain(Stream stream, const PlainJobs& jobs, unsigned blocks, int tokens, bool vector) {
  if (tokens == 1) return launchPlain<storage, 1>(stream, jobs, blocks, tokens, vector);
  if (tokens <= 4) return launchPlain<storage, 4>(stream, jobs, blocks, tokens, vector);
  launchPlain<storage, 8>(stream, jobs, blocks, tokens, vector);
}

template <Storage storage>
void launchPlainRow(Stream stream, const PlainJobs& jobs, unsigned blocks, const RowSource& row, bool vector) {
  const auto kernel = vector ? multiplyPlainOneRow<storage, true> : multiplyPlainOneRow<storage, false>;
  launchOneRow("multiplyPlainRow", stream, blocksFor(blocks, row.perBlock), kPlainWarps * 32, static_cast<size_t>(jobs.cols) * sizeof(float), kernel, jobs, row,
               static_cast<int>(blocks));
}

struct PlainTargets {
  PlainJobs jobs;
  unsigned blocks = 0;
  bool vector = false;  // rows of weights begin at 16 bytes
};
PlainTargets plainTargets(std::span<const Target> targets, int cols) {
  PlainTargets all;
  all.jobs.cols = cols;
  all.vector = cols % (targets[0].w.format.storage == Storage::f32 ? 4 : 8) == 0;
  for (size_t i = 0; i < targets.size(); ++i) {
    all.jobs.job[i] = plainJob(targets[i]);
    all.blocks += static_cast<unsigned>(all.jobs.job[i].blocks);
    all.vector = all.vector && reinterpret_cast<uintptr_t>(targets[i].w.data) % 16 == 0;
  }
  return all;
}

void multiplyPlain(Stream stream, std::span<const Target> targets, const Input& input) {
  PlainTargets all = plainTargets(targets, input.cols);
  all.jobs.x = input.x;
  all.jobs.xStride = input.stride;
  const bool vector = all.vector && input.stride % 4 == 0 && reinterpret_cast<uintptr_t>(input.x) % 16 == 0;
  switch (targets[0].w.format.storage) {
    case Storage::f32: return launchPlain<Storage::f32>(stream, all.jobs, all.blocks, input.tokens, vector);
    case Storage::f16: return launchPlain<Storage::f16>(stream, all.jobs, all.blocks, input.tokens, vector);
    default: return launchPlain<Storage::bf16>(stream, all.jobs, all.blocks, input.tokens, vector);
  }
}

void multiplyPlainRow(Stream stream, std::span<const Target> targets, const RowSource& source) {
  const PlainTargets all = plainTargets(targets, source.made.cols);
  RowSource row = source;
  row.perBlock = static_cast<int>(blocksFor(all.blocks, 2 * kRowBlocks));  // of half as many threads as the packed ones'
  switch (targets[0].w.format.storage) {
    case Storage::f32: return launchPlainRow<Storage::f32>(stream, all.jobs, all.blocks, row, all.vector);
    case Storage::f16: return launchPlainRow<Storage::f16>(stream, all.jobs, all.blocks, row, all.vector);
    default: return launchPlainRow<Storage::bf16>(stream, all.jobs, all.blocks, row, all.vector);
  }
}

bool together(const Target& a, const Target& b) {
  const WeightFormat &f = a.w.format, &g = b.w.format;
  return f.storage == g.storage && f.bits == g.bits && codingOf(f) == codingOf(g);
}

// body(targets) for those that share a launch.
template <class Body>
void eachGroup(std::span<const Target> targets, int cols, Body body) {
  CHECK(!targets.empty() && targets.size() <= kMostTargets, targets.size());
  std::array<bool, kMostTargets> done{};
  for (size_t i = 0; i < targets.size(); ++i) {
    if (done[i]) continue;
    std::array<Target, kMostTargets> same;
    size_t count = 0;
    for (size_t j = i; j < targets.size(); ++j) {
      if (done[j] || !together(targets[i], targets[j])) continue;
      CHECK(targets[j].w.cols == cols, targets[j].w.cols, cols);
      same[count++] = targets[j];
      done[j] = true;
    }
    body(std::span<const Target>(same.data(), count));
  }
}
bool isPacked(const Target& target) { return target.w.format.storage == Storage::packed; }

// Where the forms lie in the scratch: rounded rows, pieces, what goes with them, halves.
Input layOut(const Source& source, int tokens, int cols, ActivationMode mode, InputForms forms, void* scratch) {
  auto* at = static_cast<char*>(scratch);
  const auto take = [&at](size_t bytes) { return std::exchange(at, at + bytes); };
  const auto* rounded = reinterpret_cast<float*>(take(roundedBytes(mode, tokens, cols)));
  const auto* pieces = reinterpret_cast<uint32_t*>(take(pieceBytes(mode, tokens, cols)));
  const auto* scales = reinterpret_cast<float*>(take(chunkBytes(tokens, cols)));
  const auto* sums = reinterpret_cast<int32_t*>(take(chunkBytes(tokens, cols)));
  const auto* totals = reinterpret_cast<float*>(take(chunkBytes(tokens, cols)));
  Input in{mode, tokens, cols, source.x, source.stride};
  if (forms.plain) in.x = rounded, in.stride = cols;
  if (forms.fragments) in.pieces = pieces, in.scales = scales, in.sums = sums, in.totals = totals;
  if (forms.halves) in.halves = reinterpret_cast<uint16_t*>(at);
  return in;
}

PrepareJob prepareJob(const Source& source, const Input& in, InputForms forms) {
  PrepareJob job = jobOf(source, in.tokens, in.cols);
  job.mode = in.mode;
  job.chunks = WeightFormat::chunks(in.cols);
  if (forms.plain) job.rounded = const_cast<float*>(in.x);
  job.pieces = const_cast<uint32_t*>(in.pieces);
  job.scales = const_cast<float*>(in.scales);
  job.sums = const_cast<int32_t*>(in.sums);
  job.totals = const_cast<float*>(in.totals);
  job.halves = const_cast<uint16_t*>(in.halves);
  return job;
}

}  // namespace

size_t InputForms::bytes(ActivationMode mode, int tokens, int cols) {
  return roundedBytes(mode, tokens, cols) + pieceBytes(mode, tokens, cols) + 3 * chunkBytes(tokens, cols) + halfBytes(mode, tokens, cols);
}

InputForms InputForms::of(std::span<const Target> targets, ActivationMode mode, int tokens) {
  InputForms forms;
  for (const Target& target : targets) {
    const WeightFormat& format = target.w.format;
    const bool fragments = tokens > kMostTokens ? gemmOfFragments(format, target.w.cols, mode) : format.storage == Storage::packed;
    (fragments ? forms.fragments : forms.plain) = true;
  }
  return forms;
}

Input prepare(Stream stream, const Source& source, int tokens, int cols, ActivationMode mode, InputForms forms, void* scratch) {
  CHECK(tokens > 0, tokens);
  CHECK(!(forms.plain && mode == ActivationMode::int8));
  CHECK(!(forms.fragments && mode == ActivationMode::bf16 && tokens <= kMostTokens));
  CHECK(!forms.halves || halfBytes(mode, tokens, cols) > 0, tokens);
  if (source.kind == Source::Kind::rows && mode == ActivationMode::f32) forms.plain = false;  // they are as they should be
  const Input in = layOut(source, tokens, cols, mode, forms, scratch);
  if (!forms.plain && !forms.fragments && !forms.halves) return in;
  const PrepareJob job = prepareJob(source, in, forms);
  // Few rows are cut into blocks, so that they pass by at once; a row's norm is the same in each.
  const Grid grid{dim3(tokens < 64 ? blocksFor(job.chunks, kRowWarps) : 1u, static_cast<unsigned>(tokens)), dim3(kRowThreads)};
  switch (source.kind) {
    case Source::Kind::rows: launch("prepare", stream, grid, prepareRows<Source::Kind::rows>, job); break;
    case Source::Kind::rms: launch("prepareNorm", stream, grid, prepareRows<Source::Kind::rms>, job); break;
    case Source::Kind::layer: launch("prepareNorm", stream, grid, prepareRows<Source::Kind::layer>, job); break;
    case Source::Kind::activated: launch("prepareActivated", stream, grid, prepareRows<Source::Kind::activated>, job); break;
  }
  return in;
}

void multiply(Stream stream, std::span<const Target> targets, const Input& input) {
  eachGroup(targets, input.cols, [&](std::span<const Target> group) {
    (input.tokens > kMostTokens ? gemm : isPacked(group[0]) ? multiplyPacked : multiplyPlain)(stream, group, input);
  });
}

bool multipliesRow(std::span<const Target> targets, int cols, ActivationMode mode) {
  return std::all_of(targets.begin(), targets.end(), [&](const Target& target) {
    return (isPacked(target) ? fragmentBytes(mode, WeightFormat::chunks(cols)) : static_cast<size_t>(cols) * sizeof(float)) <= kMostRowBytes;
  });
}

void multiplyRow(Stream stream, std::span<const Target> targets, const Source& source, int cols, ActivationMode mode) {
  CHECK(multipliesRow(targets, cols, mode), cols);
  const RowSource row{prepareJob(source, Input{mode, 1, cols}, {}), source.kind};
  eachGroup(targets, cols, [&](std::span<const Target> group) {
    CHECK(mode != (isPacked(group[0]) ? ActivationMode::bf16 : ActivationMode::int8));
    (isPacked(group[0]) ? multiplyPackedRow : multiplyPlainRow)(stream, group, row);
  });
}

}  // namespace winnow::cuda
