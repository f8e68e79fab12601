// SPDX-License-Identifier: GPL-3.0-or-later
// Stands in for the CUDA header of this name when kernels are compiled by a C++ compiler: the subset of the language and of the
// runtime that the engine uses, on top of tests/cuda_emulation/emulator.h. engine/cuda/device.cuh names the checked types.
#pragma once
#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/cuda_emulation/machine.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static

inline const ::emulator::Index3 &threadIdx = ::emulator::threadIdx_, &blockIdx = ::emulator::blockIdx_,
                                &blockDim = ::emulator::blockDim_, &gridDim = ::emulator::gridDim_;
constexpr int warpSize = 32;

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) uint2 { uint32_t x, y; };
struct alignas(16) uint4 { uint32_t x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// --- barriers and warps --------------------------------------------------------------------------------------------------

using EmulatorWhere = ::emulator::Where;
inline void __syncthreads(EmulatorWhere where = EmulatorWhere::current()) { ::emulator::syncBlock(where); }
inline void __syncwarp(uint32_t mask = ~0u, EmulatorWhere where = EmulatorWhere::current()) { ::emulator::syncWarp(mask, where); }

inline void __threadfence() { ::emulator::fence(); }

template <class T>
T emulatorShuffle(uint32_t mask, T value, unsigned source, EmulatorWhere where) {
  static_assert(sizeof(T) <= 8);
  std::memcpy(::emulator::mySlot().words, &value, sizeof value);
  ::emulator::exchange(::emulator::WarpOp::shuffle, mask, where);
  if (!(mask >> source & 1)) ::emulator::fault("a shuffle reads a lane its mask leaves out");
  std::memcpy(&value, ::emulator::slotOf(source).words, sizeof value);
  return value;
}
template <class T>
T __shfl_sync(uint32_t mask, T value, int source, int width = 32, EmulatorWhere where = EmulatorWhere::current()) {
  const unsigned lane = ::emulator::lane(), w = static_cast<unsigned>(width);
  return emulatorShuffle(mask, value, (lane & ~(w - 1)) | (static_cast<unsigned>(source) & (w - 1)), where);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int bits, int width = 32, EmulatorWhere where = EmulatorWhere::current()) {
  const unsigned lane = ::emulator::lane(), source = lane ^ static_cast<unsigned>(bits);
  return emulatorShuffle(mask, value, source / static_cast<unsigned>(width) == lane / static_cast<unsigned>(width) ? source : lane, where);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned delta, int width = 32, EmulatorWhere where = EmulatorWhere::current()) {
  const unsigned lane = ::emulator::lane(), in = lane & (static_cast<unsigned>(width) - 1);
  return emulatorShuffle(mask, value, in >= delta ? lane - delta : lane, where);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned delta, int width = 32, EmulatorWhere where = EmulatorWhere::current()) {
  const unsigned lane = ::emulator::lane(), in = lane & (static_cast<unsigned>(width) - 1);
  return emulatorShuffle(mask, value, in + delta < static_cast<unsigned>(width) ? lane + delta : lane, where);
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate, EmulatorWhere where = EmulatorWhere::current()) {
  ::emulator::mySlot().words[0] = predicate != 0;
  ::emulator::exchange(::emulator::WarpOp::vote, mask, where);
  uint32_t votes = 0;
  for (unsigned i = 0; i < 32; ++i)
    if (mask >> i & 1) votes |= ::emulator::slotOf(i).words[0] << i;
  return votes;
}
inline int __any_sync(uint32_t mask, int predicate, EmulatorWhere where = EmulatorWhere::current()) {
  return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(uint32_t mask, int predicate, EmulatorWhere where = EmulatorWhere::current()) {
  return __ballot_sync(mask, predicate, where) == mask;
}
template <class T, class Op>
T emulatorReduce(uint32_t mask, T value, Op op, EmulatorWhere where) {
  std::memcpy(::emulator::mySlot().words, &value, sizeof value);
  ::emulator::exchange(::emulator::WarpOp::shuffle, mask, where);
  bool first = true;
  for (unsigned i = 0; i < 32; ++i) {
    if (!(mask >> i & 1)) continue;
    T other;
    std::memcpy(&other, ::emulator::slotOf(i).words, sizeof other);
    value = first ? other : op(value, other);
    first = false;
  }
  return value;
}
inline int __reduce_add_sync(uint32_t mask, int v, EmulatorWhere where = EmulatorWhere::current()) {
  return emulatorReduce(mask, v, [](int a, int b) { return a + b; }, where);
}
inline unsigned __reduce_max_sync(uint32_t mask, unsigned v, EmulatorWhere where = EmulatorWhere::current()) {
  return emulatorReduce(mask, v, [](unsigned a, unsigned b) { return std::max(a, b); }, where);
}
inline unsigned __reduce_min_sync(uint32_t mask, unsigned v, EmulatorWhere where = EmulatorWhere::current()) {
  return emulatorReduce(mask, v, [](unsigned a, unsigned b) { return std::min(a, b); }, where);
}

// --- arithmetic ----------------------------------------------------------------------------------------------------------

inline int min(int a, int b) { return std::min(a, b); }
inline int max(int a, int b) { return std::max(a, b); }
inline unsigned min(unsigned a, unsigned b) { return std::min(a, b); }
inline unsigned max(unsigned a, unsigned b) { return std::max(a, b); }
inline long long min(long long a, long long b) { return std::min(a, b); }
inline int __popc(uint32_t x) { return std::popcount(x); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<uint32_t>(x)) + 1; }
inline int __clz(int x) { return std::countl_zero(static_cast<uint32_t>(x)); }
inline uint32_t __float_as_uint(float x) { return std::bit_cast<uint32_t>(x); }
inline float __uint_as_float(uint32_t x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyintf(x)); }
inline unsigned __float2uint_rn(float x) { return static_cast<unsigned>(std::nearbyintf(x)); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return static_cast<uint32_t>(uint64_t{a} * b >> 32); }
inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t both = uint64_t{b} << 32 | a;
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) out |= static_cast<uint32_t>(both >> (8 * (selector >> (4 * i) & 7)) & 0xff) << (8 * i);
  return out;
}
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += static_cast<int8_t>(a >> (8 * i)) * static_cast<int8_t>(b >> (8 * i));
  return c;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 4; ++i) c += (a >> (8 * i) & 0xff) * (b >> (8 * i) & 0xff);
  return c;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

