// SPDX-License-Identifier: GPL-3.0-or-later
// Stores of weight versions on the host and on the device, and whether both made the same bytes.
#pragma once
#include <cstring>

#include "engine/cuda/weights.h"
#include "engine/sparsify/step.h"
#include "engine/weights/store.h"
#include "tests/cuda_emulation/harness.h"
#include "tests/cuda_emulation/sessions.h"

namespace winnow::test {

struct Shop {
  Ledger ledger;
  ThreadPool pool{1};
  cuda::DevicePlace* place = nullptr;
  std::unique_ptr<WeightStore> store;

  Shop(const std::shared_ptr<const Model>& model, bool device) {
    std::unique_ptr<WeightPlace> made;
    if (device)
      made = std::make_unique<cuda::DevicePlace>(ledger, 0), place = static_cast<cuda::DevicePlace*>(made.get());
    else
      made = std::make_unique<HostPlace>(ledger);
    store = std::make_unique<WeightStore>(model, std::move(made));
  }
  std::shared_ptr<const WeightSet> build(const Model& model, const Config& config, const Measurements& measurements = {}) {
    return value(store->build(weightTarget(model, resolve(config, model.config()).config, ""), pool, measurements, {}));
  }
};

inline void expectSameBytes(const void* host, const void* device, size_t bytes, const std::string& what) {
  EXPECT(!host == !device, what);
  if (!host || bytes == 0) return;
  std::vector<char> found(bytes);
  mustSucceed(cudaMemcpy(found.data(), device, bytes, cudaMemcpyDeviceToHost));
  EXPECT(std::memcmp(found.data(), host, bytes) == 0, what);
}

inline void expectSameChannels(const ChannelMajor* host, const ChannelMajor* device, const std::string& what) {
  EXPECT(!host == !device, what);
  if (!host || !device) return;
  EXPECT(host->columns == device->columns && host->stride == device->stride && host->scaleStride == device->scaleStride && host->bytes() == device->bytes(), what);
  expectSameBytes(host->data.data(), device->data.data(), host->data.bytes(), what);
  expectSameBytes(host->scales.data(), device->scales.data(), host->scales.bytes(), what + ": scales");
  expectSameBytes(host->mins.data(), device->mins.data(), host->mins.bytes(), what + ": minimums");
}

inline void expectSameSet(const Model& model, const WeightSet& host, const WeightSet& device) {
  EXPECT(host.parts == device.parts);
  const auto same = [](const WeightVersion& onHost, const WeightVersion& onDevice, const std::string& of) {
    const Matrix &a = onHost.matrix, &b = onDevice.matrix;
    const std::string name = of + " as " + a.format.describe();
    EXPECT(a.format == b.format && a.rows == b.rows && a.cols == b.cols, name);
    const bool packed = a.format.storage == Storage::packed;
    const size_t scales = packed ? a.format.scaleBytes(a.rows, a.cols) : 0;
    expectSameBytes(a.data, b.data, packed ? a.format.codeBytes(a.rows, a.cols) : a.bytes(), name);
    expectSameBytes(a.scales, b.scales, scales, name + ": scales");
    expectSameBytes(a.mins, b.mins, scales, name + ": minimums");
    expectSameBytes(a.steps, b.steps, a.format.stepBytes(a.rows, a.cols), name + ": steps");
    EXPECT(onHost.corrections == onDevice.corrections, name + ": corrections");
  };
  for (size_t i = 0; i < host.versions.size(); ++i) same(*host.versions[i], *device.versions[i], model.tensors()[i].fileName);
  EXPECT_EQ(host.added.size(), device.added.size());
  for (size_t i = 0; i < host.added.size(); ++i) same(*host.added[i], *device.added[i], "shortcut or head " + std::to_string(i));
  EXPECT(!host.sparse == !device.sparse);
  for (size_t layer = 0; host.sparse && layer < host.sparse->layers.size(); ++layer) {
    const ChannelMajorLayer &a = host.sparse->layers[layer], &b = device.sparse->layers[layer];
    for (const auto channels : {&ChannelMajorLayer::q, &ChannelMajorLayer::k, &ChannelMajorLayer::v, &ChannelMajorLayer::o, &ChannelMajorLayer::gate, &ChannelMajorLayer::up, &ChannelMajorLayer::down})
      expectSameChannels((a.*channels).get(), (b.*channels).get(), "channels of layer " + std::to_string(layer));
  }
}

}  // namespace winnow::test
