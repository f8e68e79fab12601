// SPDX-License-Identifier: GPL-3.0-or-later
// Settings drawn at random, and every pair of techniques, on small random models: whatever is asked for runs or is changed with its reason,
// stays finite, takes the memory that was planned, and leaves nothing behind. WINNOW_RANDOM_SETTINGS=N draws N times for each model
// (30 without) and tries all pairs (else half of them), WINNOW_RANDOM_SEED=S draws others.
#include <cmath>
#include <random>
#include <set>
#include <utility>

#include "tests/support/engine.h"
#include "tests/support/shapes.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr int kPrompt = 40, kSteps = 4;

uint32_t fromEnvironment(const char* name, uint32_t otherwise) {
  const char* text = std::getenv(name);
  return text ? static_cast<uint32_t>(std::strtoul(text, nullptr, 10)) : otherwise;
}

std::shared_ptr<const Model> smallLlama() {
  NamedShape shape = tinyShape("starter");
  shape.config.layers = 4;
  shape.config.hidden = 192;
  shape.config.heads = 6;
  shape.config.headDim = shape.config.rope.dims = 32;
  shape.config.ffn = 256;
  const std::string path = (scratch() / "random.gguf").string();
  if (!std::filesystem::exists(path)) ok(synthesize(shape, "f32", 1, path, {}));
  return value(Model::open(path));
}

// The family of Llama in a size of which 64 KiB are little, the others in the smallest there is.
std::shared_ptr<const Model> modelOf(const std::string& family) {
#ifdef WINNOW_HAS_HUGGINGFACE
  if (family != "llama") return value(Model::open(std::string(WINNOW_TESTS_DIR) + "/golden/hf/" + family));
#endif
  return smallLlama();
}

const std::string& calibrationText() {
  static const std::string path = [] {
    const std::string name = (scratch() / "calibration.txt").string();
    std::ofstream out(name);
    for (int i = 0; i < 80; ++i) out << "One day a little girl named Lily went to the park with her dog. They saw " << i << " red balls.\n";
    return name;
  }();
  return path;
}

Config measured() { return configure({{"calibration.text", calibrationText().c_str()}, {"calibration.tokens", "256"}}); }

// Draws that are the same with every library.
struct Draws {
  std::mt19937 rng;
  uint32_t below(size_t count) { return static_cast<uint32_t>(rng() % count); }
  double share() { return static_cast<double>(rng() >> 8) / (1 << 24); }
  const std::string& of(const std::vector<std::string>& values) { return values[below(values.size())]; }
};

const std::map<std::string, std::vector<std::string>>& texts() {
  static const std::map<std::string, std::vector<std::string>> all = {
      {"weights.tensors", {"q,down", "embedding, head", "v"}},
      {"weights.layers", {"0-1:4, *.down:6", "*:2", "1:16", "*.gate:3 2:8"}},
      {"prune.ratios", {"0:0.3, *.down:0.6", "*:0.95", "1.o:0.5"}},
      {"kv.layers", {"0:4, *.v:8", "*:2", "1.k:3"}},
      {"share.spans", {"0-1", "1-2", "0-2", "1-900"}},
      {"calibration.text", {calibrationText()}},
  };
  return all;
}

std::string drawn(const Knob& knob, Draws& draw) {
  if (knob.type == KnobType::boolean) return draw.below(2) ? "true" : "false";
  if (!knob.choices.empty()) return draw.of(knob.choices);
  if (knob.type == KnobType::text || knob.type == KnobType::path) {
    const auto known = texts().find(knob.name);
    EXPECT(known != texts().end(), "nothing to draw for", knob.name);
    return known == texts().end() ? std::string() : draw.of(known->second);
  }
  if (knob.name == "calibration.tokens") return "256";
  const double most = knob.name == "kv.budget" && draw.below(2) ? 1.0 : knob.maximum;
  const uint32_t kind = draw.below(8);
  double number = kind == 0 ? knob.minimum : kind == 1 ? most : knob.minimum + draw.share() * std::min(most - knob.minimum, kind < 6 ? 24.0 : most - knob.minimum);
  if (knob.name == "kv.budget" && number > 1) number = std::max(2.0, std::round(number));
  return knob.type == KnobType::integer ? std::to_string(static_cast<int64_t>(std::round(number))) : toText(number);
}

