// SPDX-License-Identifier: GPL-3.0-or-later
// Properties under every knob and some of their combinations, over a whole generation: results do not depend on threads or
// observers, and a prompt equals its tokens one by one.
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

struct Combination {
  const char* file;
  Settings settings;
  double bound;  // of prefill against decode, relative to the largest logit
};

// Some text for Wanda, written once.
const char* calibrationText() {
  static const std::string path = [] {
    const std::string name = (scratch() / "calibration.txt").string();
    std::ofstream out(name);
    for (int i = 0; i < 60; ++i) out << "One day a little girl named Lily went to the park with her dog. They saw a big red ball.\n";
    return name;
  }();
  return path.c_str();
}

// Rounding to f16 or to 8 bits turns a difference in the last bit of a sum into one of a whole step here and there.
std::vector<Combination> combinations() {
  const double f32 = 4.9e-4, f16 = 4e-3, int8 = 3e-2;
  std::vector<Combination> all = {{kStories, {}, f32}, {kChat, {}, f32}};
  for (const char* bits : {"8", "6", "5", "4", "3", "2"}) all.push_back({kStories, {{"weights.bits", bits}}, f16});
  for (const char* group : {"64", "128", "row"})
    all.push_back({kRandom, {{"weights.bits", "4"}, {"weights.group", group}, {"weights.symmetric", "false"}}, f16});
  all.push_back({kRandom, {{"weights.bits", "4"}, {"compute.activations", "int8"}}, int8});
  for (const char* bits : {"16", "4"}) all.push_back({kStories, {{"prune.slice", "0.25"}, {"weights.bits", bits}, {"calibration.text", calibrationText()}, {"calibration.tokens", "512"}}, f16});
  for (const char* format : {"nf4", "fp8-e4m3", "fp8-e5m2", "mxfp4"}) all.push_back({kStories, {{"weights.format", format}}, f16});
  for (const char* format : {"nf4", "mxfp4"}) all.push_back({kRandom, {{"weights.format", format}, {"compute.activations", "int8"}}, int8});
  all.push_back({kRandom, {{"weights.format", "nf4"}, {"weights.layers", "0:8 1.down:16 2:4"}, {"weights.group", "128"}, {"prune.ratio", "0.3"}}, f16});
  for (const char* file : {"models/random-llama-256-Q6_K.gguf", "models/random-llama-256-Q3_K.gguf"}) {
    all.push_back({file, {}, f16});
    all.push_back({file, {{"compute.activations", "int8"}}, int8});
  }
  all.push_back({kRandom, {{"compute.activations", "16bit"}}, f16});
  all.push_back({kStories, {{"prune.ratio", "0.5"}}, f32});
#ifdef WINNOW_HAS_TEXT
  const char* text = calibrationText();
  Settings wanda = {{"prune.method", "wanda"}, {"prune.ratio", "0.5"}, {"calibration.text", text}, {"calibration.tokens", "512"}};
  all.push_back({kStories, wanda, f32});
  all.push_back({kStories, {{"weights.method", "smoothquant"}, {"calibration.text", text}, {"calibration.tokens", "512"}}, int8});
  all.push_back({kStories, {{"weights.method", "aser"}, {"weights.error_rank", "9"}, {"calibration.text", text}, {"calibration.tokens", "512"}}, f16});
  all.push_back({kStories,
                 {{"weights.method", "gptq"}, {"weights.bits", "3"}, {"weights.error_rank", "8"}, {"prune.method", "wanda"}, {"prune.ratio", "0.3"},
                  {"compute.activations", "int8"}, {"calibration.text", text}, {"calibration.tokens", "512"}},
                 int8});
  wanda.push_back({"weights.bits", "5"});
  all.push_back({kStories, wanda, f16});
#endif
  for (const char* policy : {"window", "streaming", "h2o", "random"}) {
    all.push_back({kStories, {{"kv.policy", policy}, {"kv.budget", "24"}, {"kv.interval", "1"}}, 0});
    all.push_back({kRandom, {{"kv.policy", policy}, {"kv.budget", "0.5"}, {"share.block", "2"}, {"share.first", "0"}}, 0});
  }
  all.push_back({kStories, {{"kv.policy", "quest"}, {"kv.budget", "48"}, {"kv.k_bits", "4"}}, 0});
  all.push_back({kRandom, {{"kv.policy", "quest"}, {"kv.budget", "48"}, {"share.block", "2"}, {"share.first", "2"}}, 0});
  all.push_back({kStories, {{"kv.policy", "quest"}, {"kv.budget", "48"}, {"kv.layers", "0:8, *.v:2"}, {"kv.outliers", "0.03"}}, 0});
  all.push_back({kRandom, {{"kv.policy", "adakv"}, {"kv.budget", "24"}, {"kv.k_bits", "2"}, {"kv.outliers", "0.03"}, {"kv.quantizer", "kivi"}, {"kv.rotate", "true"}}, 0});
  all.push_back({kRandom, {{"kv.policy", "minikv"}, {"kv.budget", "0.5"}, {"kv.k_bits", "2"}, {"kv.v_bits", "2"}, {"kv.quantizer", "kivi"}, {"share.block", "2"}, {"share.first", "0"}}, 0});
  all.push_back({kRandom, {{"kv.policy", "streaming"}, {"kv.positions", "cache"}, {"kv.budget", "24"}, {"kv.k_bits", "8"}, {"kv.rotate", "true"}, {"share.block", "2"}, {"share.first", "0"}}, 0});
  all.push_back({kRandom, {{"share.block", "4"}, {"share.first", "0"}, {"share.last", "0"}}, f32});
  all.push_back({kRandom, {{"share.method", "cla"}, {"share.block", "2"}, {"share.first", "0"}, {"kv.k_bits", "4"}, {"kv.policy", "h2o"}, {"kv.budget", "24"}, {"weights.bits", "4"}}, 0});
  all.push_back({kRandom, {{"share.method", "mix"}, {"share.block", "2"}, {"share.first", "0"}, {"kv.budget", "24"}, {"kv.v_bits", "2"}}, 0});
  all.push_back({kRandom,
                 {{"weights.bits", "3"}, {"share.block", "2"}, {"share.first", "1"}, {"prune.ratio", "0.3"}, {"kv.policy", "h2o"},
                  {"kv.budget", "20"}},
                 0});
  return all;
}

