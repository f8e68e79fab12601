// SPDX-License-Identifier: GPL-3.0-or-later
// A set of weights on the device, byte for byte what the host holds.
#pragma once
#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/cuda/memory.h"
#include "engine/weights/store.h"

namespace winnow::cuda {

class DeviceWeights {
 public:
  // Throws std::bad_alloc when the device is full. The set is kept, as its addresses are what matrices are asked for by.
  DeviceWeights(Ledger& ledger, std::shared_ptr<const WeightSet> set, Stream stream);

  const WeightSet& host() const { return *set_; }
  MatrixArgs matrix(const Matrix* host) const;
  const float* vector(const float* host) const;  // null for null

  // Decodes packed matrices to f16 beside them, as many as fit into `room` bytes, the first ones first; prefill then multiplies those
  // without decoding again. Returns the bytes taken. dropTwins frees them.
  size_t makeTwins(Ledger& ledger, size_t room, Stream stream);
  void dropTwins();

 private:
  const void* upload(Ledger& ledger, const void* host, size_t bytes, Stream stream);
  std::shared_ptr<const WeightSet> set_;
  std::vector<DeviceBuffer> buffers_, twins_;
  std::unordered_map<const Matrix*, MatrixArgs> matrices_;
  std::unordered_map<const void*, const float*> vectors_;
};

}  // namespace winnow::cuda
