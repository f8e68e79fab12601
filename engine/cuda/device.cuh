// SPDX-License-Identifier: GPL-3.0-or-later
// What every kernel file starts from. Kernels are written once and compiled twice: by nvcc for the device, and by a C++ compiler
// against headers that check every access (the emulation the tests use). The rules that make this possible:
// * kernels take and index Pointer<T>, never T*; shared memory is SharedArray or dynamicShared; elements are not bound to auto or T&;
// * wide accesses go through load and store below; inline PTX lives in ptx.cuh alone;
// * launches go through launch(), with a name that observers and errors show.
// No kernel uses floating-point atomics: sums have one order.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

#include "engine/core/check.h"
#include "engine/cuda/checked.h"

namespace winnow::cuda {

#ifdef __CUDACC__
template <class T>
using Pointer = T*;
template <class T, int count>
struct SharedArray {
  alignas(16) T data[count];
  __device__ __forceinline__ T& operator[](int i) { return data[i]; }
  __device__ __forceinline__ T* pointer() { return data; }
};
template <class T>
__device__ __forceinline__ T* dynamicShared() {
  extern __shared__ __align__(16) unsigned char winnowDynamicShared[];
  return reinterpret_cast<T*>(winnowDynamicShared);
}
template <class V, class T>
__device__ __forceinline__ V load(const T* p) {
  return *reinterpret_cast<const V*>(p);
}
template <class V, class T>
__device__ __forceinline__ void store(T* p, const V& v) {
  *reinterpret_cast<V*>(p) = v;
}
// An address out of a table in device memory (pages of the cache).
template <class T>
__device__ __forceinline__ T* pointerAt(const uint64_t* table, int i) {
  return reinterpret_cast<T*>(table[i]);
}
#else
template <class T>
using Pointer = ::emulator::Pointer<T>;
template <class T, int count>
using SharedArray = ::emulator::SharedArray<T, count>;
template <class T>
Pointer<T> dynamicShared() {
  return ::emulator::dynamicSharedArray<T>();
}
template <class V, class T>
V load(Pointer<T> p) {
  return ::emulator::loadVector<V>(p);
}
template <class V, class T>
void store(Pointer<T> p, const V& v) {
  ::emulator::storeVector(p, v);
}
template <class T>
Pointer<T> pointerAt(Pointer<const uint64_t> table, int i) {
  return {reinterpret_cast<T*>(table[i])};
}
#endif

constexpr uint32_t kAllLanes = 0xffffffffu;

__device__ inline float halfToFloat(uint16_t h) { return __half2float(__ushort_as_half(h)); }
__device__ inline uint16_t floatToHalf(float x) { return __half_as_ushort(__float2half_rn(x)); }
__device__ inline float bf16ToFloat(uint16_t h) { return __uint_as_float(static_cast<uint32_t>(h) << 16); }
__device__ inline uint16_t floatToBf16(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
__device__ inline float lowHalf(uint32_t two) { return halfToFloat(static_cast<uint16_t>(two)); }
__device__ inline float highHalf(uint32_t two) { return halfToFloat(static_cast<uint16_t>(two >> 16)); }

// Over the `width` neighbouring lanes (a power of two); every lane has the result.
template <int width = 32, class T>
__device__ inline T warpSum(T v) {
#pragma unroll
  for (int d = width / 2; d > 0; d /= 2) v += __shfl_xor_sync(kAllLanes, v, d);
  return v;
}
template <int width = 32>
__device__ inline float warpMax(float v) {
#pragma unroll
  for (int d = width / 2; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(kAllLanes, v, d));
  return v;
}
template <int width = 32>
__device__ inline float warpMin(float v) {
#pragma unroll
  for (int d = width / 2; d > 0; d /= 2) v = fminf(v, __shfl_xor_sync(kAllLanes, v, d));
  return v;
}

// Sum over a block of `warps` warps; every thread has the result. `scratch` is free again when the next barrier has passed.
template <int warps, class T>
__device__ inline T blockSum(T v, SharedArray<T, warps>& scratch) {
  v = warpSum(v);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v;
  __syncthreads();
  T sum = 0;
  for (int i = 0; i < warps; ++i) sum += scratch[i];
  return sum;
}
template <int warps>
__device__ inline float blockMax(float v, SharedArray<float, warps>& scratch) {
  v = warpMax(v);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v;
  __syncthreads();
  float largest = scratch[0];
  for (int i = 1; i < warps; ++i) largest = fmaxf(largest, scratch[i]);
  return largest;
}

struct Grid {
  dim3 blocks, threads;
  size_t sharedBytes = 0;  // dynamic
};

constexpr size_t kSharedWithoutAsking = 48 << 10;

template <class... P, class... A>
void launch(const char* name, cudaStream_t stream, const Grid& grid, void (*kernel)(P...), A&&... arguments) {
#ifndef __CUDACC__
  ::emulator::nameNextLaunch(name);
#endif
  cudaLaunchConfig_t config{};
  config.gridDim = grid.blocks;
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.sharedBytes;
  config.stream = stream;
  if (grid.sharedBytes > kSharedWithoutAsking) {
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(grid.sharedBytes));
    throwIfFailed(error, name);
  }
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, std::forward<A>(arguments)...);
  throwIfFailed(error, name);
}

inline unsigned blocksFor(int64_t items, int64_t perBlock) { return static_cast<unsigned>((items + perBlock - 1) / perBlock); }

}  // namespace winnow::cuda
