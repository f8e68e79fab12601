// SPDX-License-Identifier: GPL-3.0-or-later
// Weight versions in device memory: what the file holds as it is goes over in pieces, what a method makes is made on the host and goes
// over when it is whole. Works on a stream of its own, on any thread.
#pragma once
#include "engine/cuda/memory.h"
#include "engine/weights/place.h"

namespace winnow::cuda {

class DevicePlace final : public WeightPlace {
 public:
  DevicePlace(Ledger& device, int ordinal) : device_(device), ordinal_(ordinal) {}
  bool planning() const override { return device_.planning(); }
  Converted make(const WeightWork& work, WeightVersion& out) override;
  int64_t bytes(const MasterTensor& tensor, const Recipe& recipe) const override;

 private:
  Ledger& device_;
  int ordinal_;
};

}  // namespace winnow::cuda
