// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/memory.h"

#include <cuda_runtime.h>

#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "engine/cuda/checked.h"

namespace winnow::cuda {
namespace {

struct Spares {
  std::mutex mutex;
  std::vector<SpareMemory*> all;
};
Spares& spares() {
  static Spares known;
  return known;
}

}  // namespace

void throwIfFailed(int error, const char* what) {
  if (error == cudaSuccess) return;
  throw DeviceFailure(std::string("The GPU failed (") + what + "): " + cudaGetErrorString(static_cast<cudaError_t>(error)) + ".");
}

void useDevice(int ordinal) { throwIfFailed(cudaSetDevice(ordinal), "device"); }

void wait(Stream stream) { throwIfFailed(cudaStreamSynchronize(stream), "wait"); }

PinnedBuffer::PinnedBuffer(Ledger& ledger, MemoryTag tag, size_t bytes) : bytes_(bytes), ledger_(&ledger), tag_(tag) {
  if (!ledger.planning() && bytes > 0) {
    const cudaError_t error = cudaMallocHost(&data_, bytes);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      ledger_ = nullptr;
      throw std::bad_alloc();
    }
    throwIfFailed(error, "host memory");
  }
  ledger_->post(tag_, static_cast<int64_t>(bytes_));
}

PinnedBuffer::~PinnedBuffer() {
  if (data_) cudaFreeHost(data_);
  if (ledger_) ledger_->post(tag_, -static_cast<int64_t>(bytes_));
}

void PinnedBuffer::swap(PinnedBuffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(ledger_, other.ledger_);
  std::swap(tag_, other.tag_);
}

DeviceBuffer::DeviceBuffer(Ledger& ledger, MemoryTag tag, size_t bytes) : bytes_(bytes), ledger_(&ledger), tag_(tag) {
  if (!ledger.planning() && bytes > 0) {
    cudaError_t error = cudaMalloc(&data_, bytes);
    if (error == cudaErrorMemoryAllocation && tag != MemoryTag::prefillTwin && SpareMemory::giveBack()) {
      cudaGetLastError();
      error = cudaMalloc(&data_, bytes);
    }
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // not sticky; the next call must not report it
      ledger_ = nullptr;
      throw std::bad_alloc();
    }
    throwIfFailed(error, "memory");
  }
  ledger_->post(tag_, static_cast<int64_t>(bytes_));
}

SpareMemory::SpareMemory(std::function<bool()> release) : release_(std::move(release)) {
  const std::scoped_lock lock(spares().mutex);
  spares().all.push_back(this);
}

SpareMemory::~SpareMemory() {
  const std::scoped_lock lock(spares().mutex);
  std::erase(spares().all, this);
}

bool SpareMemory::giveBack() {
  const std::scoped_lock lock(spares().mutex);
  bool any = false;
  for (const SpareMemory* spare : spares().all) any = spare->release_() || any;
  return any;
}

DeviceBuffer::~DeviceBuffer() {
  if (data_) cudaFree(data_);
  if (ledger_) ledger_->post(tag_, -static_cast<int64_t>(bytes_));
}

void DeviceBuffer::swap(DeviceBuffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(ledger_, other.ledger_);
  std::swap(tag_, other.tag_);
}

void DeviceBuffer::copyFrom(Stream stream, const void* host, size_t bytes, size_t at) const {
  CHECK(at + bytes <= bytes_, at, bytes, bytes_);
  throwIfFailed(cudaMemcpyAsync(as<char>() + at, host, bytes, cudaMemcpyHostToDevice, stream), "copy to the device");
}

void DeviceBuffer::copyFromDevice(Stream stream, const void* from, size_t bytes, size_t at) {
  CHECK(at + bytes <= bytes_, at, bytes, bytes_);
  throwIfFailed(cudaMemcpyAsync(as<char>() + at, from, bytes, cudaMemcpyDeviceToDevice, stream), "copy");
}

void DeviceBuffer::copyTo(Stream stream, void* host, size_t bytes, size_t at) const {
  CHECK(at + bytes <= bytes_, at, bytes, bytes_);
  copyToLater(stream, host, bytes, at);
  wait(stream);
}

void DeviceBuffer::copyToLater(Stream stream, void* host, size_t bytes, size_t at) const {
  CHECK(at + bytes <= bytes_, at, bytes, bytes_);
  throwIfFailed(cudaMemcpyAsync(host, as<char>() + at, bytes, cudaMemcpyDeviceToHost, stream), "copy from the device");
}

void DeviceBuffer::clear(Stream stream) {
  if (data_) throwIfFailed(cudaMemsetAsync(data_, 0, bytes_, stream), "clear");
}

OwnStream::OwnStream() { throwIfFailed(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream"); }
OwnStream::~OwnStream() { cudaStreamDestroy(stream_); }

}  // namespace winnow::cuda
