// SPDX-License-Identifier: GPL-3.0-or-later
// A text that something was fitted to is no text to judge it by: whatever is fitted, and whether the text is the person's or the sample.
#include "engine/evaluate/held_out.h"

#include "engine/evaluate/perplexity.h"
#include "tests/support/engine.h"
#include "tests/support/shapes.h"

using namespace winnow;
using namespace winnow::test;

#ifdef WINNOW_HAS_TEXT
namespace {

std::string sentences(const char* who, int first) {
  std::string out;
  for (int i = 0; i < 60; ++i) out += "One day " + std::string(who) + " went to the park and counted " + std::to_string(first + i) + " red balls.\n";
  return out;
}

std::string written(const char* name, const std::string& text) {
  const std::string path = (scratch() / name).string();
  std::ofstream(path) << text;
  return path;
}

Status judged(const std::shared_ptr<Engine>& engine, const Config& config, const std::string& text) {
  const auto session = makeSession(engine, config, {.context = 64});
  PerplexityRequest request;
  request.context = 64;
  request.chunks = 1;
  const auto result = measurePerplexity(*session, nullptr, *engine->tokenizer(), text, request, {});
  return result ? Status(Done{}) : Status(result.error());
}

}  // namespace

TEST(what_was_fitted_is_not_judged_by_its_text) {
  NamedShape shape = tinyShape("starter");
  shape.config.layers = 4;
  const std::string path = (scratch() / "held-out.gguf").string();
  ok(synthesize(shape, "f32", 1, path, {}));
  const std::string seen = sentences("Lily", 100), other = sentences("Tom", 500);
  const std::string text = written("seen.txt", seen), sample = written("sample.txt", other);
  const auto engine = value(Engine::create(value(Model::open(path)), {.device = "cpu", .threads = 1, .calibrationSample = sample}));

  const std::vector<Settings> fits = {{{"weights.bits", "3"}, {"weights.method", "gptq"}}, {{"weights.bits", "3"}, {"weights.method", "awq"}},
                                      {{"weights.method", "aser"}}, {{"prune.method", "wanda"}, {"prune.ratio", "0.5"}},
                                      {{"prune.ratio", "0.5"}, {"prune.recovery", "admm"}}, {{"prune.layers", "1"}}, {{"prune.width", "0.5"}},
                                      {{"prune.heads", "0.5"}}, {{"prune.head_dim", "0.5"}}, {{"prune.slice", "0.3"}}, {{"activation.method", "teal"}},
                                      {{"share.block", "2"}, {"share.first", "0"}, {"share.refit", "true"}}};
  for (const Settings& settings : fits) {
    const Config config = configure(settings, configure({{"calibration.text", text.c_str()}, {"calibration.tokens", "256"}}));
    const std::string what = config.canonical();
    const Status refused = judged(engine, config, "Before it.\n" + seen + other);
    EXPECT(!refused, what);
    if (!refused) EXPECT(refused.error().code == ErrorCode::badInput && refused.error().message.find("seen.txt") != std::string::npos && !refused.error().hint.empty(), refused.error().message);
    EXPECT(judged(engine, config, other).ok(), what);
    const Config bySample = configure(settings, configure({{"calibration.tokens", "256"}}));
    const Status sampled = judged(engine, bySample, other);
    EXPECT(!sampled && sampled.error().message.find("sample.txt") != std::string::npos, what);
    EXPECT(judged(engine, bySample, seen).ok(), what);
  }
  // What measures nothing may be judged by any text.
  for (const Settings& settings : {Settings{}, Settings{{"weights.bits", "3"}}, Settings{{"prune.ratio", "0.5"}}, Settings{{"prune.width", "0.5"}, {"prune.width_method", "random"}},
                                   Settings{{"share.block", "2"}, {"share.first", "0"}}, Settings{{"activation.method", "griffin"}}})
    EXPECT(judged(engine, configure(settings, configure({{"calibration.text", text.c_str()}})), seen).ok(), settings.empty() ? "nothing" : settings.front().first);
}
#endif
