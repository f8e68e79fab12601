// SPDX-License-Identifier: GPL-3.0-or-later
// Whole prefills of small models on the (emulated) device against the CPU on the same weights (model_pair.h).
#include "engine/cuda/decode.h"
#include "engine/cuda/prefill.h"
#include "tests/cuda_emulation/model_pair.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr int kBatch = 48;

struct Pair : ModelPair {
  cuda::Prefill prefill;

  Pair(const std::string& family, const std::vector<std::pair<std::string, std::string>>& settings, int64_t probabilityBytes = 1 << 22)
      : ModelPair(family, settings, kBatch, probabilityBytes),
        prefill(device, model->config(), kBatch, probabilityBytes, nullptr) {}

  std::vector<int32_t> someTokens(int count, int seed = 0) const {
    std::vector<int32_t> out;
    for (int i = 0; i < count; ++i) out.push_back(static_cast<int32_t>(((fed + i) * 37 + 11 + seed) % model->config().vocab));
    return out;
  }

  // Feeds a chunk of one sequence to both; the worst distance of any row's logits.
  double chunk(int count, LinearInputTap* tap = nullptr, LinearInputTap* deviceTap = nullptr, AttentionTap* attention = nullptr,
               AttentionTap* deviceAttention = nullptr) {
    const auto tokens = someTokens(count);
    const auto vocab = static_cast<size_t>(model->config().vocab);
    std::vector<float> expected, found;
    const Session::LogitsSink sink = [&](int, int rows, const float* logits) {
      expected.insert(expected.end(), logits, logits + static_cast<size_t>(rows) * vocab);
    };
    const cuda::DeviceLogitsSink deviceSink = [&](int first, int rows, const float* logits) {
      EXPECT_EQ(found.size(), static_cast<size_t>(first) * vocab);
      found.resize(found.size() + static_cast<size_t>(rows) * vocab);
      cudaMemcpy(found.data() + static_cast<size_t>(first) * vocab, logits, static_cast<size_t>(rows) * vocab * 4, cudaMemcpyDeviceToHost);
    };
    cache.reserve(count);
    const SequenceRows rows{&cache, fed, count};
    forward.run({plan, *weights, {&rows, 1}, tokens, activations, true, &sink, 0, 0, tap, nullptr, attention});
    const cuda::DeviceRows deviceRows{&deviceCache, fed, count};
    prefill.run({plan, deviceWeights, {&deviceRows, 1}, tokens, activations, true, &deviceSink, 0, 0, deviceTap, deviceAttention});
    fed += count;
    EXPECT_EQ(found.size(), vocab * static_cast<size_t>(count));
    double worst = 0;
    for (size_t at = 0; at < found.size(); at += vocab) worst = std::max(worst, distance({&found[at], vocab}, {&expected[at], vocab}));
    const auto last = prefill.logits();
    EXPECT(std::equal(last.begin(), last.end(), found.end() - static_cast<std::ptrdiff_t>(vocab)));
    return worst;
  }
};

}  // namespace

// A chunk, another behind it (past the sliding window), and the decoder behind both.
TEST(every_family_prefills_as_on_the_cpu) {
  uint32_t seed = 0;
  for (const char* family : kFamilies) {
    emulator::setSeed(seed++);
    Pair pair(family, {});
    for (int count : {14, 3, 17}) {
      const double worst = pair.chunk(count);
      EXPECT(worst <= kLogitsBound, family, count, worst);
    }
    cuda::Decoder decoder(pair.device, pair.model->config(), kContext, nullptr);
    const int32_t token = 5;
    pair.cache.reserve(1);
    const SequenceRows row{&pair.cache, pair.fed, 1};
    pair.forward.run({pair.plan, *pair.weights, {&row, 1}, {&token, 1}, pair.activations});
    decoder.step({pair.plan, pair.deviceWeights, pair.deviceCache, 1, token, pair.fed, pair.activations});
    const double worst = distance(decoder.logits(), pair.forward.logits());
    EXPECT(worst <= kLogitsBound, family, worst);
  }
  emulator::setSeed(0);
}