Config drawnConfig(Draws& draw) {
  Config config = measured();
  if (draw.below(2)) config = configure({{"share.first", "0"}, {"share.last", "0"}, {"kv.interval", "1"}}, config);  // else most settings of so few layers and tokens do nothing
  const auto& knobs = Schema::instance().knobs();
  for (uint32_t left = 1 + draw.below(8); left > 0; --left) {
    const Knob& knob = knobs[draw.below(knobs.size())];
    config = value(config.parsed(knob.name, drawn(knob, draw)));
  }
  return config;
}

bool finite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float v) { return std::isfinite(v); });
}

void saysWhatItChanged(const Effective& effective, const std::string& asked) {
  std::set<std::string> explained;
  for (const Adjustment& a : effective.adjustments) {
    EXPECT(a.reason.size() > 10 && a.reason.ends_with("."), asked, a.knob, a.reason);
    explained.insert(a.knob);
  }
  for (const Knob& knob : Schema::instance().knobs())
    EXPECT(effective.requested.get(knob.name) == effective.config.get(knob.name) || explained.contains(knob.name), asked, knob.name, "changed without a reason to", toText(effective.config.get(knob.name)));
}

// Some of it depends on what only measuring tells: which merges are refused (LaCo), which matrix has the weight that is zeroed and is copied for it,
// how wide each layer's feed-forward stays (CFSP), whose copies by channel are padded.
void takesWhatWasPlanned(MemoryByTag planned, MemoryByTag used, const Config& config) {
  if (config.integer("prune.layers") > 0 && config.text("prune.layers_method") == "laco") return;
  const auto at = [](MemoryTag tag) { return static_cast<size_t>(tag); };
  if (config.text("weights.super") == "zero")
    for (MemoryByTag* memory : {&planned, &used}) (*memory)[at(MemoryTag::weights)] += std::exchange((*memory)[at(MemoryTag::weightsMapped)], 0);
  const double share = config.real("prune.width") > 0 && config.text("activation.method") != "none" ? 0.05 : 0.02;
  for (size_t tag = 0; tag < used.size(); ++tag) {
    const double allowed = std::max(share * static_cast<double>(used[tag]), 65536.0);
    EXPECT(std::fabs(static_cast<double>(planned[tag] - used[tag])) <= allowed, config.canonical(), memoryTagName(static_cast<MemoryTag>(tag)), "planned", planned[tag], "used", used[tag]);
  }
}

// A prompt and some tokens from the beginning; the hash of all logits.
uint64_t runFromStart(Session& session, int vocab, const std::string& asked) {
  session.reset();
  ok(session.prefill(someTokens(kPrompt, vocab), {}));
  EXPECT(finite(session.logits()), "prompt", asked);
  generate(session, kSteps);
  EXPECT(finite(session.logits()), "steps", asked);
  return session.logitsHash();
}

void change(Session& session, const Config& config) {
  session.request(config);
  ok(session.finishPending({}));
  session.adopt();
}

