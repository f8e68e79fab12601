// SPDX-License-Identifier: GPL-3.0-or-later
// Weight versions in device memory. What the file holds as it is goes over in pieces. Round-to-nearest and magnitude pruning of plain
// values are made on the device, from a copy of the file's values that some session has there, else from rows streamed through it; the
// bytes are the host's. What other methods make is made on the host and goes over when it is whole. On a stream of its own, on any thread.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <mutex>

#include "engine/cuda/memory.h"
#include "engine/weights/place.h"

namespace winnow::cuda {

struct DeviceMatrix {
  DeviceBuffer codes, scales, mins, steps;
};

// What WeightPlace says of the two, of matrices in device memory; the caller's thread uses the device. Channels are laid out on the host.
std::shared_ptr<const ChannelMajor> channelsOnDevice(Ledger& device, const Matrix& matrix, bool columns, ThreadPool& pool, const Progress& progress);
void fetchMatrix(const Matrix& matrix, Matrix& copy);

class DevicePlace final : public WeightPlace {
 public:
  DevicePlace(Ledger& device, int ordinal) : device_(device), ordinal_(ordinal) {}
  bool planning() const override { return device_.planning(); }
  Converted make(const WeightWork& work, WeightVersion& out) override;
  int64_t bytes(const MasterTensor& tensor, const Recipe& recipe) const override;
  std::shared_ptr<const ChannelMajor> makeChannels(const Matrix& matrix, bool columns, ThreadPool& pool, const Progress& progress) override;
  const Matrix& onHost(const Matrix& matrix, Matrix& copy) const override;
  int64_t madeHere() const { return madeHere_; }  // versions converted on the device

 private:
  Converted copyFile(const WeightWork& work, const DeviceMatrix& to, Stream stream);
  Converted quantize(const WeightWork& work, const Matrix& out, Stream stream);
  Converted prune(const WeightWork& work, const Matrix& out, Stream stream);
  Converted sparse(const WeightWork& work, WeightVersion& out);
  Converted fromHost(const WeightWork& work, const DeviceMatrix& to, WeightVersion& out, Stream stream);
  std::shared_ptr<const DeviceMatrix> resident(const MasterTensor& tensor);

  Ledger& device_;
  int ordinal_;
  std::mutex mutex_;
  std::map<const MasterTensor*, std::weak_ptr<const DeviceMatrix>> copies_;  // of the file's own values
  std::atomic<int64_t> madeHere_{0};
};

}  // namespace winnow::cuda