// --- the runtime ---------------------------------------------------------------------------------------------------------

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2, cudaErrorLaunchFailure = 719 };
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : error == cudaErrorMemoryAllocation ? "out of memory" : "unspecified launch failure";
}
// A device that is told to fail does so with every call that waits or launches.
inline cudaError_t emulatorState() { return ::emulator::failing() ? cudaErrorLaunchFailure : cudaSuccess; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
struct CUstream_st;
using cudaStream_t = CUstream_st*;
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };

template <class T>
cudaError_t cudaMalloc(T** out, size_t bytes) {
  *out = static_cast<T*>(::emulator::allocate(bytes));
  return *out ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFree(void* p) {
  ::emulator::release(p);
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaMallocHost(void** out, size_t bytes) {
  *out = std::calloc(bytes, 1);
  return *out ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFreeHost(void* p) {
  std::free(p);
  return cudaSuccess;
}
inline cudaError_t cudaMemGetInfo(size_t* freeBytes, size_t* totalBytes) {
  *totalBytes = ::emulator::memoryLimit();
  *freeBytes = *totalBytes - std::min(*totalBytes, ::emulator::allocatedBytes());
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t = nullptr) {
  const ::emulator::Alone alone;
  if (emulatorState() != cudaSuccess) return emulatorState();
  if (::emulator::recording()) ::emulator::fault("a copy while launches are recorded");
  if (kind != cudaMemcpyHostToDevice) ::emulator::hostReads(from, bytes);
  std::memmove(to, from, bytes);
  if (kind != cudaMemcpyDeviceToHost) ::emulator::hostWrote(to, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind);
}
inline cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t = nullptr) {
  const ::emulator::Alone alone;
  ::emulator::hostWrote(p, bytes);
  std::memset(p, value, bytes);
  return cudaSuccess;
}
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16, cudaDevAttrComputeCapabilityMajor = 75, cudaDevAttrComputeCapabilityMinor = 76 };
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
  *value = which == cudaDevAttrComputeCapabilityMajor ? ::emulator::capability() / 10 : which == cudaDevAttrComputeCapabilityMinor ? ::emulator::capability() % 10 : 1;
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return emulatorState(); }
constexpr unsigned cudaStreamNonBlocking = 1;
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }

