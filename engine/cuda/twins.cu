// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/twins.h"

#include <algorithm>
#include <new>
#include <utility>

namespace winnow::cuda {
namespace {

// A planned matrix has no memory yet: it stands for itself.
const void* keyOf(const Matrix& m) { return m.data ? m.data : &m; }

std::string mebibytes(int64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

}  // namespace

Twins::Twins(Ledger& ledger) : ledger_(ledger), spare_([this] { return giveBack(); }) {}

void Twins::follow(uint64_t weights, PrefillTwin mode, bool fp8) {
  if (weights == weights_ && mode == mode_ && fp8 == fp8_) return;
  const std::scoped_lock lock(mutex_);
  if (weights != weights_ || mode == PrefillTwin::off || fp8 != fp8_) twins_.clear();
  weights_ = weights;
  mode_ = mode;
  fp8_ = fp8;
  closed_ = mode == PrefillTwin::off;
  reason_ = closed_ ? kOff : "";
  note_.clear();
}

void Twins::make(const Matrix& matrix, size_t size, const std::function<int64_t()>& room) {
  const std::scoped_lock lock(mutex_);
  if (closed_ || twins_.contains(keyOf(matrix))) return;
  const auto bytes = static_cast<int64_t>(size);
  const int64_t left = room();
  if (bytes > left)
    return refuse("the next one takes " + mebibytes(bytes) + ", and beside what the cache may still need and a reserve the GPU has " +
                  mebibytes(std::max<int64_t>(left, 0)) + " left");
  try {
    twins_[keyOf(matrix)].values = DeviceBuffer(ledger_, MemoryTag::prefillTwin, size);
  } catch (const std::bad_alloc&) {
    twins_.erase(keyOf(matrix));
    refuse("the GPU refused " + mebibytes(bytes) + " for the next one");
  }
}

Twins::Held Twins::hold(const void* data) {
  Held held;
  std::unique_lock lock(mutex_);
  const auto found = twins_.find(data);
  if (found == twins_.end()) return held;
  held.lock_ = std::move(lock);
  held.twin_ = &found->second;
  return held;
}

bool Twins::giveBack() {
  const std::scoped_lock lock(mutex_);
  if (ledger_.planning() || twins_.empty()) return false;
  twins_.clear();
  refuse("the GPU's memory was needed elsewhere, and what was kept was given back");
  return true;
}

void Twins::refuse(std::string reason) {
  closed_ = true;
  reason_ = note_ = std::move(reason);
}

std::string Twins::reason() const {
  const std::scoped_lock lock(mutex_);
  return reason_;
}

std::string Twins::takeNote() {
  const std::scoped_lock lock(mutex_);
  return std::exchange(note_, {});
}

}  // namespace winnow::cuda
