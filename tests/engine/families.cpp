// SPDX-License-Identifier: GPL-3.0-or-later
// Every family against Hugging Face transformers on tiny random models (tests/golden/hf, made by its make.py): token ids of a
// sentence are equal, logits agree to 1e-3 of their norm. The bound is the f16 cache: keys and values are rounded to 2^-11
// relative, everything else here is f32.
#include "tests/support/check.h"

#include <nlohmann/json.hpp>

#include "engine/run/engine.h"

using namespace winnow;

namespace {

void agrees(const std::string& family) {
  const std::string folder = std::string(WINNOW_TESTS_DIR) + "/golden/hf/" + family;
  const auto golden = nlohmann::json::parse(test::readFile(folder + "/golden.json"));
  const std::string raw = test::readFile(folder + "/logits.f32");
  auto model = Model::open(folder);
  if (!model) throw std::runtime_error(model.error().message);
  auto engine = Engine::create(*model, {"cpu", 1, {}});
  if (!engine) throw std::runtime_error(engine.error().message);
  EXPECT((*engine)->tokenizer()->encode(golden["sentence"].get<std::string>(), false) == golden["sentence_ids"].get<std::vector<int32_t>>(), family);

  auto session = (*engine)->createSession(Config(), {}, {});
  if (!session) throw std::runtime_error(session.error().message);
  const auto ids = golden["ids"].get<std::vector<int32_t>>();
  const auto positions = golden["positions"].get<std::vector<int>>();
  const int vocab = (*model)->config().vocab;
  std::vector<float> all(ids.size() * static_cast<size_t>(vocab));
  const Status fed = (*session)->prefill(ids, {}, [&](int first, int count, const float* logits) {
    std::copy_n(logits, static_cast<size_t>(count) * static_cast<size_t>(vocab), all.data() + static_cast<size_t>(first) * static_cast<size_t>(vocab));
  });
  if (!fed) throw std::runtime_error(fed.error().message);
  for (size_t i = 0; i < positions.size(); ++i) {
    double difference = 0, norm = 0;
    for (int v = 0; v < vocab; ++v) {
      float expected;
      std::memcpy(&expected, raw.data() + (i * static_cast<size_t>(vocab) + static_cast<size_t>(v)) * sizeof(float), sizeof expected);
      const double d = all[static_cast<size_t>(positions[i] * vocab + v)] - expected;
      difference += d * d;
      norm += double{expected} * expected;
    }
    EXPECT(std::sqrt(difference / norm) < 1e-3, family, "position", positions[i], std::sqrt(difference / norm));
  }
}

}  // namespace

TEST(llama3_scaled_rope_untied) { agrees("llama3"); }
TEST(llama_linear_rope_tied) { agrees("llama-linear"); }
TEST(mistral_sliding_window) { agrees("mistral"); }
TEST(qwen2_biases) { agrees("qwen2"); }
TEST(qwen3_head_norms_sharded) { agrees("qwen3"); }
TEST(gpt2_learned_positions_conv1d) { agrees("gpt2"); }
