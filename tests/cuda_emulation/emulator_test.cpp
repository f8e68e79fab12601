// SPDX-License-Identifier: GPL-3.0-or-later
// The emulation itself: what CUDA promises holds, and what it forbids is caught under every schedule.
#include "engine/cuda/ptx.cuh"
#include "tests/cuda_emulation/harness.h"

using namespace winnow::cuda;
using namespace winnow::test;

namespace {

constexpr int kThreads = 96;

__global__ void reverse(Pointer<const float> in, Pointer<float> out, int n, bool forgetBarrier) {
  __shared__ SharedArray<float, kThreads> tile;
  const int i = static_cast<int>(threadIdx.x), at = static_cast<int>(blockIdx.x) * kThreads;
  if (at + i < n) tile[i] = in[at + i];
  if (!forgetBarrier) __syncthreads();
  const int count = min(kThreads, n - at);
  if (i < count) out[at + i] = tile[count - 1 - i];
}

__global__ void reverseWarp(Pointer<const float> in, Pointer<float> out, bool forgetBarrier) {
  __shared__ SharedArray<float, 32> tile;
  const int i = static_cast<int>(threadIdx.x);
  tile[i] = in[i];
  if (!forgetBarrier) __syncwarp();
  out[i] = tile[31 - i];
}

__global__ void overwriteEarly(Pointer<const float> in, Pointer<float> out, bool forgetBarrier) {
  __shared__ SharedArray<float, 64> tile;
  const int i = static_cast<int>(threadIdx.x);
  float sum = 0;
  for (int round = 0; round < 2; ++round) {
    tile[i] = in[round * 64 + i];
    __syncthreads();
    sum += tile[63 - i];
    if (!forgetBarrier) __syncthreads();  // before the next round writes what others still read
  }
  out[i] = sum;
}

__global__ void copyShifted(Pointer<const float> in, Pointer<float> out, int n, int readShift, int writeShift) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) out[i + writeShift] = in[i + readShift];
}

__global__ void sharedIndex(Pointer<float> out, int index) {
  __shared__ SharedArray<float, 8> tile;
  tile[index] = 1;
  out[0] = tile[index];
}

__global__ void neighbours(Pointer<float> data) {  // block 1 reads what block 0 writes
  data[static_cast<int>(blockIdx.x)] = 1;
  if (blockIdx.x == 1) data[1] = data[0];
}

// Every block adds what all wrote once it is the last to come by; `missing` leaves out a fence or a barrier.
enum class Missing { nothing, fenceBefore, barrierBefore, fenceAfter, barrierAfter, fenceInTime };
__global__ void sumByLast(Pointer<float> parts, Pointer<uint32_t> ticket, Pointer<float> out, Missing missing) {
  __shared__ SharedArray<uint32_t, 1> last;
  const int i = static_cast<int>(threadIdx.x), n = static_cast<int>(blockDim.x), blocks = static_cast<int>(gridDim.x);
  if (missing == Missing::fenceInTime && i == 0) __threadfence();  // of what is not yet written
  parts[static_cast<int>(blockIdx.x) * n + i] = static_cast<float>(blockIdx.x);
  if (missing != Missing::barrierBefore) __syncthreads();
  if (i == 0) {
    if (missing != Missing::fenceBefore && missing != Missing::fenceInTime) __threadfence();
    last[0] = atomicInc(ticket, static_cast<uint32_t>(blocks - 1)) == static_cast<uint32_t>(blocks - 1);
    if (missing != Missing::fenceAfter) __threadfence();
  }
  if (missing != Missing::barrierAfter) __syncthreads();
  if (!last[0]) return;
  float sum = 0;
  for (int b = 0; b < blocks; ++b) sum += parts[b * n + (i + 1) % n];
  out[i] = sum;
}

__global__ void unwritten(Pointer<float> out) {
  __shared__ SharedArray<float, 2> tile;
  out[0] = tile[1];
}

__global__ void divergent(Pointer<float> out) {
  if (threadIdx.x < 16) __syncthreads();
  out[static_cast<int>(threadIdx.x)] = warpSum(1.0f);
}

__global__ void leavesEarly(Pointer<float> out) {
  if (threadIdx.x == 5) return;
  out[static_cast<int>(threadIdx.x)] = warpSum(1.0f);
}

