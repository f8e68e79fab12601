// SPDX-License-Identifier: GPL-3.0-or-later
// Weight versions made on the device are the host's bytes: rounded from the file's rows, from a copy that is there already, pruned, and
// those that the host makes.
#include <cstring>

#include "engine/cuda/weights.h"
#include "engine/weights/store.h"
#include "tests/cuda_emulation/harness.h"
#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

namespace {

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
  std::shared_ptr<const WeightSet> build(const Model& model, const Config& config) {
    return value(store->build(weightTarget(model, resolve(config, model.config()).config, ""), pool, {}, {}));
  }
};

void expectSameBytes(const void* host, const void* device, size_t bytes, const std::string& what) {
  EXPECT(!host == !device, what);
  if (!host || bytes == 0) return;
  std::vector<char> found(bytes);
  mustSucceed(cudaMemcpy(found.data(), device, bytes, cudaMemcpyDeviceToHost));
  EXPECT(std::memcmp(found.data(), host, bytes) == 0, what);
}

void expectSameSet(const Model& model, const WeightSet& host, const WeightSet& device) {
  for (size_t i = 0; i < host.versions.size(); ++i) {
    const Matrix &a = host.versions[i]->matrix, &b = device.versions[i]->matrix;
    const std::string name = model.tensors()[i].fileName + " as " + a.format.describe();
    EXPECT(a.format == b.format && a.rows == b.rows && a.cols == b.cols, name);
    const bool packed = a.format.storage == Storage::packed;
    const size_t scales = packed ? a.format.scaleBytes(a.rows, a.cols) : 0;
    expectSameBytes(a.data, b.data, packed ? a.format.codeBytes(a.rows, a.cols) : a.bytes(), name);
    expectSameBytes(a.scales, b.scales, scales, name + ": scales");
    expectSameBytes(a.mins, b.mins, scales, name + ": minimums");
    expectSameBytes(a.steps, b.steps, a.format.stepBytes(a.rows, a.cols), name + ": steps");
  }
}

}  // namespace

TEST(every_recipe_gives_the_hosts_bytes) {
  for (const char* family : {"llama3", "gpt2"}) {  // rows in the file, and transposed ones
    const auto model = openFamily(family);
    for (const Settings& settings :
         {Settings{}, Settings{{"weights.bits", "3"}}, Settings{{"weights.bits", "8"}}, Settings{{"weights.bits", "4"}, {"weights.symmetric", "false"}},
          Settings{{"prune.ratio", "0.5"}}, Settings{{"weights.bits", "4"}, {"prune.ratio", "0.3"}}}) {
      Shop host(model, false), device(model, true);
      const Config config = configure(settings);
      const auto expected = host.build(*model, config), found = device.build(*model, config);
      expectSameSet(*model, *expected, *found);
      EXPECT_EQ(device.place->madeHere() > 0, !settings.empty());
      int64_t bytes = 0;
      for (const auto& version : found->versions) bytes += static_cast<int64_t>(version->matrix.bytes());
      EXPECT_EQ(device.ledger.total(), bytes);  // nothing is left of the making
    }
  }
}

TEST(a_copy_that_is_there_is_what_is_rounded) {
  const auto model = openFamily("qwen2");
  Shop host(model, false), device(model, true);
  const auto whole = device.build(*model, Config());
  const Config config = configure({{"weights.bits", "4"}});
  expectSameSet(*model, *host.build(*model, config), *device.build(*model, config));
}
