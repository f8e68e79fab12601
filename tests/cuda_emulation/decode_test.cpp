// SPDX-License-Identifier: GPL-3.0-or-later
// Whole decode steps of small models on the (emulated) device against the CPU on the same weights, token by token (model_pair.h).
#include "engine/cuda/decode.h"
#include "tests/cuda_emulation/model_pair.h"

using namespace winnow;
using namespace winnow::test;

namespace {

struct Pair : ModelPair {
  cuda::Decoder decoder;
  uint64_t epoch = 1;

  Pair(const std::string& family, const std::vector<std::pair<std::string, std::string>>& settings)
      : ModelPair(family, settings, 1, int64_t{1} << 20), decoder(device, model->config(), kContext, nullptr) {}

  // Feeds a token to both; the distance of the logits.
  double step(int32_t token) {
    cache.reserve(1);
    const SequenceRows row{&cache, fed, 1};
    forward.run({plan, *weights, {&row, 1}, {&token, 1}, activations});
    decoder.step({plan, deviceWeights, deviceCache, epoch, token, fed, activations});
    ++fed;
    return distance(decoder.logits(), forward.logits());
  }
  double run(int count) {
    double worst = 0;
    for (int i = 0; i < count; ++i) worst = std::max(worst, step(static_cast<int32_t>((i * 37 + 11) % model->config().vocab)));
    return worst;
  }
};

}  // namespace

TEST(every_family_decodes_as_on_the_cpu) {
  for (const char* family : kFamilies)
    for (uint32_t seed : {0u, 7u}) {
      emulator::setSeed(seed);
      Pair pair(family, {});
      const double worst = pair.run(seed ? 6 : 24);  // past the sliding window
      EXPECT(worst <= kLogitsBound, family, seed, worst);
      EXPECT_EQ(pair.decoder.captures(), 1);  // one graph serves all tokens
    }
  emulator::setSeed(0);
}

TEST(every_weight_format_and_mode_decodes_as_on_the_cpu) {
  for (const char* bits : {"2", "3", "4", "5", "6", "8"})
    for (const char* mode : {"auto", "f32", "int8"}) {
      Pair pair("qwen3", {{"weights.bits", bits}, {"compute.activations", mode}});
      const double worst = pair.run(6);
      EXPECT(worst <= (std::string(mode) == "int8" ? 1.0 / 127 : kLogitsBound), bits, mode, worst);
    }
  Pair half("qwen2", {{"compute.activations", "16bit"}});
  const double worst = half.run(6);
  EXPECT(worst <= kLogitsBound, worst);
}

TEST(followers_use_their_leaders_probabilities) {
  for (const char* family : {"llama3", "gpt2"}) {
    Pair pair(family, {{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}});
    EXPECT(pair.plan.follower(1));
    const double worst = pair.run(8);
    EXPECT(worst <= kLogitsBound, family, worst);
  }
}

TEST(evicted_slots_are_gone_on_both_sides) {
  Pair pair("llama3", {});
  pair.cache.trackColumnSums(true);
  pair.deviceCache.trackColumnSums(true, nullptr);
  EXPECT(pair.run(40) <= kLogitsBound);
  const int layers = pair.model->config().layers, kvHeads = pair.model->config().kvHeads;
  const int64_t before = pair.deviceCache.allocatedBytes();
  for (int layer = 0; layer < layers; ++layer) {
    std::vector<std::vector<int32_t>> keep(static_cast<size_t>(kvHeads));
    for (int h = 0; h < kvHeads; ++h) {
      for (int s = 0; s < 40; ++s)
        if (s < 3 || s > 30 - h * 10) keep[static_cast<size_t>(h)].push_back(s);
      pair.cache.keep(layer, h, keep[static_cast<size_t>(h)]);
    }
    pair.deviceCache.keep(layer, keep, nullptr);
  }
  EXPECT(pair.deviceCache.allocatedBytes() < before);
  EXPECT_EQ(pair.deviceCache.allocatedBytes(), pair.cache.allocatedBytes());
  for (int layer = 0; layer < layers; ++layer)
    for (int h = 0; h < kvHeads; ++h) {
      const auto found = pair.deviceCache.positions(layer, h, nullptr);
      const auto expected = pair.cache.positions(layer, h);
      EXPECT(found.size() == expected.size() && std::equal(found.begin(), found.end(), expected.begin()), layer, h);
    }
  EXPECT(pair.run(8) <= kLogitsBound);
  for (int layer = 0; layer < layers; ++layer)
    for (int h = 0; h < kvHeads; ++h) {
      std::vector<float> sums(static_cast<size_t>(pair.deviceCache.slots(layer, h)));
      const auto expected = pair.cache.columnSums(layer, h);
      cudaMemcpy(sums.data(), pair.deviceCache.columnSums(layer) + h * pair.deviceCache.columnStride(), sums.size() * 4,
                 cudaMemcpyDeviceToHost);
      for (size_t i = 0; i < sums.size(); ++i) EXPECT_NEAR(sums[i], expected[i], kLogitsBound * (1 + std::fabs(expected[i])));
    }
}

// The bound on the lengths grows by powers of two: a new graph then, and at a new epoch; nowhere else.
TEST(graphs_are_captured_when_something_changes) {
  Pair pair("llama3", {});
  EXPECT(pair.run(127) <= kLogitsBound);
  EXPECT_EQ(pair.decoder.captures(), 1);
  EXPECT(pair.run(3) <= kLogitsBound);
  EXPECT_EQ(pair.decoder.captures(), 2);
  pair.epoch = 2;
  EXPECT(pair.run(2) <= kLogitsBound);
  EXPECT_EQ(pair.decoder.captures(), 3);
}

TEST(the_ledger_counts_what_the_device_holds) {
  const size_t before = emulator::allocatedBytes();
  {
    Pair pair("mistral", {{"weights.bits", "4"}});
    pair.run(20);
    EXPECT_EQ(static_cast<size_t>(pair.device.total()), emulator::allocatedBytes() - before);
    EXPECT_EQ(pair.device.bytes(MemoryTag::kv), pair.deviceCache.allocatedBytes());
    EXPECT_EQ(pair.deviceCache.allocatedBytes(), pair.cache.allocatedBytes());
  }
  EXPECT_EQ(emulator::allocatedBytes(), before);
}
