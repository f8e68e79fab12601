// SPDX-License-Identifier: GPL-3.0-or-later
// The starter model (resources/starter) as Hugging Face transformers and llama.cpp compute it; golden values by
// tests/golden/starter/make.py.
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/evaluate/perplexity.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

const std::string kGolden = WINNOW_TESTS_DIR "/golden/starter/";
const std::string kResources = WINNOW_TESTS_DIR "/../resources/";

std::shared_ptr<Engine> engine(const char* name = "starter") {
  return value(Engine::create(value(Model::open(kResources + "starter/" + name + ".gguf")), {}));
}

}  // namespace

// What is left is the 16-bit cache here: keys and values are rounded to 2^-11 of themselves.
TEST(logits_are_those_of_transformers) {
  const auto golden = nlohmann::json::parse(readFile(kGolden + "golden.json"));
  const auto ids = golden["ids"].get<std::vector<int32_t>>();
  const std::string raw = readFile(kGolden + "logits.f32");
  const auto session = makeSession(engine(), configure({{"compute.activations", "f32"}}));
  const size_t vocab = static_cast<size_t>(session->vocab());
  std::vector<float> all(ids.size() * vocab);
  ok(session->prefill(ids, {}, [&](int first, int count, const float* logits) {
    std::copy_n(logits, static_cast<size_t>(count) * vocab, all.data() + static_cast<size_t>(first) * vocab);
  }));
  const auto positions = golden["positions"].get<std::vector<size_t>>();
  EXPECT_EQ(raw.size(), positions.size() * vocab * sizeof(float));
  for (size_t i = 0; i < positions.size(); ++i) {
    double difference = 0, norm = 0;
    for (size_t v = 0; v < vocab; ++v) {
      float expected;
      std::memcpy(&expected, raw.data() + (i * vocab + v) * sizeof(float), sizeof expected);
      const double d = all[positions[i] * vocab + v] - expected;
      difference += d * d;
      norm += double{expected} * expected;
    }
    EXPECT(std::sqrt(difference / norm) < 1e-3, "position", positions[i], std::sqrt(difference / norm));
  }
}

TEST(token_ids_are_those_of_transformers) {
  const auto starter = engine(), proxy = engine("proxy");
  std::istringstream lines(readFile(kGolden + "texts.jsonl"));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto golden = nlohmann::json::parse(line);
    const std::string text = golden["text"];
    const auto ids = golden["ids"].get<std::vector<int32_t>>();
    EXPECT(starter->tokenizer()->encode(text, false) == ids, text);
    EXPECT(proxy->tokenizer()->encode(text, false) == ids, text);
  }
  EXPECT_EQ(count, 1000);
  const std::vector<int32_t> once = starter->tokenizer()->encode("Once", true);
  EXPECT_EQ(once.front(), 0);  // every sequence starts with BOS
}

TEST(perplexity_is_that_of_llama_cpp) {
  const auto golden = nlohmann::json::parse(readFile(kGolden + "perplexity.json"));
  PerplexityRequest request;
  request.context = golden["context"];
  const auto starter = engine();
  const auto session = makeSession(starter, Config(), {.context = request.context});
  const auto result = value(measurePerplexity(*session, nullptr, *starter->tokenizer(), readFile(kResources + "texts/sample.txt"), request, {}));
  EXPECT_EQ(result.count, golden["count"].get<int64_t>());
  const double error = result.perplexity / golden["perplexity"].get<double>() - 1;
  EXPECT(std::fabs(error) < 1e-3, result.perplexity, error);
}

// Divergence from the full cache with a quarter of it, token by token. Chance is the mean of three seeds.
TEST(policies_that_look_at_attention_beat_chance) {
  const auto starter = engine();
  const std::string text = readFile(kResources + "texts/sample.txt");
  PerplexityRequest request;
  request.context = 256;
  request.chunks = 1;
  request.stepwise = true;
  const auto divergence = [&](const char* policy, const char* seed = "0") {
    const auto full = makeSession(starter, Config(), {.context = request.context});
    const auto session = makeSession(starter, configure({{"kv.policy", policy}, {"kv.budget", "0.25"}, {"kv.interval", "1"}, {"kv.seed", seed}}),
                                     {.context = request.context});
    return value(measurePerplexity(*session, full.get(), *starter->tokenizer(), text, request, {})).kld->mean;
  };
  const double chance = (divergence("random") + divergence("random", "1") + divergence("random", "2")) / 3;
  const double even = divergence("snapkv"), dealt = divergence("adakv");
  EXPECT(even < 0.6 * chance, even, chance);
  EXPECT(dealt < 1.05 * even, dealt, even);
  for (const char* policy : {"h2o", "tova", "pyramidkv", "scissorhands", "keyformer", "expected"}) {
    const double chosen = divergence(policy);
    EXPECT(chosen < 0.7 * chance, policy, chosen, chance);  // TOVA, the nearest, 0.61 over this one window
  }
}
