// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/sparse.cuh"

#include <algorithm>
#include <array>
#include <bit>

#include "engine/cuda/sparse.h"

namespace winnow::cuda {
namespace {

constexpr int kMostKeepBlocks = 64;

ChannelKind kindOf(const ChannelMajor& channels, const MatrixArgs& w) {
  switch (channels.code) {
    case ChannelMajor::Code::f32: return ChannelKind::f32;
    case ChannelMajor::Code::f16: return ChannelKind::f16;
    case ChannelMajor::Code::bf16: return ChannelKind::bf16;
    case ChannelMajor::Code::bytes: return ChannelKind::integers8;
    case ChannelMajor::Code::nibbles: break;
  }
  return w.format.code == Code::integer ? ChannelKind::integers4 : ChannelKind::table4;
}
ChannelKind kindOf(const MatrixArgs& plain) {
  return plain.format.storage == Storage::f32 ? ChannelKind::f32 : plain.format.storage == Storage::f16 ? ChannelKind::f16 : ChannelKind::bf16;
}
ChannelKind kindOf(const ChannelTarget& target) { return target.channels ? kindOf(*target.channels, target.w) : kindOf(target.w); }

int64_t bytesOfValue(ChannelKind kind) { return kind == ChannelKind::f16 || kind == ChannelKind::bf16 ? 2 : 4; }  // or of a word of several

void pointAt(ChannelView& view, const void* data, ChannelKind kind) {
  if (kind == ChannelKind::f32)
    view.f32 = static_cast<const float*>(data);
  else if (bytesOfValue(kind) == 2)
    view.half = static_cast<const uint16_t*>(data);
  else
    view.words = static_cast<const uint32_t*>(data);
}

// Rows as they lie in a plain matrix.
ChannelView plainRows(const MatrixArgs& w, ChannelKind kind) {
  CHECK(w.format.storage != Storage::packed, "rows of packed matrices do not lie in one piece");
  ChannelView view;
  pointAt(view, w.data, kind);
  view.stride = w.cols;
  view.length = view.padded = w.cols;
  view.vector = w.cols % 8 == 0 && reinterpret_cast<uintptr_t>(w.data) % 16 == 0;
  return view;
}

ChannelView viewOf(const ChannelMajor& channels, ChannelKind kind) {
  ChannelView view;
  pointAt(view, channels.data.data(), kind);
  view.stride = channels.stride / bytesOfValue(kind);
  view.length = channels.length;
  view.padded = channels.padded();
  view.grouped = channels.group > 0;
  view.offset = channels.offset;
  std::copy(channels.table.begin(), channels.table.end(), view.table);
  if (kind == ChannelKind::integers4) view.offset = -channels.table[0];
  if (!view.grouped) return view;
  const auto group = static_cast<unsigned>(channels.group);
  const bool one = channels.group >= (channels.columns ? channels.count : channels.length);
  CHECK(one || std::has_single_bit(group), channels.group);
  view.groupShift = one ? 30 : std::countr_zero(group);
  view.scaleStride = channels.scaleStride;
  view.adds = channels.asymmetric;
  if (channels.wideScales) {
    view.wideScales = channels.scales.as<float>();
    view.wideMins = channels.mins.as<float>();
  } else {
    view.halfScales = channels.scales.as<uint16_t>();
    view.halfMins = channels.mins.as<uint16_t>();
  }
  return view;
}
ChannelView viewOf(const ChannelTarget& target, ChannelKind kind) { return target.channels ? viewOf(*target.channels, kind) : plainRows(target.w, kind); }

// body(kind, targets) for those that share a launch.
template <class Body>
void eachKind(std::span<const ChannelTarget> targets, Body body) {
  CHECK(!targets.empty() && targets.size() <= kMostTargets, targets.size());
  std::array<bool, kMostTargets> done{};
  for (size_t i = 0; i < targets.size(); ++i) {
    if (done[i]) continue;
    std::array<ChannelTarget, kMostTargets> same;
    size_t count = 0;
    for (size_t j = i; j < targets.size(); ++j) {
      if (done[j] || kindOf(targets[j]) != kindOf(targets[i])) continue;
      same[count++] = targets[j];
      done[j] = true;
    }
    body(kindOf(targets[i]), std::span<const ChannelTarget>(same.data(), count));
  }
}

template <class... Jobs>
using Kernel = void (*)(Jobs...);

Kernel<const ColumnJobs> columnsOf(ChannelKind kind) {
  switch (kind) {
    case ChannelKind::f32: return multiplyKeptColumns<ChannelKind::f32>;
    case ChannelKind::f16: return multiplyKeptColumns<ChannelKind::f16>;
    case ChannelKind::bf16: return multiplyKeptColumns<ChannelKind::bf16>;
    case ChannelKind::integers4: return multiplyKeptColumns<ChannelKind::integers4>;
    case ChannelKind::table4: return multiplyKeptColumns<ChannelKind::table4>;
    case ChannelKind::integers8: break;
  }
  return multiplyKeptColumns<ChannelKind::integers8>;
}
Kernel<const RowJobs> rowsOf(ChannelKind kind) {
  switch (kind) {
    case ChannelKind::f32: return multiplyListedRows<ChannelKind::f32>;
    case ChannelKind::f16: return multiplyListedRows<ChannelKind::f16>;
    case ChannelKind::bf16: return multiplyListedRows<ChannelKind::bf16>;
    case ChannelKind::integers4: return multiplyListedRows<ChannelKind::integers4>;
    case ChannelKind::table4: return multiplyListedRows<ChannelKind::table4>;
    case ChannelKind::integers8: break;
  }
  return multiplyListedRows<ChannelKind::integers8>;
}

// Enough blocks to fill a device, as many for every device, so that sums have one order.
constexpr int kColumnBlocks = 512, kMostSplits = 64;
int splitsOf(int parts, int cols) { return std::clamp((kColumnBlocks + parts - 1) / parts, 1, std::clamp(cols / 64, 1, kMostSplits)); }

}  // namespace

int columnParts(int rows) { return (rows + kColumnRows - 1) / kColumnRows; }

size_t columnScratchFloats(int parts) { return static_cast<size_t>(kColumnBlocks + parts) * kColumnRows; }

void keepRow(Stream stream, const KeepArgs& args) {
  KeepJob job;
  job.made = jobOf(args.source, 1, args.cols);
  job.made.mode = args.mode;
  job.made.chunks = WeightFormat::chunks(args.cols);
  job.within = args.within;
  job.masked = args.kept.masked;
  job.rounded = args.kept.rounded;
  job.values = args.kept.values;
  job.masks = args.kept.masks;
  job.list = args.kept.list;
  job.count = args.kept.count;
  job.ticket = args.ticket;
  job.threshold = args.threshold;
  job.padded = (args.cols + kChannelUnit - 1) / kChannelUnit * kChannelUnit;
  const Grid grid{dim3(std::min(blocksFor(job.padded / 32, kRowWarps), static_cast<unsigned>(kMostKeepBlocks))), dim3(kRowThreads)};
  switch (args.source.kind) {
    case Source::Kind::rows: return launch("keep", stream, grid, keepEntries<Source::Kind::rows>, job);
    case Source::Kind::rms: return launch("keepNorm", stream, grid, keepEntries<Source::Kind::rms>, job);
    case Source::Kind::layer: return launch("keepNorm", stream, grid, keepEntries<Source::Kind::layer>, job);
    case Source::Kind::activated: return launch("keepActivated", stream, grid, keepEntries<Source::Kind::activated>, job);
  }
}

void multiplyColumns(Stream stream, std::span<const ChannelTarget> targets, const KeptRow& x, int cols, const ColumnScratch& scratch) {
  eachKind(targets, [&](ChannelKind kind, std::span<const ChannelTarget> group) {
    ColumnJobs jobs;
    int parts = 0;
    for (size_t i = 0; i < group.size(); ++i) {
      const ChannelTarget& target = group[i];
      CHECK(target.channels && target.channels->columns && target.channels->count == cols, cols);
      jobs.job[i].view = viewOf(target, kind);
      jobs.job[i].bias = target.bias;
      jobs.job[i].y = target.y;
      jobs.job[i].rows = target.channels->length;
      jobs.job[i].parts = columnParts(target.channels->length);
      jobs.job[i].accumulate = target.accumulate;
      parts += jobs.job[i].parts;
    }
    jobs.list = x.list;
    jobs.count = x.count;
    jobs.values = x.values;
    jobs.partial = scratch.partial;
    jobs.tickets = scratch.tickets;
    const Grid grid{dim3(static_cast<unsigned>(parts), static_cast<unsigned>(splitsOf(parts, cols))), dim3(kColumnWarps * 32)};
    launch("multiplyColumns", stream, grid, columnsOf(kind), jobs);
  });
}

void multiplyRows(Stream stream, std::span<const ChannelTarget> targets, const int32_t* list, const int32_t* count, int most, const float* rounded) {
  eachKind(targets, [&](ChannelKind kind, std::span<const ChannelTarget> group) {
    RowJobs jobs;
    for (size_t i = 0; i < group.size(); ++i) {
      CHECK(!group[i].channels || !group[i].channels->columns);
      CHECK(!group[i].accumulate);
      jobs.job[i].view = viewOf(group[i], kind);
      jobs.job[i].bias = group[i].bias;
      jobs.job[i].y = group[i].y;
    }
    jobs.list = list;
    jobs.count = count;
    jobs.x = rounded;
    const Grid grid{dim3(blocksFor(most, kRowWarpsOfChannels * kRowsAtOnce), static_cast<unsigned>(group.size())), dim3(kRowWarpsOfChannels * 32)};
    launch("multiplyListedRows", stream, grid, rowsOf(kind), jobs);
  });
}

void sumSquares(Stream stream, const Source& source, int tokens, int cols, bool unit, float* weights, float* out) {
  CHECK(source.kind == Source::Kind::rows || source.kind == Source::Kind::activated);
  SquareJob job;
  job.made = jobOf(source, tokens, cols);
  if (unit) job.weights = weights;
  job.out = out;
  const bool rows = source.kind == Source::Kind::rows;
  const Grid perToken{dim3(static_cast<unsigned>(tokens)), dim3(kRowThreads)}, perNeuron{dim3(blocksFor(cols, kRowThreads)), dim3(kRowThreads)};
  if (unit) launch("unitWeights", stream, perToken, rows ? unitWeights<Source::Kind::rows> : unitWeights<Source::Kind::activated>, job);
  launch("addSquares", stream, perNeuron, rows ? addSquares<Source::Kind::rows> : addSquares<Source::Kind::activated>, job);
}

}  // namespace winnow::cuda