// One configuration from the beginning, another in the middle of its text, and back.
void thereAndBack(const std::shared_ptr<const Model>& model, const Config& first, const Config& second) {
  const auto engine = value(Engine::create(model, {.device = "cpu", .threads = 2}));  // a new one: what others measured of the text stays with theirs
  const int vocab = engine->model().config().vocab;
  const std::string asked = engine->model().config().name + " " + first.canonical();
  const SessionOptions options = {.context = 64};
  const auto session = value(engine->createSession(first, options, {}));
  saysWhatItChanged(*session->effective(), asked);
  const Effective again = resolve(session->effective()->config, engine->model().config());
  EXPECT(again.config == session->effective()->config, "what runs is changed again when it is asked for:", asked, "to", again.config.canonical());
  const uint64_t hash = runFromStart(*session, vocab, asked);
  takesWhatWasPlanned(value(engine->plan(first, options, kPrompt + kSteps)), session->memory(), session->effective()->config);

  const std::string both = asked + " -> " + second.canonical();
  change(*session, second);
  saysWhatItChanged(*session->effective(), both);
  generate(*session, kSteps);
  EXPECT(finite(session->logits()), "changed", both);
  ok(session->rebuildCache({}));
  EXPECT(finite(session->logits()), "computed anew", both);
  generate(*session, kSteps);
  EXPECT(finite(session->logits()), "goes on", both);

  change(*session, first);
  EXPECT_EQ(runFromStart(*session, vocab, asked), hash);
  if (session->logitsHash() != hash) std::fprintf(stderr, "  is not what it was before: %s\n", both.c_str());
}

}  // namespace

TEST(settings_drawn_at_random_run_and_leave_nothing_behind) {
#ifdef WINNOW_HAS_TEXT
  const uint32_t trials = fromEnvironment("WINNOW_RANDOM_SETTINGS", 30), seed = fromEnvironment("WINNOW_RANDOM_SEED", 1);
  for (const char* family : {"llama", "gpt2", "qwen3", "mistral"}) {
    const auto model = modelOf(family);
    for (uint32_t trial = 0; trial < trials; ++trial) {
      Draws draw{std::mt19937(seed * 1000003u + trial)};
      const Config first = drawnConfig(draw), second = drawnConfig(draw);
      try {
        thereAndBack(model, first, second);
      } catch (const std::exception& e) {
        EXPECT(false, family, trial, first.canonical(), "->", second.canonical(), e.what());
      }
    }
  }
#else
  SKIP("built without tokenizers");
#endif
}

