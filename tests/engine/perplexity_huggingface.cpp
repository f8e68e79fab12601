// SPDX-License-Identifier: GPL-3.0-or-later
// hf-doc and hf-exact against transformers itself on tiny models: the same windows, the same NLL in each, the same perplexity
// (tests/golden/perplexity, made by its make.py). What is left is the 16-bit cache here.
#include <nlohmann/json.hpp>

#include "engine/evaluate/perplexity.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr const char* kGolden = WINNOW_TESTS_DIR "/golden/perplexity/huggingface.json";

PerplexityResult measure(const std::shared_ptr<Engine>& engine, const std::string& text, PerplexityMode mode, const nlohmann::json& run) {
  PerplexityRequest request;
  request.mode = mode;
  request.context = run["context"];
  request.stride = run["stride"];
  const auto session = makeSession(engine, Config(), {.context = request.context});
  return value(measurePerplexity(*session, nullptr, *engine->tokenizer(), text, request, {}));
}

void agrees(const std::string& model) {
  const auto golden = nlohmann::json::parse(readFile(kGolden));
  const auto engine = value(Engine::create(value(Model::open(std::string(WINNOW_TESTS_DIR) + "/golden/hf/" + model)), {}));
  const std::string text = golden["text"];
  const auto& expected = golden["models"][model];
  EXPECT_EQ(static_cast<int>(engine->tokenizer()->encode(text, true).size()), expected["tokens"].get<int>());
  for (const auto& run : expected["runs"]) {
    const auto exact = measure(engine, text, PerplexityMode::hfExact, run), doc = measure(engine, text, PerplexityMode::hfDoc, run);
    EXPECT_EQ(exact.windows.size(), run["windows"].size());
    EXPECT_EQ(exact.count, static_cast<int64_t>(expected["tokens"].get<int>() - (run["stride"] == run["context"] ? static_cast<int>(run["windows"].size()) : 1)));
    double worst = 0;
    for (size_t i = 0; i < exact.windows.size(); ++i) {
      const auto& window = run["windows"][i];
      EXPECT_EQ(exact.windows[i].firstToken, window[0].get<int64_t>());
      EXPECT_EQ(exact.windows[i].count, window[1].get<int>());
      worst = std::max(worst, std::fabs(exact.windows[i].nllSum / exact.windows[i].count / window[2].get<double>() - 1));
    }
    const double exactError = exact.perplexity / run["exact_perplexity"].get<double>() - 1, docError = doc.perplexity / run["perplexity"].get<double>() - 1;
    std::printf("  %-12s c=%d s=%-2d %3zu windows: hf-doc %.4f (%+.1e), hf-exact %.4f (%+.1e), worst window %.1e\n", model.c_str(), run["context"].get<int>(),
                run["stride"].get<int>(), exact.windows.size(), doc.perplexity, docError, exact.perplexity, exactError, worst);
    EXPECT(worst < 3e-4, model, worst);
    EXPECT(std::fabs(exactError) < 1e-4, model, exactError);
    EXPECT(std::fabs(docError) < 1e-4, model, docError);
  }
}

}  // namespace

TEST(gpt2_as_transformers_scores_it) { agrees("gpt2"); }
TEST(llama_as_transformers_scores_it) { agrees("llama-linear"); }
TEST(qwen2_as_transformers_scores_it) { agrees("qwen2"); }
