// SPDX-License-Identifier: GPL-3.0-or-later
// A matrix of the host, its very bytes on the device.
#pragma once
#include "engine/cuda/ops.h"
#include "tests/cuda_emulation/harness.h"
#include "tests/engine/ops/matmul_oracle.h"

namespace winnow::test {

class DeviceMatrix {
 public:
  explicit DeviceMatrix(const Matrix& m)
      : data_(bytesOf(m.data, m.format.storage == Storage::packed ? m.format.codeBytes(m.rows, m.cols) : m.format.bytes(m.rows, m.cols))),
        scales_(bytesOf(m.scales, m.scales ? m.format.scaleBytes(m.rows, m.cols) : 0)),
        mins_(bytesOf(m.mins, m.mins ? m.format.scaleBytes(m.rows, m.cols) : 0)), steps_(bytesOf(m.steps, m.format.stepBytes(m.rows, m.cols))) {
    args_ = {m.format, m.rows, m.cols, data_.data(), m.scales ? reinterpret_cast<const uint16_t*>(scales_.data()) : nullptr,
             m.mins ? reinterpret_cast<const uint16_t*>(mins_.data()) : nullptr, m.steps ? steps_.data() : nullptr};
  }
  const cuda::MatrixArgs& args() const { return args_; }
  std::vector<uint8_t> codes() const { return data_.host(); }

 private:
  static std::vector<uint8_t> bytesOf(const void* p, size_t bytes) {
    const auto* first = static_cast<const uint8_t*>(p);
    return bytes ? std::vector<uint8_t>(first, first + bytes) : std::vector<uint8_t>(1);
  }
  DeviceArray<uint8_t> data_, scales_, mins_, steps_;
  cuda::MatrixArgs args_;
};

}  // namespace winnow::test
