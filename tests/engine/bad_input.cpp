// SPDX-License-Identifier: GPL-3.0-or-later
// What bad input gets from the engine: one sentence that says what and where, the right code, and nothing half done.
#include <cstring>

#include "engine/evaluate/perplexity.h"
#include "engine/weights/store.h"
#include "tests/support/engine.h"
#include "tests/support/shapes.h"
#include "tests/support/uneven_statistics.h"

using namespace winnow;
using namespace winnow::test;

namespace {

// The bytes of a small random model.
const std::string& soundFile() {
  static const std::string bytes = [] {
    const std::string path = (scratch() / "sound.gguf").string();
    ok(synthesize(tinyShape("starter"), "f32", 1, path, {}));
    return readFile(path);
  }();
  return bytes;
}

std::string written(const std::string& bytes) {
  const std::string path = (scratch() / "bad.gguf").string();
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

std::shared_ptr<Engine> engineOf(const std::string& bytes) {
  return value(Engine::create(value(Model::open(written(bytes))), {.threads = 2}));
}

std::string withNaN(size_t first, size_t count) {
  std::string bytes = soundFile();
  const float nan = NAN;
  for (size_t i = 0; i < count; ++i) std::memcpy(bytes.data() + (first + i * 4) / 4 * 4, &nan, 4);
  return bytes;
}

void isOneSentence(const Error& error, ErrorCode code, const std::string& needle, const std::string& what) {
  EXPECT(error.code == code, what, static_cast<int>(error.code), error.message);
  EXPECT(error.message.find(needle) != std::string::npos, what, "'" + error.message + "'", "should hold", needle);
  EXPECT(error.message.find('\n') == std::string::npos && !error.message.empty() && error.message.back() == '.', what, error.message);
  EXPECT(error.hint.empty() || error.hint.back() == '.', what, error.hint);
}

}  // namespace

TEST(damaged_models_are_refused_by_name) {
  const std::string sound = soundFile();
  struct Case {
    const char* what;
    std::string bytes, needle;
  };
  std::string version = sound, architecture = sound, tensors = sound;
  version[4] = 9;
  std::memset(tensors.data() + 8, 0x7f, 7);
  for (size_t at; (at = architecture.find("llama")) != std::string::npos;) architecture.replace(at, 5, "mamba");
  std::vector<Case> cases = {{"wrong magic", "GGML" + sound.substr(4), "not a GGUF file"},
                             {"a text", std::string(5000, 'x'), "not a GGUF file"},
                             {"empty", "", "empty"},
                             {"version", version, "version 9"},
                             {"architecture", architecture, "'mamba' is not supported"},
                             {"tensor count", tensors, "tensors"}};
  for (size_t length = 1; length < sound.size(); length += 1 + sound.size() / 40)
    cases.push_back({"truncated", sound.substr(0, length), "bad.gguf"});
  for (const Case& c : cases) {
    const auto opened = Model::open(written(c.bytes));
    EXPECT(!opened.ok(), c.what, c.bytes.size());
    if (!opened) isOneSentence(opened.error(), ErrorCode::badInput, c.needle, c.what);
  }
  const auto missing = Model::open((scratch() / "nowhere.gguf").string());
  isOneSentence(missing.error(), ErrorCode::badInput, "nowhere.gguf", "missing");
}

// Rounding hides a NaN, so it is looked for there; a plain product carries it into the logits.
TEST(weights_that_are_not_numbers_are_named) {
  const size_t size = soundFile().size();
  for (const size_t count : {size_t{1}, size_t{2000}}) {
    const auto engine = engineOf(withNaN(size - 9000, count));
    const auto session = makeSession(engine, Config(), {.context = 64});
    const Status fed = session->prefill(someTokens(8, 512), {});
    EXPECT(!fed);
    if (!fed) isOneSentence(fed.error(), ErrorCode::badInput, "tensor 'blk.", "plain");
    for (const Settings& settings : {Settings{{"weights.bits", "8"}}, Settings{{"weights.bits", "2"}}, Settings{{"prune.ratio", "0.5"}}}) {
      const auto made = engine->createSession(configure(settings), {.context = 64}, {});
      EXPECT(!made, settings.front().first);
      if (!made) isOneSentence(made.error(), ErrorCode::badInput, "not finite", settings.front().first);
    }
    session->request(configure({{"weights.bits", "4"}}));
    EXPECT(!session->finishPending({}).ok());
    EXPECT_EQ(session->effective()->config.integer("weights.bits"), int64_t{16});
  }
}

// 16 tokens span no more than 16 dimensions: without damping nothing has an inverse.
TEST(moments_that_have_no_inverse_raise_their_damping_and_say_so) {
  const auto model = value(Model::open(written(soundFile())));
  Ledger ledger;
  ThreadPool pool(2);
  const auto measured = unevenStatistics(model->config(), ledger, &pool);
  for (const Settings& settings : {Settings{{"weights.method", "gptq"}, {"weights.bits", "3"}}, Settings{{"prune.method", "sparsegpt"}, {"prune.ratio", "0.5"}}}) {
    const auto built = [&](double damping) {
      WeightTarget target = weightTarget(*model, resolve(configure(settings), model->config()).config, "a text");
      for (Recipe& recipe : target.recipes) recipe.damping = recipe.damping > 0 ? damping : 0;
      WeightStore store(model, ledger);
      return value(store.build(target, pool, {[&](const CalibrationChoice&, const Progress&) { return Result<std::shared_ptr<const Calibration>>(measured); }, {}}, {}));
    };
    EXPECT(built(0.01)->adjustments.empty(), settings[0].second);
    const auto set = built(1e-12);
    EXPECT_EQ(set->adjustments.size(), size_t{1});
    if (set->adjustments.empty()) continue;
    const Adjustment& raised = set->adjustments[0];
    EXPECT(raised.knob == "calibration.damping" && std::get<double>(raised.effective) > 1e-12 && raised.reason.find("it was raised") != std::string::npos, settings[0].second, raised.knob, raised.reason);
  }
}

TEST(impossible_knob_values_name_the_knob_and_the_range) {
  const std::pair<const char*, const char*> table[] = {
      {"weights.bits", "7"}, {"weights.bits", "0"}, {"weights.bits", "four"}, {"weights.bits", ""}, {"weights.bits", "4.5"},
      {"weights.group", "48"}, {"weights.method", "awk"}, {"weights.symmetric", "maybe"}, {"prune.ratio", "1"}, {"prune.ratio", "-0.1"},
      {"prune.ratio", "nan"}, {"prune.ratio", "inf"}, {"kv.budget", "0"}, {"kv.budget", "1.5"}, {"kv.budget", "-3"}, {"kv.budget", "1e99"},
      {"kv.policy", "h3o"}, {"kv.sinks", "-1"}, {"kv.sinks", "99999999999999999999"}, {"kv.interval", "-1"}, {"share.block", "17"},
      {"share.first", "-2"}, {"compute.activations", "int4"}, {"calibration.tokens", "1"}, {"no.such.knob", "1"}};
  for (const auto& [name, text] : table) {
    const auto parsed = Config().parsed(name, text);
    EXPECT(!parsed, name, text);
    if (!parsed) isOneSentence(parsed.error(), ErrorCode::usage, name, std::string(name) + "=" + text);
  }
}

TEST(what_a_model_can_not_do_is_adjusted_with_a_reason) {
  const auto engine = engineOf(soundFile());
  struct Case {
    Settings settings;
    const char *knob, *effective;
  };
  for (const Case& c : {Case{{{"kv.budget", "16"}, {"kv.sinks", "256"}}, "kv.sinks", "15"},
                        Case{{{"kv.policy", "streaming"}, {"kv.budget", "2"}}, "kv.sinks", "1"},
                        Case{{{"share.block", "2"}}, "share.block", "1"},
                        Case{{{"compute.activations", "int8"}}, "compute.activations", "auto"},
                        Case{{{"weights.method", "rtn"}}, "weights.method", "none"}}) {
    const auto session = makeSession(engine, configure(c.settings), {.context = 64});
    const auto effective = session->effective();
    EXPECT_EQ(toText(effective->config.get(c.knob)), std::string(c.effective));
    EXPECT(!effective->asRequested(), c.knob);
    EXPECT_EQ(effective->adjustments.size(), size_t{1});
    EXPECT(effective->adjustments[0].knob == c.knob && effective->adjustments[0].reason.ends_with("."), c.knob);
    ok(session->prefill(someTokens(40, 512), {}));
    generate(*session, 20);
  }
}

// Packed all the same, with a shorter group at the end of each row, and it is said: at once and after a change.
TEST(rows_that_groups_do_not_divide_are_named) {
  const auto engine = engineOf(soundFile());  // 64 and 96 wide
  const auto said = [](Session& session) {
    std::string text;
    for (const EngineEvent& event : session.takeEvents())
      if (event.code == "weights.group") text += event.text;
    return text;
  };
  const auto session = makeSession(engine, configure({{"weights.bits", "4"}, {"weights.group", "64"}}), {.context = 64});
  EXPECT(said(*session) == "Groups of 64 weights do not divide the rows of 2 matrices (96 wide): the last group of each row is shorter.");
  session->request(configure({{"weights.bits", "4"}, {"weights.group", "128"}}));
  ok(session->finishPending({}));
  EXPECT(said(*session).find("(64, 96 wide)") != std::string::npos);
  ok(session->prefill(someTokens(40, 512), {}));
  generate(*session, 8);
  for (const Settings& whole : {Settings{{"weights.bits", "4"}}, Settings{{"weights.bits", "4"}, {"weights.group", "row"}}, Settings{}}) EXPECT_EQ(said(*makeSession(engine, configure(whole), {.context = 64})), std::string());
}

TEST(what_does_not_fit_the_context_is_refused_whole) {
  const auto engine = engineOf(soundFile());
  const auto session = makeSession(engine, Config(), {.context = 32});
  const Status prompt = session->prefill(someTokens(33, 512), {});
  EXPECT(!prompt);
  isOneSentence(prompt.error(), ErrorCode::badInput, "33", "prompt");
  EXPECT_EQ(session->position(), int64_t{0});
  ok(session->prefill(someTokens(32, 512), {}));
  const Status step = session->step(1);
  EXPECT(!step);
  isOneSentence(step.error(), ErrorCode::badInput, "32", "step");
  session->reset();
  const Status id = session->prefill(std::vector<int32_t>{1, 512}, {});
  EXPECT(!id);
  isOneSentence(id.error(), ErrorCode::badInput, "512", "id");
  EXPECT_EQ(session->position(), int64_t{0});
  const auto negative = engine->createSession(Config(), {.context = -1}, {});
  isOneSentence(negative.error(), ErrorCode::usage, "-1", "context");
  const auto plan = engine->plan(Config(), {.context = 32}, 33);
  isOneSentence(plan.error(), ErrorCode::usage, "33", "plan");
}

#ifdef WINNOW_HAS_TEXT
// Finite weights whose products are not: what measures a text says where it broke, and a session stays with the weights it has.
TEST(calibrations_that_are_not_numbers_are_named) {
  std::string bytes = soundFile();
  const auto sound = value(Model::open(written(bytes)));
  const MasterTensor& gate = *sound->find(TensorRole::gate, 1);
  const std::string_view row(reinterpret_cast<const char*>(gate.directRow(3)), static_cast<size_t>(gate.cols) * sizeof(float));
  const size_t at = bytes.find(row);
  EXPECT(at != std::string::npos);
  const float huge = 3e38f;
  for (int c = 0; c < gate.cols; ++c) std::memcpy(bytes.data() + at + static_cast<size_t>(c) * sizeof huge, &huge, sizeof huge);
  const auto engine = engineOf(bytes);
  const std::string text = (scratch() / "calibration.txt").string();
  std::ofstream(text) << std::string(3000, 'a');
  const auto session = makeSession(engine, Config(), {.context = 64});
  for (const Settings& settings : {Settings{{"weights.bits", "3"}, {"weights.method", "gptq"}}, Settings{{"prune.ratio", "0.5"}, {"prune.method", "wanda"}}}) {
    const Config config = configure(settings, configure({{"calibration.text", text.c_str()}, {"calibration.tokens", "256"}}));
    const auto made = engine->createSession(config, {.context = 64}, {});
    EXPECT(!made, settings.front().first);
    if (!made) isOneSentence(made.error(), ErrorCode::badInput, "NaN or infinity: first in layer 1", settings.front().first);
    session->request(config);
    EXPECT(!session->finishPending({}).ok());
    const auto effective = session->effective();
    EXPECT(effective->config.get(settings.front().first) == Config().get(settings.front().first), settings.front().first);
    EXPECT(std::ranges::any_of(effective->adjustments, [](const Adjustment& a) { return a.reason.find("NaN or infinity") != std::string::npos; }), settings.front().first);
  }
}

TEST(texts_shorter_than_a_window_say_how_much_is_missing) {
  const auto engine = engineOf(soundFile());
  const auto session = makeSession(engine, Config(), {.context = 256});
  for (const char* mode : {"llama", "llama-stride", "hf-doc", "hf-exact"})
    for (const std::string& text : {std::string(), std::string(mode[0] == 'h' ? "" : "a short text")}) {
      PerplexityRequest request;
      request.mode = *findPerplexityMode(mode);
      request.context = 128;
      const auto result = measurePerplexity(*session, nullptr, *engine->tokenizer(), text, request, {});
      EXPECT(!result, mode);
      if (!result) isOneSentence(result.error(), ErrorCode::badInput, "at least", mode);
    }
}
#endif