std::string named(const Combination& c) {
  std::string out = c.file;
  for (const auto& [name, text] : c.settings)
    if (std::string_view(name) != "calibration.text") out += std::string(" ") + name + "=" + text;
  return out;
}

// Hash of all logits and the tokens of a prompt and a generation.
std::pair<uint64_t, std::vector<int32_t>> generated(const Combination& c, int threads, bool observed) {
  const auto engine = openEngine(c.file, threads);
  const auto session = makeSession(engine, configure(c.settings));
  session->observeOps(observed);
  ok(session->prefill(someTokens(45, engine->model().config().vocab), {}));
  auto tokens = generate(*session, 40);
  return {session->logitsHash(), std::move(tokens)};
}

}  // namespace

TEST(results_do_not_depend_on_threads_or_observers) {
  for (const Combination& c : combinations()) {
    const auto one = generated(c, 1, false);
    for (const int threads : {2, 3, 5}) EXPECT(generated(c, threads, threads == 3) == one, named(c), threads);
  }
}

TEST(a_prompt_equals_its_tokens_one_by_one) {
  for (const Combination& c : combinations()) {
    if (c.bound == 0) continue;  // eviction fires at other places
    const auto engine = openEngine(c.file);
    const auto session = makeSession(engine, configure(c.settings));
    const auto tokens = someTokens(40, engine->model().config().vocab);
    const auto together = logitsAfter(*session, tokens);
    session->reset();
    for (const int32_t token : tokens) ok(session->step(token));
    const double error = relativeError(together, session->logits());
    EXPECT(error < c.bound, named(c), error);
  }
}