__global__ void copyAcross(Pointer<const float> in, Pointer<float> out, bool wait) {
  __shared__ SharedArray<float, 4> tile;
  copyAsync16(tile.pointer(), in);
  commitCopies();
  if (wait) waitCopies<0>();
  for (int i = 0; i < 4; ++i) out[i] = tile[i];
}

__global__ void count(Pointer<unsigned> counter, Pointer<unsigned> votes) {
  atomicAdd(counter + 0, 1u);
  const unsigned v = __ballot_sync(kAllLanes, threadIdx.x % 3 == 0);
  if (threadIdx.x == 0 && blockIdx.x == 0) votes[0] = v;
}

__global__ void misaligned(Pointer<const float> in, Pointer<float> out, int shift) { out[0] = load<float4>(in + shift).y; }

__global__ void sumOfAll(Pointer<const float> in, Pointer<float> out) {
  Pointer<float> tile = dynamicShared<float>();
  __shared__ SharedArray<float, 4> sums;
  const int i = static_cast<int>(threadIdx.x);
  tile[i] = in[i];
  __syncthreads();
  const float sum = blockSum<4>(static_cast<float>(tile[127 - i]), sums);
  if (i == 0) out[0] = sum;
}

std::vector<float> ramp(int n) {
  std::vector<float> v(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) v[static_cast<size_t>(i)] = static_cast<float>(i);
  return v;
}

// The message of the fault that `body` ends in, under every seed; "" when any of them passes.
template <class Body>
std::string faultOf(Body body) {
  std::string message;
  for (uint32_t seed : kSeeds) {
    emulator::setSeed(seed);
    try {
      body();
      emulator::setSeed(0);
      return "";
    } catch (const emulator::Fault& f) {
      message = f.what();
    }
  }
  emulator::setSeed(0);
  return message;
}
bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST(blocks_and_barriers_work_under_every_schedule) {
  const DeviceArray<float> in(ramp(250));
  for (uint32_t seed : kSeeds) {
    emulator::setSeed(seed);
    DeviceArray<float> out(250);
    launch("reverse", nullptr, {dim3(3), dim3(kThreads)}, reverse, in.data(), out.data(), 250, false);
    const auto y = out.host();
    for (int i = 0; i < 250; ++i) {
      const int block = i / kThreads, n = std::min(kThreads, 250 - block * kThreads);
      EXPECT_EQ(y[static_cast<size_t>(i)], static_cast<float>(block * kThreads + n - 1 - i % kThreads));
    }
    launch("sum", nullptr, {dim3(1), dim3(128), 128 * sizeof(float)}, sumOfAll, in.data(), out.data());
    EXPECT_EQ(out.at(0), 127.0f * 64);
  }
  emulator::setSeed(0);
}

TEST(a_missing_barrier_is_caught) {
  const DeviceArray<float> in(ramp(250));
  DeviceArray<float> out(250);
  const auto reversed = [&](bool bug) {
    return faultOf([&] { launch("reverse", nullptr, {dim3(3), dim3(kThreads)}, reverse, in.data(), out.data(), 250, bug); });
  };
  EXPECT(reversed(false).empty());
  EXPECT(has(reversed(true), "no barrier") || has(reversed(true), "nobody wrote"), reversed(true));
  const auto warp = [&](bool bug) {
    return faultOf([&] { launch("reverseWarp", nullptr, {dim3(1), dim3(32)}, reverseWarp, in.data(), out.data(), bug); });
  };
  EXPECT(warp(false).empty());
  EXPECT(has(warp(true), "no barrier") || has(warp(true), "nobody wrote"), warp(true));
  const auto early = [&](bool bug) {
    return faultOf([&] { launch("overwriteEarly", nullptr, {dim3(1), dim3(64)}, overwriteEarly, in.data(), out.data(), bug); });
  };
  EXPECT(early(false).empty());
  EXPECT(has(early(true), "no barrier"), early(true));
  EXPECT(has(early(true), "overwriteEarly") && has(early(true), "thread"), early(true));
}