// --- events: the moment on the host's clock; while launches are recorded, of each replay -----------------------------------

struct CUevent_st {
  int64_t ns = -1;
};
using cudaEvent_t = CUevent_st*;
constexpr unsigned cudaEventDefault = 0, cudaEventRecordDefault = 0, cudaEventRecordExternal = 1;
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t, unsigned flags) {
  const auto now = [event] {
    event->ns = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  if (::emulator::recording() && flags != cudaEventRecordExternal) ::emulator::fault("an event of a capture is asked for its time");
  if (!::emulator::record(now)) now();
  return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  if (from->ns < 0 || to->ns < 0) return cudaErrorInvalidValue;  // never recorded
  *milliseconds = static_cast<float>(static_cast<double>(to->ns - from->ns) * 1e-6);
  return cudaSuccess;
}

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
inline cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }  // the launch checks the limit

struct cudaLaunchAttribute {};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};
template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...), A&&... arguments) {
  const dim3 g = config->gridDim, b = config->blockDim;
  const ::emulator::Alone alone;
  if (emulatorState() != cudaSuccess) return emulatorState();
  const auto run = [kernel, g, b, shared = config->dynamicSmemBytes, name = ::emulator::takeLaunchName(),
                    values = std::tuple<std::remove_const_t<P>...>(static_cast<P>(std::forward<A>(arguments))...)] {
    ::emulator::launch(name, {g.x, g.y, g.z}, {b.x, b.y, b.z}, shared, [&] { std::apply(kernel, values); });
  };
  if (!::emulator::record(run)) run();
  return cudaSuccess;
}

// --- graphs: launches are kept instead of run, and run again with the arguments they were given ---------------------------

struct EmulatedGraph {
  std::vector<std::function<void()>> launches;
};
using cudaGraph_t = EmulatedGraph*;
using cudaGraphExec_t = EmulatedGraph*;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
inline cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  ::emulator::beginRecording();
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = new EmulatedGraph{::emulator::endRecording()};
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long = 0) {
  *exec = new EmulatedGraph(*graph);
  return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
  const ::emulator::Alone alone;
  if (emulatorState() != cudaSuccess) return emulatorState();
  for (const auto& launch : exec->launches) launch();
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

#include "tests/cuda_emulation/checked.h"

template <class T>
T atomicAdd(::emulator::Pointer<T> p, T v) {
  return ::emulator::atomically(p, [v](T old) { return static_cast<T>(old + v); });
}
inline uint32_t atomicInc(::emulator::Pointer<uint32_t> p, uint32_t most) {
  return ::emulator::atomically(p, [most](uint32_t old) { return old >= most ? 0u : old + 1; });
}
template <class T>
T atomicMax(::emulator::Pointer<T> p, T v) {
  return ::emulator::atomically(p, [v](T old) { return std::max(old, v); });
}
template <class T>
T atomicMin(::emulator::Pointer<T> p, T v) {
  return ::emulator::atomically(p, [v](T old) { return std::min(old, v); });
}