// int8: a value next to the middle between two integers that goes to the other side moves by 1/127 of the largest of its group. These
// models have one group of 32 to a row, of which that is up to 2 %, and a chunk has many rows: 4/127 here.
TEST(every_weight_format_and_mode_prefills_as_on_the_cpu) {
  for (const char* bits : {"2", "3", "4", "5", "6", "8"})
    for (const char* mode : {"auto", "f32", "int8"}) {
      Pair pair("qwen3", {{"weights.bits", bits}, {"compute.activations", mode}});
      const double worst = pair.chunk(11);
      EXPECT(worst <= (std::string(mode) == "int8" ? 4.0 / 127 : kLogitsBound), bits, mode, worst);
    }
  Pair half("qwen2", {{"compute.activations", "16bit"}});
  const double worst = half.chunk(12);
  EXPECT(worst <= kLogitsBound, worst);
}

// Handed over or made again from the leader's queries and keys: the same to 1e-5.
TEST(followers_use_their_leaders_probabilities) {
  for (const char* family : {"llama3", "gpt2"}) {
    std::vector<std::vector<float>> logits;
    for (int64_t bytes : {int64_t{1} << 22, int64_t{0}}) {
      Pair pair(family, {{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}, bytes);
      EXPECT(pair.plan.follower(1));
      for (int count : {12, 10}) EXPECT(pair.chunk(count) <= kLogitsBound, family, bytes);
      logits.push_back(pair.prefill.logits());
    }
    EXPECT(distance(logits[0], logits[1]) <= 1e-5, family);
  }
}

// Rows of several sequences go through the matrices together and are each what they are alone.
TEST(sequences_share_a_batch) {
  for (const char* family : {"llama3", "mistral"}) {
    Pair pair(family, {});
    const ModelConfig& model = pair.model->config();
    const int counts[] = {5, 1, 13};
    std::vector<std::unique_ptr<KvCache>> hostCaches;
    std::vector<std::unique_ptr<cuda::DeviceKvCache>> deviceCaches;
    for (int i = 0; i < 3; ++i) {
      hostCaches.push_back(std::make_unique<KvCache>(pair.host, model, kContext));
      deviceCaches.push_back(std::make_unique<cuda::DeviceKvCache>(pair.device, model, kContext, nullptr));
    }
    for (int round = 0; round < 2; ++round) {
      std::vector<SequenceRows> rows;
      std::vector<cuda::DeviceRows> deviceRows;
      std::vector<int32_t> tokens;
      for (size_t i = 0; i < 3; ++i) {
        hostCaches[i]->reserve(counts[i]);
        rows.push_back({hostCaches[i].get(), round * counts[i], counts[i]});
        deviceRows.push_back({deviceCaches[i].get(), round * counts[i], counts[i]});
        for (int32_t token : pair.someTokens(counts[i], static_cast<int>(i) * 50 + round)) tokens.push_back(token);
      }
      pair.forward.run({pair.plan, *pair.weights, rows, tokens, pair.activations});
      pair.prefill.run({pair.plan, pair.deviceWeights, deviceRows, tokens, pair.activations});
      const double worst = distance(pair.prefill.logits(), pair.forward.logits());
      EXPECT(worst <= kLogitsBound, family, round, worst);
    }
    for (size_t i = 0; i < 3; ++i)
      for (int layer = 0; layer < model.layers; ++layer) {
        const auto found = deviceCaches[i]->positions(layer, 0, nullptr);
        const auto expected = hostCaches[i]->positions(layer, 0);
        EXPECT(std::equal(found.begin(), found.end(), expected.begin(), expected.end()), family, i, layer);
      }
  }
}

TEST(column_sums_and_eviction_between_chunks) {
  Pair pair("llama3", {});
  pair.cache.trackColumnSums(true);
  pair.deviceCache.trackColumnSums(true, nullptr);
  EXPECT(pair.chunk(30) <= kLogitsBound);
  const int layers = pair.model->config().layers, kvHeads = pair.model->config().kvHeads;
  for (int layer = 0; layer < layers; ++layer) {
    std::vector<std::vector<int32_t>> keep(static_cast<size_t>(kvHeads));
    for (int h = 0; h < kvHeads; ++h) {
      for (int s = 0; s < 30; ++s)
        if (s < 3 || s > 20 - h * 10) keep[static_cast<size_t>(h)].push_back(s);
      pair.cache.keep(layer, h, keep[static_cast<size_t>(h)]);
    }
    pair.deviceCache.keep(layer, keep, nullptr);
  }
  EXPECT(pair.chunk(9) <= kLogitsBound);
  EXPECT(pair.chunk(1) <= kLogitsBound);
  for (int layer = 0; layer < layers; ++layer)
    for (int h = 0; h < kvHeads; ++h) {
      std::vector<float> sums(static_cast<size_t>(pair.deviceCache.slots(layer, h)));
      const auto expected = pair.cache.columnSums(layer, h);
      EXPECT_EQ(sums.size(), expected.size());
      cudaMemcpy(sums.data(), pair.deviceCache.columnSums(layer) + h * pair.deviceCache.columnStride(), sums.size() * 4,
                 cudaMemcpyDeviceToHost);
      for (size_t i = 0; i < sums.size(); ++i) EXPECT_NEAR(sums[i], expected[i], kLogitsBound * (1 + std::fabs(expected[i])));
    }
}

namespace {

struct InputRecord : LinearInputTap {
  std::vector<std::vector<float>> rows;
  std::vector<int> where;
  void take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) override {
    where.push_back(layer * 100 + static_cast<int>(input));
    rows.emplace_back();
    for (int t = 0; t < tokens; ++t) rows.back().insert(rows.back().end(), x + t * stride, x + t * stride + cols);
  }
};
struct AttentionRecord : AttentionTap {
  std::vector<std::vector<float>> rows;
  std::vector<int64_t> where;
  void take(int layer, const AttentionRows& r) override {
    where.insert(where.end(), {layer, r.heads, r.queries, r.columns, r.first});
    rows.emplace_back();
    for (int64_t i = 0; i < int64_t{r.heads} * r.queries; ++i)
      rows.back().insert(rows.back().end(), r.probabilities + i * r.stride, r.probabilities + i * r.stride + r.columns);
  }
};
template <class Record>
void expectAlike(const Record& found, const Record& expected) {
  EXPECT(found.where == expected.where);
  EXPECT(!expected.rows.empty() && found.rows.size() == expected.rows.size());
  for (size_t i = 0; i < expected.rows.size(); ++i) {
    double difference = 0, norm = 0;
    for (size_t k = 0; k < expected.rows[i].size(); ++k) {
      difference += std::pow(static_cast<double>(found.rows[i][k]) - expected.rows[i][k], 2);
      norm += std::pow(static_cast<double>(expected.rows[i][k]), 2);
    }
    EXPECT(std::sqrt(difference / norm) <= kLogitsBound, i);
  }
}

}  // namespace

TEST(taps_are_handed_what_the_cpu_hands_them) {
  Pair pair("qwen2", {{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}});
  InputRecord inputs, deviceInputs;
  AttentionRecord attention, deviceAttention;
  for (int count : {9, 12, 1}) EXPECT(pair.chunk(count, &inputs, &deviceInputs, &attention, &deviceAttention) <= kLogitsBound);
  expectAlike(deviceInputs, inputs);
  expectAlike(deviceAttention, attention);
  // Taps change nothing.
  Pair bare("qwen2", {{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}});
  for (int count : {9, 12, 1}) bare.chunk(count);
  EXPECT(bare.prefill.logits() == pair.prefill.logits());
}

TEST(the_ledger_counts_what_the_device_holds) {
  const size_t before = emulator::allocatedBytes();
  {
    Pair pair("mistral", {{"weights.bits", "4"}});
    pair.chunk(20);
    EXPECT_EQ(static_cast<size_t>(pair.device.total()), emulator::allocatedBytes() - before);
    EXPECT_EQ(pair.deviceCache.allocatedBytes(), pair.cache.allocatedBytes());
  }
  EXPECT_EQ(emulator::allocatedBytes(), before);
}
