// SPDX-License-Identifier: GPL-3.0-or-later
// Instructions that CUDA C++ has no name for. Fragment layouts are described where they are emulated and in the PTX manual.
#pragma once
#include "engine/cuda/device.cuh"

#ifndef __CUDACC__
#include <emulated_ptx.h>
#endif

namespace winnow::cuda {

#ifdef __CUDACC__

// d += a b: 16x16 times 16x8. Volatile, as the whole warp must arrive together.
__device__ __forceinline__ void mmaHalf(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mmaBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// 16x32 unsigned bytes times 32x8 signed bytes.
__device__ __forceinline__ void mmaBytes(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// 16x32 signed bytes times 32x8 signed bytes.
__device__ __forceinline__ void mmaSignedBytes(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// 16 bytes from device to shared memory, in the background, past the first-level cache.
__device__ __forceinline__ void copyAsync16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))), "l"(from)
               : "memory");
}
// The same for 4, 8 or 16 bytes; zeros where nothing is given.
template <int bytes>
__device__ __forceinline__ void copyAsync(void* to, const void* from, bool given) {
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  if constexpr (bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(given ? bytes : 0) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(at), "l"(from), "n"(bytes), "r"(given ? bytes : 0) : "memory");
}
__device__ __forceinline__ void commitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int pending>  // groups that may still be under way
__device__ __forceinline__ void waitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// Four 8x8 matrices of 16-bit values from shared memory: lane 8i + j names row j of matrix i; lane (g, t) gets columns 2t and 2t + 1 of
// row g of each, or, transposed, rows 2t and 2t + 1 of column g.
__device__ __forceinline__ void loadMatrices(uint32_t (&r)[4], const uint16_t* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}
__device__ __forceinline__ void loadMatricesTransposed(uint32_t (&r)[4], const uint16_t* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

// Weights are read once per token: they need not displace what is read again.
__device__ __forceinline__ uint4 loadStream16(const void* p) {
  uint4 v;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}

#else

inline void mmaHalf(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], ::emulator::Where where = ::emulator::Where::current()) {
  ::emulator::matrixMultiply16<::emulator::halfOf>(d, a, b, where);
}
inline void mmaBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], ::emulator::Where where = ::emulator::Where::current()) {
  ::emulator::matrixMultiply16<::emulator::bf16Of>(d, a, b, where);
}
inline void mmaBytes(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], ::emulator::Where where = ::emulator::Where::current()) {
  ::emulator::matrixMultiplyBytes<uint8_t>(d, a, b, where);
}
inline void mmaSignedBytes(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], ::emulator::Where where = ::emulator::Where::current()) {
  ::emulator::matrixMultiplyBytes<int8_t>(d, a, b, where);
}
template <class T, class U>
void copyAsync16(Pointer<T> to, Pointer<U> from) {
  ::emulator::copyAsync(to.region(), to.raw(), from.region(), from.raw(), 16, 16);
}
template <int bytes, class T, class U>
void copyAsync(Pointer<T> to, Pointer<U> from, bool given) {
  ::emulator::copyAsync(to.region(), to.raw(), from.region(), from.raw(), bytes, given ? bytes : 0);
}
inline void commitCopies() { ::emulator::commitAsync(); }
template <int pending>
void waitCopies() {
  ::emulator::waitAsync(pending);
}
inline void loadMatrices(uint32_t (&r)[4], Pointer<uint16_t> row, ::emulator::Where where = ::emulator::Where::current()) {
  ::emulator::loadMatrices<false>(r, row.region(), row.raw(), where);
}
inline void loadMatricesTransposed(uint32_t (&r)[4], Pointer<uint16_t> row, ::emulator::Where where = ::emulator::Where::current()) {
  ::emulator::loadMatrices<true>(r, row.region(), row.raw(), where);
}
template <class T>
uint4 loadStream16(Pointer<T> p) {
  return ::emulator::loadVector<uint4>(p);
}

#endif

}  // namespace winnow::cuda
