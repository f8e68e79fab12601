// SPDX-License-Identifier: GPL-3.0-or-later
// Arrays in device memory, and the seeds every kernel is run under. The same tests run on the emulation and, compiled with WINNOW_ON_DEVICE,
// on a GPU: there is one schedule, the device's own.
#pragma once
#include <cuda_runtime.h>

#include <stdexcept>
#include <vector>

#ifdef WINNOW_ON_DEVICE
#include "tests/cuda_device/stand_in.h"
#endif
#include "tests/engine/ops/harness.h"

namespace winnow::test {

#ifdef WINNOW_ON_DEVICE
constexpr uint32_t kSeeds[] = {0};
#else
constexpr uint32_t kSeeds[] = {0, 1, 2, 3};  // 0: in order
#endif

// Whether cuBLASLt is there, for tests of both: a real device's is.
#ifdef WINNOW_ON_DEVICE
constexpr bool kLibraries[] = {true};
#else
constexpr bool kLibraries[] = {true, false};
#endif

inline void mustSucceed(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("the device failed: ") + cudaGetErrorString(error));
}

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) { mustSucceed(cudaMalloc(&data_, count * sizeof(T))); }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) { set(values); }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(DeviceArray&& other) noexcept : data_(std::exchange(other.data_, nullptr)), count_(other.count_) {}
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  size_t size() const { return count_; }
  void set(const std::vector<T>& values) { mustSucceed(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice)); }
  T at(size_t i) const { return host()[i]; }
  std::vector<T> host() const {
    std::vector<T> out(count_);
    mustSucceed(cudaMemcpy(out.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return out;
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

// Runs body, checks and all, under every schedule.
template <class Body>
void underEverySchedule(Body body) {
  for (uint32_t seed : kSeeds) {
    emulator::setSeed(seed);
    body();
  }
  emulator::setSeed(0);
}

}  // namespace winnow::test