// What each technique asks for by itself. Two of them that set one knob are a choice, not a pair.
#ifdef WINNOW_HAS_TEXT
namespace {

const std::vector<Settings>& techniques() {
  static const std::vector<Settings> all = {
      {{"weights.bits", "4"}},
      {{"weights.method", "gptq"}, {"weights.bits", "3"}},
      {{"weights.method", "awq"}, {"weights.bits", "3"}},
      {{"weights.method", "smoothquant"}},
      {{"weights.method", "aser"}},
      {{"weights.method", "ternary"}},
      {{"weights.format", "nf4"}},
      {{"weights.layers", "0-1:5"}},
      {{"prune.ratio", "0.5"}},
      {{"prune.method", "wanda"}, {"prune.ratio", "0.5"}},
      {{"prune.method", "sparsegpt"}, {"prune.pattern", "2:4"}},
      {{"prune.method", "sds"}, {"prune.ratio", "0.4"}},
      {{"prune.method", "barber"}, {"prune.ratio", "0.5"}},
      {{"prune.recovery", "least-squares"}, {"prune.ratio", "0.6"}},
      {{"prune.recovery", "regression"}, {"prune.ratio", "0.5"}},
      {{"prune.layers", "1"}, {"prune.layers_method", "shortgpt"}},
      {{"prune.layers", "1"}, {"prune.layers_method", "attention"}},
      {{"prune.layers", "1"}, {"prune.layers_method", "laco"}, {"prune.merge", "1"}, {"prune.merge_similarity", "-1"}},
      {{"prune.width", "0.5"}},
      {{"prune.width", "0.5"}, {"prune.width_method", "modegpt"}},
      {{"prune.heads", "0.5"}},
      {{"prune.head_dim", "0.5"}},
      {{"prune.slice", "0.3"}},
      {{"activation.method", "teal"}},
      {{"activation.method", "cats"}},
      {{"activation.method", "griffin"}},
      {{"kv.policy", "streaming"}, {"kv.budget", "40"}, {"kv.interval", "1"}},
      {{"kv.policy", "streaming"}, {"kv.budget", "40"}, {"kv.interval", "1"}, {"kv.positions", "cache"}},
      {{"kv.policy", "h2o"}, {"kv.budget", "40"}, {"kv.interval", "1"}},
      {{"kv.policy", "snapkv"}, {"kv.budget", "40"}, {"kv.interval", "1"}},
      {{"kv.policy", "adakv"}, {"kv.budget", "40"}, {"kv.interval", "1"}},
      {{"kv.policy", "expected"}, {"kv.budget", "40"}, {"kv.interval", "1"}},
      {{"kv.policy", "minikv"}, {"kv.budget", "40"}},
      {{"kv.policy", "quest"}, {"kv.budget", "40"}},
      {{"kv.k_bits", "2"}, {"kv.v_bits", "4"}},
      {{"kv.k_bits", "2"}, {"kv.quantizer", "kivi"}},
      {{"kv.layers", "0:3"}},
      {{"kv.aligned", "1"}},
      {{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}},
      {{"share.spans", "1-3"}},
      {{"share.spans", "1-2"}},
      {{"share.method", "cla"}, {"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}},
      {{"share.method", "mix"}, {"kv.budget", "40"}, {"kv.interval", "1"}, {"share.full", "1"}},
      {{"share.align", "true"}, {"share.refit", "true"}, {"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}},
  };
  return all;
}

bool setOneKnob(const Settings& a, const Settings& b) {
  for (const auto& [name, text] : a)
    for (const auto& [other, value] : b)
      if (std::string_view(name) == other && std::string_view(text) != value) return true;
  return false;
}

struct Outcome {
  uint64_t hash;
  std::shared_ptr<const Effective> effective;
};

// What the one asks for, the other does as well.
bool contains(const Outcome& other, const Settings& settings) { return configure(settings, other.effective->config) == other.effective->config; }

Outcome outcome(const std::shared_ptr<Engine>& engine, const Config& config) {
  const auto session = value(engine->createSession(config, {.context = 128}, {}));
  saysWhatItChanged(*session->effective(), config.canonical());
  ok(session->prefill(someTokens(70, engine->model().config().vocab), {}));  // more than is kept; pages of 16 tokens are full
  generate(*session, kSteps);
  EXPECT(finite(session->logits()), config.canonical());
  return {session->logitsHash(), session->effective()};
}

}  // namespace

// Each technique acts; two of them both act, or what is changed of either says why.
TEST(no_pair_of_techniques_is_ignored_in_silence) {
  NamedShape shape = tinyShape("starter");
  shape.config.layers = 6;
  const std::string path = (scratch() / "pairs.gguf").string();
  ok(synthesize(shape, "f32", 1, path, {}));
  const auto engine = value(Engine::create(value(Model::open(path)), {.device = "cpu", .threads = 1}));
  const uint64_t plain = outcome(engine, measured()).hash;
  std::vector<Outcome> alone;
  for (const Settings& settings : techniques()) {
    alone.push_back(outcome(engine, configure(settings, measured())));
    EXPECT(alone.back().hash != plain, "does nothing:", settings.front().first, settings.front().second);
    EXPECT(alone.back().effective->asRequested(), "is changed by itself:", settings.front().first, settings.front().second);
  }
  const bool all = std::getenv("WINNOW_RANDOM_SETTINGS");  // else every other one
  int pairs = 0, changed = 0;
  for (size_t i = 0; i < alone.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      const Settings &one = techniques()[i], &other = techniques()[j];
      if ((!all && (i + j) % 2) || setOneKnob(one, other) || contains(alone[i], other) || contains(alone[j], one)) continue;
      const Config config = configure(one, configure(other, measured()));
      const Outcome both = outcome(engine, config);
      ++pairs;
      changed += !both.effective->asRequested();
      EXPECT(!both.effective->asRequested() || (both.hash != alone[i].hash && both.hash != alone[j].hash), "one of two does nothing, and nothing says so:", config.canonical());
    }
  std::printf("  %d pairs, of which %d are changed with a reason\n", pairs, changed);
  EXPECT(pairs > 350 && changed > 20, pairs, changed);
}
#endif
