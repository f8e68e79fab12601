// SPDX-License-Identifier: GPL-3.0-or-later
// Memory of the device with one owner, counted by the ledger as the host's is.
#pragma once
#include <cstddef>
#include <stdexcept>

#include "engine/core/memory.h"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

// What the device refused; the session ends the run with it and stays alive.
struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  // Contents are undefined. Throws std::bad_alloc when the device is full; under a planning ledger it is only counted.
  DeviceBuffer(Ledger& ledger, MemoryTag tag, size_t bytes);
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    DeviceBuffer(static_cast<DeviceBuffer&&>(other)).swap(*this);
    return *this;
  }
  ~DeviceBuffer();

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }
  void copyFrom(Stream stream, const void* host, size_t bytes, size_t at = 0);
  void copyTo(Stream stream, void* host, size_t bytes, size_t at = 0) const;  // and waits for it
  void clear(Stream stream);

 private:
  void swap(DeviceBuffer& other) noexcept;
  void* data_ = nullptr;
  size_t bytes_ = 0;
  Ledger* ledger_ = nullptr;
  MemoryTag tag_ = MemoryTag::weights;
};

class OwnStream {
 public:
  OwnStream();
  ~OwnStream();
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;
  Stream get() const { return stream_; }

 private:
  Stream stream_ = nullptr;
};

}  // namespace winnow::cuda