TEST(an_index_out_of_bounds_is_caught) {
  const DeviceArray<float> in(ramp(100));
  DeviceArray<float> out(100);
  const auto copy = [&](int read, int write) {
    return faultOf([&] { launch("copy", nullptr, {dim3(4), dim3(32)}, copyShifted, in.data(), out.data(), 100, read, write); });
  };
  EXPECT(copy(0, 0).empty());
  EXPECT(has(copy(1, 0), "reads out of bounds: 4 bytes at byte 400"), copy(1, 0));
  EXPECT(has(copy(0, 1), "writes out of bounds"), copy(0, 1));
  EXPECT(has(copy(-1, 0), "reads out of bounds"), copy(-1, 0));
  const auto shared = [&](int i) { return faultOf([&] { launch("shared", nullptr, {dim3(1), dim3(1)}, sharedIndex, out.data(), i); }); };
  EXPECT(shared(7).empty());
  EXPECT(has(shared(8), "out of bounds"), shared(8));
  EXPECT(has(shared(-1), "out of bounds"), shared(-1));
  std::vector<float> host(8);
  const std::string foreign = faultOf([&] { launch("shared", nullptr, {dim3(1), dim3(1)}, sharedIndex, host.data(), 1); });
  EXPECT(has(foreign, "not of the device"), foreign);
}

TEST(what_nobody_wrote_is_not_read) {
  DeviceArray<float> out(4);
  const std::string shared = faultOf([&] { launch("unwritten", nullptr, {dim3(1), dim3(1)}, unwritten, out.data()); });
  EXPECT(has(shared, "nobody wrote"), shared);
  const DeviceArray<float> raw(100);
  DeviceArray<float> copy(100);
  const std::string global = faultOf([&] {
    launch("copy", nullptr, {dim3(4), dim3(32)}, copyShifted, raw.data(), copy.data(), 100, 0, 0);
  });
  EXPECT(has(global, "nobody wrote"), global);
}

TEST(blocks_do_not_wait_for_one_another) {
  const std::string message = faultOf([&] {
    DeviceArray<float> data(ramp(2));
    launch("neighbours", nullptr, {dim3(2), dim3(1)}, neighbours, data.data());
  });
  EXPECT(has(message, "another block"), message);
}

TEST(the_last_of_several_blocks_sees_what_all_wrote) {
  const auto run = [](Missing missing) {
    const DeviceArray<float> parts(5 * 64), out(64);
    const DeviceArray<uint32_t> ticket(std::vector<uint32_t>{0});
    for (int round = 0; round < 2; ++round)  // the ticket is free again
      launch("sumByLast", nullptr, {dim3(5), dim3(64)}, sumByLast, parts.data(), ticket.data(), out.data(), missing);
    return out.host();
  };
  underEverySchedule([&] { EXPECT(run(Missing::nothing) == std::vector<float>(64, 10.0f)); });
  for (const Missing missing : {Missing::fenceBefore, Missing::barrierBefore, Missing::fenceAfter, Missing::barrierAfter, Missing::fenceInTime}) {
    const std::string message = faultOf([&] { run(missing); });
    EXPECT(has(message, "no barrier") || has(message, "nobody wrote"), static_cast<int>(missing), message);
  }
}

TEST(divergence_is_caught) {
  DeviceArray<float> out(32);
  const std::string barrier = faultOf([&] { launch("divergent", nullptr, {dim3(1), dim3(32)}, divergent, out.data()); });
  EXPECT(has(barrier, "for ever"), barrier);
  const std::string left = faultOf([&] { launch("leavesEarly", nullptr, {dim3(1), dim3(32)}, leavesEarly, out.data()); });
  EXPECT(has(left, "has left"), left);
}

TEST(an_asynchronous_copy_must_be_awaited) {
  const DeviceArray<float> in(ramp(4));
  DeviceArray<float> out(4);
  const auto copy = [&](bool wait) {
    return faultOf([&] { launch("copyAcross", nullptr, {dim3(1), dim3(1)}, copyAcross, in.data(), out.data(), wait); });
  };
  EXPECT(copy(true).empty());
  EXPECT(out.host() == ramp(4));
  EXPECT(has(copy(false), "nobody wrote"), copy(false));
}

TEST(vector_loads_must_be_aligned) {
  const DeviceArray<float> in(ramp(12));
  DeviceArray<float> out(1);
  const auto at = [&](int shift) {
    return faultOf([&] { launch("misaligned", nullptr, {dim3(1), dim3(1)}, misaligned, in.data(), out.data(), shift); });
  };
  EXPECT(at(4).empty());
  EXPECT_EQ(out.at(0), 5.0f);
  EXPECT(has(at(3), "not aligned"), at(3));
}

