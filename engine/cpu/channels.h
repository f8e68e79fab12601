// SPDX-License-Identifier: GPL-3.0-or-later
// Products with some of the channels of a matrix (engine/weights/channel_major.h): sums of columns, and single rows. Lanes lie along the channel; the order of
// each sum follows from the list alone.
#pragma once
#include "engine/cpu/channel_kernels.h"
#include "engine/cpu/simd.h"

namespace winnow::cpu {
namespace {

enum ChannelCode { kChannelF32, kChannelF16, kChannelBf16, kNibbles, kBytes };
constexpr int kChannelUnit = 128;
constexpr int unitBytes(int code) { return code == kChannelF32 ? 512 : code == kNibbles ? 64 : code == kBytes ? 128 : 256; }

// What codes stand for, without the scale.
template <int Code>
struct ChannelValues {
  explicit ChannelValues(const ChannelJob&) {}
  // w[k]: values 16 k + part kLanes and on of a unit.
  INLINE void read(const char* unit, int part, Vf (&w)[8]) const {
    UNROLL for (int k = 0; k < 8; ++k) {
      const int at = 16 * k + part * kLanes;
      if constexpr (Code == kChannelF32) w[k] = load(reinterpret_cast<const float*>(unit) + at);
      if constexpr (Code == kChannelF16) w[k] = loadHalf(reinterpret_cast<const uint16_t*>(unit) + at);
      if constexpr (Code == kChannelBf16) w[k] = loadBf16(reinterpret_cast<const uint16_t*>(unit) + at);
    }
  }
};
template <>
struct ChannelValues<kNibbles> {
  ValueTable table;
  explicit ChannelValues(const ChannelJob& job) : table(loadValues(job.table)) {}
  INLINE void read(const char* unit, int part, Vf (&w)[8]) const {
    const Vi d = loadInt(unit + part * kLanes * 4);
    w[0] = pick(table, d), w[1] = pick(table, shr<4>(d)), w[2] = pick(table, shr<8>(d)), w[3] = pick(table, shr<12>(d));
    w[4] = pick(table, shr<16>(d)), w[5] = pick(table, shr<20>(d)), w[6] = pick(table, shr<24>(d)), w[7] = pick(table, shr<28>(d));
  }
};
template <>
struct ChannelValues<kBytes> {
  Vf minus;
  explicit ChannelValues(const ChannelJob& job) : minus(set1(8388608.0f + job.offset)) {}
  INLINE void read(const char* unit, int part, Vf (&w)[8]) const {
    const Vi low = loadInt(unit + part * kLanes * 4), high = loadInt(unit + 64 + part * kLanes * 4);
    w[0] = byteToFloat<0>(low, minus), w[1] = byteToFloat<1>(low, minus), w[2] = byteToFloat<2>(low, minus), w[3] = byteToFloat<3>(low, minus);
    w[4] = byteToFloat<0>(high, minus), w[5] = byteToFloat<1>(high, minus), w[6] = byteToFloat<2>(high, minus), w[7] = byteToFloat<3>(high, minus);
  }
};

// Columns in batches that share a scale. While one batch passes, the lines of the next are asked for at the same pace: columns that are not neighbours
// are no stream that the processor would foresee.
template <int Code>
void channelColumns(const ChannelJob& job, int begin, int end, float* out) {
  constexpr int kBatch = 16;
  const int most = job.group > 0 ? kBatch : kBatch / 2;  // of plain columns, which are longer
  const ChannelValues<Code> values(job);
  const auto columnOf = [&](int i) { return static_cast<const char*>(job.data) + job.list[i] * job.stride + static_cast<int64_t>(begin) / kChannelUnit * unitBytes(Code); };
  memset(out + begin, 0, static_cast<size_t>(end - begin) * sizeof(float));
  const char *column[kBatch], *next[kBatch];
  for (int first = 0; first < job.count;) {
    const int group = job.group > 0 ? job.list[first] / job.group : 0;
    const int64_t last = job.group > 0 ? (group + int64_t{1}) * job.group : INT64_MAX;  // a column of the next group
    int n = 0, ahead = 0;
    float sum = 0;
    for (; n < most && first + n < job.count && job.list[first + n] < last; ++n) {
      column[n] = columnOf(first + n);
      sum += job.x[first + n];
    }
    for (; ahead < most && first + n + ahead < job.count; ++ahead) next[ahead] = columnOf(first + n + ahead);
    const float* x = job.x + first;
    const int64_t scaleAt = group * job.scaleStride;
    int64_t at = 0;
    for (int r = begin; r < end; r += kChannelUnit, at += unitBytes(Code)) {
      for (int i = 0; i < ahead; ++i) {
        for (int line = 0; line < unitBytes(Code); line += 64) __builtin_prefetch(next[i] + at + line);
      }
      UNROLL for (int part = 0; part < kParts; ++part) {
        Vf a[8], w[8];
        float* to = out + r + part * kLanes;
        UNROLL for (int k = 0; k < 8; ++k) a[k] = job.group > 0 ? set1(0) : load(to + 16 * k);
        for (int c = 0; c < n; ++c) {
          values.read(column[c] + at, part, w);
          const Vf xc = set1(x[c]);
          UNROLL for (int k = 0; k < 8; ++k) a[k] = fma(w[k], xc, a[k]);
        }
        if (job.group > 0) {
          const int64_t s = scaleAt + r + part * kLanes;
          UNROLL for (int k = 0; k < 8; ++k) {
            const Vf scale = job.scales ? load(job.scales + s + 16 * k) : loadHalf(job.halfScales + s + 16 * k);
            a[k] = fma(a[k], scale, load(to + 16 * k));
            if (job.mins || job.halfMins) a[k] = fma(job.mins ? load(job.mins + s + 16 * k) : loadHalf(job.halfMins + s + 16 * k), set1(sum), a[k]);
          }
        }
        UNROLL for (int k = 0; k < 8; ++k) store(to + 16 * k, a[k]);
      }
    }
    first += n;
  }
}

template <int Code>
void channelRows(const ChannelJob& job, int begin, int end, float* out) {
  const ChannelValues<Code> values(job);
  const int groups = static_cast<int>(job.scaleStride);
  for (int i = begin; i < end; ++i) {
    const char* channel = static_cast<const char*>(job.data) + job.list[i] * job.stride;
    const int64_t scaleAt = job.list[i] * job.scaleStride;
    const auto scaleOf = [&](int g) { return job.scales ? job.scales[scaleAt + g] : halfToFloat(job.halfScales[scaleAt + g]); };
    Vf sum[8];
    UNROLL for (int k = 0; k < 8; ++k) sum[k] = set1(0);
    const char* next = i + 1 < end ? static_cast<const char*>(job.data) + job.list[i + 1] * job.stride : channel;
    int group = 0, left = 0;  // values of the group at hand
    float one = 0;
    for (int v = 0; v < job.length; v += kChannelUnit, channel += unitBytes(Code), next += unitBytes(Code)) {
      for (int line = 0; line < unitBytes(Code); line += 64) __builtin_prefetch(next + line);
      float scale[8];
      UNROLL for (int k = 0; k < 8; ++k) {
        if (left <= 0 && group < groups) one = scaleOf(group++), left += job.group;
        scale[k] = one;
        left -= 16;
      }
      UNROLL for (int part = 0; part < kParts; ++part) {
        Vf w[8];
        values.read(channel, part, w);
        UNROLL for (int k = 0; k < 8; ++k) sum[k] = fma(mul(w[k], load(job.x + v + 16 * k + part * kLanes)), set1(scale[k]), sum[k]);
      }
    }
    float total = hsum(add(add(add(sum[0], sum[1]), add(sum[2], sum[3])), add(add(sum[4], sum[5]), add(sum[6], sum[7]))));
    if (job.mins || job.halfMins)
      for (int g = 0; g < groups; ++g)
        total += (job.mins ? job.mins[scaleAt + g] : halfToFloat(job.halfMins[scaleAt + g])) * job.xSums[g];
    out[job.list[i]] = total;
  }
}

constexpr ChannelKernels kChannelTable = {
    .columns = {channelColumns<kChannelF32>, channelColumns<kChannelF16>, channelColumns<kChannelBf16>, channelColumns<kNibbles>, channelColumns<kBytes>},
    .rows = {nullptr, channelRows<kChannelF16>, nullptr, channelRows<kNibbles>, channelRows<kBytes>},
};

}  // namespace
}  // namespace winnow::cpu
