// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cpu/sparse.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "engine/core/check.h"
#include "engine/cpu/context.h"

namespace winnow::cpu {
namespace {

constexpr size_t kMostTargets = 3;
constexpr int kUnit = ChannelMajor::kUnit;

// x as the products of a mode see it, in f32, zero to a multiple of the unit.
void roundAs(Context::Impl& impl, ActivationMode mode, const float* x, int cols, float* out) {
  const int padded = (cols + kUnit - 1) / kUnit * kUnit;
  std::fill(out + cols / 32 * 32, out + padded, 0.0f);
  if (mode != ActivationMode::int8) return impl.kernels.roundRow(mode == ActivationMode::f16 ? 1 : mode == ActivationMode::bf16 ? 2 : 0, x, cols, 32, out);
  const size_t chunks = static_cast<size_t>(padded / 32);
  int8_t* integers = impl.int8.need<int8_t>(chunks * 32);
  float* scales = impl.rowScales.need<float>(chunks);
  impl.kernels.quantizeRow(x, cols, 32, integers, scales, impl.rowSums.need<int32_t>(chunks));
  for (int c = 0; c < cols; ++c) out[c] = static_cast<float>(integers[c]) * scales[c / 32];
}

ChannelJob jobOf(const ChannelMajor& channels, std::span<const int32_t> list, const float* x) {
  ChannelJob job;
  job.data = channels.data.data();
  job.stride = channels.stride;
  job.list = list.data();
  job.count = static_cast<int>(list.size());
  job.x = x;
  job.length = channels.padded();
  job.group = channels.group;
  job.scaleStride = channels.scaleStride;
  job.table = channels.table.data();
  job.offset = channels.offset;
  if (channels.group == 0) return job;
  if (channels.wideScales) {
    job.scales = channels.scales.as<float>();
    if (channels.asymmetric) job.mins = channels.mins.as<float>();
  } else {
    job.halfScales = channels.scales.as<uint16_t>();
    if (channels.asymmetric) job.halfMins = channels.mins.as<uint16_t>();
  }
  return job;
}

void packedRows(Context& context, const SparseTarget& target, std::span<const int32_t> rows, const float* x) {
  Context::Impl& impl = context.impl();
  const ChannelMajor& channels = *target.channels;
  CHECK(!channels.columns && channels.group > 0);
  float* rounded = impl.channelInputs.need<float>(static_cast<size_t>(channels.padded()));
  roundAs(impl, target.mode, x, channels.length, rounded);
  ChannelJob job = jobOf(channels, rows, rounded);
  if (channels.asymmetric) {
    const int groups = static_cast<int>(channels.scaleStride);
    float* sums = impl.channelSums.need<float>(static_cast<size_t>(groups));
    for (int g = 0; g < groups; ++g) {
      sums[g] = 0;
      for (int c = g * channels.group; c < std::min((g + 1) * channels.group, channels.length); ++c) sums[g] += rounded[c];
    }
    job.xSums = sums;
  }
  const ChannelKernel kernel = impl.channels.rows[static_cast<size_t>(channels.code)];
  CHECK(kernel, static_cast<int>(channels.code));
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(static_cast<int64_t>(rows.size()), 1, thread, threads);
    kernel(job, static_cast<int>(range.begin), static_cast<int>(range.end), target.y);
    if (!target.bias) return;
    for (int64_t i = range.begin; i < range.end; ++i) target.y[rows[static_cast<size_t>(i)]] += target.bias[rows[static_cast<size_t>(i)]];
  });
}

}  // namespace

void multiplyColumns(Context& context, std::span<const SparseTarget> targets, std::span<const int32_t> columns, const float* x) {
  CHECK(!targets.empty() && targets.size() <= kMostTargets, targets.size());
  Context::Impl& impl = context.impl();
  const int cols = targets[0].w->cols, padded = (cols + kUnit - 1) / kUnit * kUnit;
  std::array<ChannelJob, kMostTargets> jobs;
  float* inputs = impl.channelInputs.need<float>(static_cast<size_t>(padded) + kMostTargets * columns.size());
  size_t totals = 0;
  for (const SparseTarget& target : targets) totals += static_cast<size_t>(target.channels->padded());
  float* total = impl.channelTotals.need<float>(totals);
  for (size_t i = 0; i < targets.size(); ++i) {
    CHECK(targets[i].channels->columns && targets[i].channels->count == cols, cols);
    float* mine = inputs + padded + static_cast<int64_t>(i * columns.size());
    if (i > 0 && targets[i].mode == targets[i - 1].mode) {
      jobs[i] = jobOf(*targets[i].channels, columns, jobs[i - 1].x);
      continue;
    }
    roundAs(impl, targets[i].mode, x, cols, inputs);
    for (size_t c = 0; c < columns.size(); ++c) mine[c] = inputs[columns[c]];
    jobs[i] = jobOf(*targets[i].channels, columns, mine);
  }
  context.pool().run([&](int thread, int threads) {
    float* sums = total;
    for (size_t i = 0; i < targets.size(); ++i) {
      const SparseTarget& target = targets[i];
      const auto range = ThreadPool::split(target.channels->padded(), kUnit, thread, threads);
      if (range.begin < range.end) impl.channels.columns[static_cast<size_t>(target.channels->code)](jobs[i], static_cast<int>(range.begin), static_cast<int>(range.end), sums);
      for (int64_t r = range.begin; r < std::min<int64_t>(range.end, target.w->rows); ++r) {
        const float sum = target.bias ? sums[r] + target.bias[r] : sums[r];
        target.y[r] = target.accumulate ? sum + target.y[r] : sum;
      }
      sums += target.channels->padded();
    }
  });
}

void multiplyRows(Context& context, std::span<const SparseTarget> targets, std::span<const int32_t> rows, const float* x) {
  CHECK(targets.size() <= kMostTargets, targets.size());
  std::array<bool, kMostTargets> done{};
  for (size_t i = 0; i < targets.size(); ++i) {
    if (targets[i].channels) {
      packedRows(context, targets[i], rows, x);
      continue;
    }
    if (done[i]) continue;
    std::array<MatmulTarget, kMostTargets> same;
    size_t count = 0;
    for (size_t j = i; j < targets.size(); ++j) {
      if (targets[j].channels || targets[j].mode != targets[i].mode) continue;
      same[count++] = {targets[j].w, targets[j].y, targets[j].w->rows, targets[j].bias, false};
      done[j] = true;
    }
    matmulRows(context, {same.data(), count}, rows, x, targets[i].mode);
  }
}

void keepAbove(float* x, int count, float threshold, std::vector<int32_t>& kept) {
  kept.resize(static_cast<size_t>(count));
  size_t n = 0;
  for (int i = 0; i < count; ++i) {
    kept[n] = i;
    const bool above = !(std::fabs(x[i]) <= threshold);  // what is no number stays, and is found in the logits
    n += above;
    x[i] = above ? x[i] : 0.0f;
  }
  kept.resize(n);
}

}  // namespace winnow::cpu