TEST(atomics_count_and_lanes_vote) {
  for (uint32_t seed : kSeeds) {
    emulator::setSeed(seed);
    DeviceArray<unsigned> counter(std::vector<unsigned>{0}), votes(1);
    launch("count", nullptr, {dim3(5), dim3(32)}, count, counter.data(), votes.data());
    EXPECT_EQ(counter.at(0), 160u);
    EXPECT_EQ(votes.at(0), 0x49249249u);
  }
  emulator::setSeed(0);
}

namespace {

// A[i][k] B[k][j] through the tensor core, fragments filled by hand as the manual says.
template <bool bf16>
__global__ void product(Pointer<const float> a, Pointer<const float> b, Pointer<float> out) {
  const int l = static_cast<int>(threadIdx.x), g = l / 4, t = l % 4;
  const auto pack = [](float x, float y) {
    return bf16 ? floatToBf16(x) | uint32_t{floatToBf16(y)} << 16 : floatToHalf(x) | uint32_t{floatToHalf(y)} << 16;
  };
  uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; ++i) {
    const int row = g + i % 2 * 8, k = 2 * t + i / 2 * 8;
    fa[i] = pack(a[row * 16 + k], a[row * 16 + k + 1]);
  }
  for (int i = 0; i < 2; ++i) fb[i] = pack(b[(2 * t + i * 8) * 8 + g], b[(2 * t + i * 8 + 1) * 8 + g]);
  float d[4] = {};
  bf16 ? mmaBf16(d, fa, fb) : mmaHalf(d, fa, fb);
  for (int i = 0; i < 4; ++i) out[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

__global__ void byteProduct(Pointer<const uint32_t> a, Pointer<const uint32_t> b, Pointer<int> out) {  // a [16][32], b [8][32] bytes
  const int l = static_cast<int>(threadIdx.x), g = l / 4, t = l % 4;
  const uint32_t fa[4] = {a[g * 8 + t], a[(g + 8) * 8 + t], a[g * 8 + 4 + t], a[(g + 8) * 8 + 4 + t]},
                 fb[2] = {b[g * 8 + t], b[g * 8 + 4 + t]};
  int d[4] = {};
  mmaBytes(d, fa, fb);
  for (int i = 0; i < 4; ++i) out[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

}  // namespace

TEST(fragments_are_laid_out_as_the_manual_says) {
  std::vector<float> a(256), b(128);
  for (size_t i = 0; i < 256; ++i) a[i] = static_cast<float>(static_cast<int>(i * 7 % 23) - 11);
  for (size_t i = 0; i < 128; ++i) b[i] = static_cast<float>(static_cast<int>(i * 5 % 19) - 9);
  const DeviceArray<float> da(a), db(b);
  for (bool bf16 : {false, true}) {
    DeviceArray<float> out(128);
    launch("product", nullptr, {dim3(1), dim3(32)}, bf16 ? product<true> : product<false>, da.data(), db.data(), out.data());
    const auto y = out.host();
    for (size_t i = 0; i < 16; ++i)
      for (size_t j = 0; j < 8; ++j) {
        float sum = 0;
        for (size_t k = 0; k < 16; ++k) sum += a[i * 16 + k] * b[k * 8 + j];
        EXPECT_EQ(y[i * 8 + j], sum);  // small integers: exact
      }
  }
  std::vector<uint8_t> x(16 * 32);
  std::vector<int8_t> y(8 * 32);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint8_t>(i * 37);
  for (size_t i = 0; i < y.size(); ++i) y[i] = static_cast<int8_t>(i * 91);
  std::vector<uint32_t> wx(128), wy(64);
  std::memcpy(wx.data(), x.data(), 512);
  std::memcpy(wy.data(), y.data(), 256);
  const DeviceArray<uint32_t> dx(wx), dy(wy);
  DeviceArray<int> out(128);
  launch("byteProduct", nullptr, {dim3(1), dim3(32)}, byteProduct, dx.data(), dy.data(), out.data());
  const auto z = out.host();
  for (size_t i = 0; i < 16; ++i)
    for (size_t j = 0; j < 8; ++j) {
      int sum = 0;
      for (size_t k = 0; k < 32; ++k) sum += x[i * 32 + k] * y[j * 32 + k];
      EXPECT_EQ(z[i * 8 + j], sum);
    }
}
