// SPDX-License-Identifier: GPL-3.0-or-later
// Pointers and shared arrays as kernels see them under emulation: every access is checked and remembered.
#pragma once
#include <type_traits>

#include "tests/cuda_emulation/emulator.h"

namespace emulator {

template <class T>
class Reference {
 public:
  static_assert(sizeof(T) >= kCellBytes, "accesses are remembered by two bytes");
  Reference(T* at, Region* region) : at_(at), region_(region) {}
  Reference(const Reference&) = default;
  operator T() const {
    access(region_, at_, sizeof(T), Access::read);
    return *at_;
  }
  T operator=(T value) const {
    access(region_, at_, sizeof(T), Access::write);
    return *at_ = value;
  }
  T operator=(const Reference& other) const { return *this = static_cast<T>(other); }
  T operator+=(T value) const { return *this = static_cast<T>(static_cast<T>(*this) + value); }
  T operator-=(T value) const { return *this = static_cast<T>(static_cast<T>(*this) - value); }
  T operator*=(T value) const { return *this = static_cast<T>(static_cast<T>(*this) * value); }
  T operator|=(T value) const { return *this = static_cast<T>(static_cast<T>(*this) | value); }

 private:
  T* at_;
  Region* region_;
};

template <class T>
class Pointer {
  using Value = std::remove_const_t<T>;

 public:
  Pointer() = default;
  Pointer(std::nullptr_t) {}
  Pointer(T* p) : at_(p), region_(p ? regionOf(p) : nullptr) {}  // a host pointer is found out when it is followed
  Pointer(T* p, Region* region) : at_(p), region_(region) {}
  template <class U>
    requires(std::is_same_v<const U, T> && !std::is_same_v<U, T>)
  Pointer(const Pointer<U>& other) : at_(other.raw()), region_(other.region()) {}

  // Elements of constants are values; others are references, which note what is done to them.
  auto operator[](int64_t i) const {
    if constexpr (std::is_const_v<T>) {
      access(region_, at_ + i, sizeof(T), Access::read);
      return at_[i];
    } else {
      return Reference<T>(at_ + i, region_);
    }
  }
  auto operator*() const { return (*this)[0]; }
  Pointer operator+(int64_t i) const { return {at_ + i, region_}; }
  Pointer operator-(int64_t i) const { return {at_ - i, region_}; }
  Pointer& operator+=(int64_t i) {
    at_ += i;
    return *this;
  }
  explicit operator bool() const { return at_ != nullptr; }
  bool operator!() const { return at_ == nullptr; }
  T* raw() const { return at_; }
  Region* region() const { return region_; }

 private:
  T* at_ = nullptr;
  Region* region_ = nullptr;
};

// __shared__ SharedArray<float, 32> sums;  one for the block, as the emulator runs one block at a time.
template <class T, int count>
class SharedArray {
 public:
  SharedArray() {
    region_.data = reinterpret_cast<char*>(data_);
    region_.bytes = sizeof data_;
    region_.shared = true;
    registerShared(region_);
  }
  ~SharedArray() { unregisterShared(region_); }
  SharedArray(const SharedArray&) = delete;
  SharedArray& operator=(const SharedArray&) = delete;
  Reference<T> operator[](int64_t i) { return {data_ + i, &region_}; }
  Pointer<T> pointer() { return {data_, &region_}; }

 private:
  alignas(16) T data_[count];
  Region region_;
};

template <class T>
Pointer<T> dynamicSharedArray() {
  return {reinterpret_cast<T*>(dynamicShared().data), &dynamicShared()};
}

// Vector accesses: the address must be a multiple of the size, or the device would refuse it.
template <class V, class T>
V loadVector(Pointer<T> p) {
  if (reinterpret_cast<uintptr_t>(p.raw()) % sizeof(V)) fault("a vector load is not aligned");
  access(p.region(), p.raw(), sizeof(V), Access::read);
  V v;
  std::memcpy(&v, p.raw(), sizeof v);
  return v;
}
template <class V, class T>
void storeVector(Pointer<T> p, const V& v) {
  if (reinterpret_cast<uintptr_t>(p.raw()) % sizeof(V)) fault("a vector store is not aligned");
  access(p.region(), p.raw(), sizeof(V), Access::write);
  std::memcpy(const_cast<std::remove_const_t<T>*>(p.raw()), &v, sizeof v);
}

template <class T, class Op>
T atomically(Pointer<T> p, Op op) {
  access(p.region(), p.raw(), sizeof(T), Access::atomic);
  const T old = *p.raw();
  *p.raw() = op(old);
  cameBy(p.raw());
  return old;
}

}  // namespace emulator
