// SPDX-License-Identifier: GPL-3.0-or-later
// Recovery on trained models: what it is worth on text that calibration did not see, what it goes together with, what becomes of it where it can't act.
#include "engine/recover/method.h"
#include "tests/support/compression_meter.h"

using namespace winnow;
using namespace winnow::test;

namespace {
constexpr int kWindows = 6;
}

// Measured at 50 %: 0.72 to 0.23 and 1.58 to 1.18 for Wanda, 0.56 to 0.34 and 1.62 to 1.46 for SparseGPT.
TEST(fitted_weights_diverge_less_on_text_they_were_not_fitted_to) {
  for (const char* file : {kSmallLlama, kStories}) {
    const CompressionMeter divergence(file, kWindows);
    for (const char* method : {"wanda", "sparsegpt"})
      for (const char* pattern : {"unstructured", "2:4"}) {
        const auto with = [&](const char* recovery) {
          return divergence({{"prune.ratio", "0.5"}, {"prune.method", method}, {"prune.pattern", pattern}, {"prune.recovery", recovery}});
        };
        const double alone = with("none");
        for (const char* recovery : {"least-squares", "regression", "admm"}) EXPECT(with(recovery) < 0.97 * alone, file, method, pattern, recovery, with(recovery), alone);
      }
  }
}

// Recovery comes before rounding: what it gained is still there afterwards, and GPTQ adds to it.
TEST(recovered_weights_can_be_rounded) {
  const CompressionMeter divergence(kSmallLlama, kWindows);
  const auto with = [&](const char* recovery, const char* quantize) {
    return divergence({{"prune.ratio", "0.5"}, {"prune.method", "wanda"}, {"prune.recovery", recovery}, {"weights.bits", "4"}, {"weights.method", quantize}});
  };
  for (const char* quantize : {"rtn", "gptq"}) EXPECT(with("least-squares", quantize) < 0.8 * with("none", quantize), quantize);
  EXPECT(with("least-squares", "gptq") < with("least-squares", "rtn"));
}

TEST(recovery_can_be_taken_back) {
  const CompressionMeter meter(kSmallLlama, kWindows);
  const auto session = makeSession(meter.engine(), meter.with({{"prune.ratio", "0.5"}, {"prune.method", "wanda"}}), {.context = 128});
  const auto tokens = someTokens(20, meter.engine()->model().config().vocab);
  const auto before = logitsAfter(*session, tokens);
  const auto change = [&](const char* recovery) {
    session->request(meter.with({{"prune.ratio", "0.5"}, {"prune.method", "wanda"}, {"prune.recovery", recovery}}));
    ok(session->finishPending({}));
    return logitsAfter(*session, tokens);
  };
  for (const RecoveryMethod& method : recoveryMethods()) {
    EXPECT(change(method.name.c_str()) != before, method.name);
    EXPECT(change("none") == before, method.name);
  }
}

TEST(recovery_does_not_depend_on_threads) {
  const CompressionMeter meter(kStories, kWindows);
  for (const RecoveryMethod& method : recoveryMethods()) {
    const char* recovery = method.name.c_str();
    std::vector<float> first;
    for (const int threads : {1, 3}) {
      const auto engine = openEngine(kStories, threads);
      const auto session = makeSession(engine, meter.with({{"prune.ratio", "0.5"}, {"prune.method", "wanda"}, {"prune.recovery", recovery}}), {.context = 128});
      const auto logits = logitsAfter(*session, someTokens(20, engine->model().config().vocab));
      if (first.empty()) first = logits;
      EXPECT(logits == first, recovery, threads);
    }
  }
}

TEST(recovery_of_nothing_says_so) {
  const CompressionMeter meter(kSmallLlama, kWindows);
  const ModelConfig& model = meter.engine()->model().config();
  for (const Settings& settings : {Settings{{"prune.recovery", "admm"}}, Settings{{"prune.recovery", "admm"}, {"prune.method", "wanda"}}}) {
    const Effective effective = resolve(configure(settings), model);
    EXPECT(effective.adjustments.size() == 1 && effective.adjustments[0].knob == "prune.recovery" && effective.config.text("prune.recovery") == "none");
  }
  EXPECT(resolve(configure({{"prune.recovery", "admm"}, {"prune.ratio", "0.5"}}), model).asRequested());
}

// Scaled inputs have other moments than those that were measured.
TEST(recovery_and_scaled_inputs_exclude_each_other) {
  const CompressionMeter meter(kSmallLlama, kWindows);
  const auto session = makeSession(meter.engine(), meter.with({{"prune.ratio", "0.5"}, {"prune.recovery", "scale"}, {"weights.bits", "4"}, {"weights.method", "awq"}}), {.context = 128});
  const auto effective = session->effective();
  const auto& adjustments = effective->adjustments;
  EXPECT(std::any_of(adjustments.begin(), adjustments.end(), [](const Adjustment& a) {
    return a.knob == "weights.method" && toText(a.effective) == "rtn" && a.reason.rfind("scale corrects weights", 0) == 0;
  }));
}

TEST(a_text_that_recovery_saw_is_no_evidence) {
  const auto engine = openEngine(kStories, 1);
  const std::string path = sharedData("corpora/tinystories_60k.txt"), text = readFile(path);
  for (const char* recovery : {"none", "bias", "scale"}) {
    const auto session = makeSession(engine, configure({{"prune.ratio", "0.5"}, {"prune.recovery", recovery}, {"calibration.text", path.c_str()}}), {.context = 128});
    PerplexityRequest request;
    request.context = 128;
    request.chunks = 1;
    EXPECT(measurePerplexity(*session, nullptr, *engine->tokenizer(), text, request, {}).ok() == (std::string_view(recovery) == "none"), recovery);
  }
}
