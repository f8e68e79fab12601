// SPDX-License-Identifier: GPL-3.0-or-later
// A copy of a matrix in which each channel - a column, or a row of a packed matrix - lies in one piece, so that a channel that is not wanted is not read.
// Values are those of the matrix to the bit.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>

#include "engine/core/progress.h"
#include "engine/core/threads.h"
#include "engine/weights/matrix.h"

namespace winnow {

struct ChannelMajor {
  // How values are stored: plain, one after the other; in dwords of places in a table (nibbles) or of integers with an offset (bytes), so that one
  // dword to a lane holds what lanes next to each other want: of 128 values the (16 k + l)-th is nibble k of dword l, of 64 byte k of dword l.
  enum class Code : uint8_t { f32, f16, bf16, nibbles, bytes };
  static constexpr int kUnit = 128;  // values; a channel's are padded to a multiple

  // Of the host or of a device; null under a planning ledger.
  class Memory {
   public:
    Memory() = default;
    Memory(std::shared_ptr<const void> owner, void* data, size_t bytes) : owner_(std::move(owner)), data_(data), bytes_(bytes) {}
    void* data() const { return data_; }
    template <class T>
    T* as() const {
      return static_cast<T*>(data_);
    }
    size_t bytes() const { return bytes_; }

   private:
    std::shared_ptr<const void> owner_;
    void* data_ = nullptr;
    size_t bytes_ = 0;
  };
  using Allocator = std::function<Memory(size_t bytes)>;

  Code code{};
  bool columns = false;  // else rows
  int count = 0, length = 0;   // channels; values of each
  int64_t stride = 0;          // bytes from a channel to the next
  int group = 0;               // columns: channels, rows: values that share a scale; 0: there are no scales
  int64_t scaleStride = 0;     // scales from a group of columns to the next, or from a row to the next
  bool wideScales = false;     // f32, else f16
  bool asymmetric = false;
  std::array<float, 16> table{};  // of nibbles
  float offset = 0;               // of bytes
  Memory data, scales, mins;      // columns: scales [groups, scaleStride], a value each; rows: [count, groups]

  int padded() const { return (length + kUnit - 1) / kUnit * kUnit; }
  int64_t bytes() const { return static_cast<int64_t>(data.bytes() + scales.bytes() + mins.bytes()); }
  int64_t scaleBytes() const { return static_cast<int64_t>(scales.bytes() + mins.bytes()); }

  // Takes memory (on a planning ledger it is counted); fill() gives it values.
  static ChannelMajor allocate(const Allocator& allocator, const Matrix& matrix, bool columns);
  static ChannelMajor allocate(Ledger& ledger, const Matrix& matrix, bool columns);
  // Both in the host's memory. False when it was stopped.
  bool fill(const Matrix& matrix, ThreadPool& pool, const Progress& progress);
};

}  // namespace winnow
