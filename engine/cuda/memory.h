// SPDX-License-Identifier: GPL-3.0-or-later
// Memory of the device with one owner, counted by the ledger as the host's is.
#pragma once
#include <cstddef>
#include <functional>
#include <span>

#include "engine/core/device_failure.h"
#include "engine/core/memory.h"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

void wait(Stream stream);  // for what is queued
void useDevice(int ordinal);  // by this thread

class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  // Contents are undefined. Throws std::bad_alloc when the device is full and no spare memory is left; under a planning ledger it is only counted.
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
  void copyFrom(Stream stream, const void* host, size_t bytes, size_t at = 0) const;
  void copyFromDevice(Stream stream, const void* from, size_t bytes, size_t at = 0);
  void copyTo(Stream stream, void* host, size_t bytes, size_t at = 0) const;  // and waits for it
  void copyToLater(Stream stream, void* host, size_t bytes, size_t at = 0) const;
  void clear(Stream stream);

 private:
  void swap(DeviceBuffer& other) noexcept;
  void* data_ = nullptr;
  size_t bytes_ = 0;
  Ledger* ledger_ = nullptr;
  MemoryTag tag_ = MemoryTag::weights;
};

// Says of memory on the device that it is kept only while nobody needs it: an allocation that the device refuses asks for it and tries again.
// `release` may come from any thread and tells whether it gave anything back. Twins (engine/cuda/twins.h) don't ask: they are spare themselves.
class SpareMemory {
 public:
  explicit SpareMemory(std::function<bool()> release);
  ~SpareMemory();
  SpareMemory(const SpareMemory&) = delete;
  SpareMemory& operator=(const SpareMemory&) = delete;
  static bool giveBack();  // all that there is

 private:
  std::function<bool()> release_;
};

// Host memory the device copies from and to by itself. Null under a planning ledger.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  PinnedBuffer(Ledger& ledger, MemoryTag tag, size_t bytes);
  PinnedBuffer(PinnedBuffer&& other) noexcept { swap(other); }
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    PinnedBuffer(static_cast<PinnedBuffer&&>(other)).swap(*this);
    return *this;
  }
  ~PinnedBuffer();
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void swap(PinnedBuffer& other) noexcept;
  void* data_ = nullptr;
  size_t bytes_ = 0;
  Ledger* ledger_ = nullptr;
  MemoryTag tag_ = MemoryTag::activations;
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
