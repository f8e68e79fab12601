// SPDX-License-Identifier: GPL-3.0-or-later
// Every knob of the schema, at every choice it has, does on the device what it does on the CPU: weights to the byte, made from the same
// statistics; the cache, sharing and activations in a session, within the bound. A knob that is new is found missing here.
#include "engine/cache/kv_format.h"
#include "engine/run/core.h"
#include "tests/cuda_emulation/calibration_text.h"
#include "tests/cuda_emulation/shops.h"

using namespace winnow;
using namespace winnow::test;

namespace {

struct Trial {
  Settings beside;                  // what makes the knob act
  std::vector<std::string> values;  // to be tried where the schema has no choices
};

const std::map<std::string, Trial>& trials() {
  static const Settings four = {{"weights.bits", "4"}}, half = {{"prune.ratio", "0.5"}}, dropped = {{"prune.layers", "1"}};
  static const Settings gptq = {{"weights.bits", "4"}, {"weights.method", "gptq"}}, narrow = {{"prune.width", "0.4"}}, wanda = {{"prune.ratio", "0.5"}, {"prune.method", "wanda"}};
  static const Settings evicting = {{"kv.budget", "12"}, {"kv.interval", "4"}}, sealed = {{"kv.k_bits", "8"}, {"kv.v_bits", "8"}};
  static const Settings shared = {{"share.first", "0"}, {"share.last", "0"}}, blocks = {{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}};
  static const auto with = [](Settings settings, const char* name, const char* value) {
    settings.emplace_back(name, value);
    return settings;
  };
  static const Settings corrected = {{"prune.ratio", "0.5"}, {"prune.method", "barber"}}, merged = {{"prune.layers", "1"}, {"prune.layers_method", "laco"}};
  static const std::map<std::string, Trial> all = {
      {"weights.bits", {}},
      {"weights.format", {}},
      {"weights.method", {four, {}}},
      {"weights.group", {four, {}}},
      {"weights.symmetric", {four, {}}},
      {"weights.tensors", {four, {"q,down", "embedding, head"}}},
      {"weights.layers", {{}, {"0-1:4, *.down:6"}}},
      {"weights.super", {four, {}}},
      {"weights.act_order", {gptq, {}}},
      {"weights.static_groups", {with(gptq, "weights.act_order", "false"), {}}},
      {"weights.smoothing", {{{"weights.method", "smoothquant"}}, {"0.8"}}},
      {"weights.error_rank", {four, {"5"}}},
      {"weights.clip", {{{"weights.bits", "4"}, {"weights.method", "awq"}}, {}}},
      {"prune.ratio", {{}, {"0.3", "0.95"}}},
      {"prune.method", {half, {}}},
      {"prune.initial", {corrected, {}}},
      {"prune.swap", {corrected, {"0.5"}}},
      {"prune.merge", {merged, {"2"}}},
      {"prune.merge_similarity", {merged, {"-1"}}},
      {"prune.ratios", {{}, {"0:0.3, *.down:0.6"}}},
      {"prune.pattern", {}},
      {"prune.scope", {half, {}}},
      {"prune.recovery", {half, {}}},
      {"prune.storage", {half, {}}},
      {"prune.layers", {{}, {"1"}}},
      {"prune.layers_method", {dropped, {}}},
      {"prune.layers_protect", {dropped, {"0"}}},
      {"prune.width", {{}, {"0.3", "0.9"}}},
      {"prune.width_method", {narrow, {}}},
      {"prune.heads", {{}, {"0.5"}}},
      {"prune.head_dim", {{}, {"0.5"}}},
      {"prune.head_dim_method", {{{"prune.head_dim", "0.5"}}, {}}},
      {"prune.heads_method", {{{"prune.heads", "0.5"}}, {}}},
      {"prune.slice", {{}, {"0.25", "0.5"}}},
      {"calibration.text", {wanda, {calibrationText("other.txt", "The quick brown fox jumps over the lazy dog while nobody looks.\n")}}},
      {"calibration.tokens", {wanda, {"300"}}},
      {"calibration.damping", {gptq, {"0.1"}}},
      {"kv.policy", {evicting, {}}},
      {"kv.budget", {with(evicting, "kv.policy", "h2o"), {"0.5", "9"}}},
      {"kv.sinks", {evicting, {"0", "2"}}},
      {"kv.positions", {evicting, {}}},
      {"kv.allocation", {with(evicting, "kv.policy", "snapkv"), {}}},
      {"kv.seed", {with(evicting, "kv.policy", "random"), {"3"}}},
      {"kv.interval", {evicting, {"1"}}},
      {"kv.when", {evicting, {}}},
      {"kv.oldest", {with(evicting, "kv.policy", "h2o"), {"8"}}},
      {"kv.recent", {with(evicting, "kv.policy", "h2o"), {"8"}}},
      {"kv.k_bits", {}},
      {"kv.v_bits", {}},
      {"kv.quantizer", {sealed, {}}},
      {"kv.rotate", {sealed, {}}},
      {"kv.layers", {{}, {"0:4, *.v:8"}}},
      {"kv.outliers", {{{"kv.k_bits", "4"}, {"kv.v_bits", "4"}}, {"0.03"}}},
      {"kv.aligned", {{}, {"4", "64"}}},
      {"share.block", {shared, {"2"}}},
      {"share.method", {blocks, {}}},
      {"share.first", {{{"share.block", "2"}, {"share.last", "0"}}, {"1"}}},
      {"share.last", {{{"share.block", "2"}, {"share.first", "0"}}, {"1"}}},
      {"share.full", {{{"share.method", "mix"}, {"kv.budget", "12"}, {"kv.interval", "1"}}, {"0", "1"}}},
      {"share.spans", {{}, {"0-1"}}},
      {"share.align", {blocks, {}}},
      {"share.refit", {blocks, {}}},
      {"prefill.method", {}},
      {"prefill.budget", {{}, {"64"}}},
      {"prefill.segment", {{}, {"32"}}},
      {"activation.method", {}},
      {"activation.sparsity", {{{"activation.method", "teal"}}, {"0.3"}}},
      {"compute.activations", {four, {}}},
      {"compute.prefill_twin", {four, {}}},
      {"compute.publish", {four, {}}},
  };
  return all;
}

std::vector<std::string> valuesOf(const Knob& knob, const Trial& trial) {
  if (!trial.values.empty()) return trial.values;
  if (knob.type == KnobType::boolean) return {toText(KnobValue(!std::get<bool>(knob.defaultValue)))};
  std::vector<std::string> out;
  for (const std::string& choice : knob.choices)
    if (choice != toText(knob.defaultValue)) out.push_back(choice);
  return out;
}

Config configOf(const Trial& trial, const Knob& knob, const std::string& asked) {
  const Settings measured = {{"calibration.text", calibrationText()}, {"calibration.tokens", "256"}};
  return value(configure(trial.beside, configure(measured)).parsed(knob.name, asked));
}

// Once for each knob of the schema, at each of its values.
template <class Try>
int everyKnob(bool ofWeights, Try attempt) {
  int tried = 0;
  for (const Knob& knob : Schema::instance().knobs()) {
    if ((knob.apply == Apply::prepareWeights) != ofWeights) continue;
    const auto trial = trials().find(knob.name);
    EXPECT(trial != trials().end(), "no trial of", knob.name);
    if (trial == trials().end()) continue;
    const auto values = valuesOf(knob, trial->second);
    EXPECT(!values.empty(), "nothing to try for", knob.name);
    for (const std::string& asked : values) {
      attempt(knob, configOf(trial->second, knob, asked), asked);
      ++tried;
    }
  }
  return tried;
}

// Whether the device does without and says so: FP8 alone, on one that has none of it.
bool refused(const Session& session, const Knob& knob, const std::string& asked) {
  const auto effective = session.effective();
  const bool says = std::ranges::any_of(effective->adjustments, [&](const Adjustment& a) { return a.knob == knob.name && a.reason.find("GPU") != std::string::npos; });
  return says && toText(effective->config.get(knob.name)) != asked;
}

// Codes of a quantized cache go apart by a step, activations of int8 as well.
double boundOf(const Config& config) {
  int bits = 16;
  const std::string all = "*.k:" + toText(config.get("kv.k_bits")) + ", *.v:" + toText(config.get("kv.v_bits")) + ", ";
  for (const KvBits& layer : KvFormat::of(config.with("kv.layers", all + config.text("kv.layers")), 2).layers)
    bits = std::min({bits, layer.keys, layer.values});
  if (config.text("compute.activations") == "int8") return kInt8Bound;
  if (config.integer("kv.aligned") > 0) bits = std::min(bits, 8);  // what a query reads of them
  if (bits < 16) return codesBound(bits);
  return config.integer("weights.bits") < 16 && config.text("compute.activations") != "f32" ? kBound + kPromptRounding : kBound;
}

}  // namespace

TEST(no_trial_is_of_a_knob_that_is_gone) {
  for (const auto& [name, trial] : trials()) EXPECT(Schema::instance().find(name) != nullptr, name);
}

TEST(every_knob_of_weights_makes_the_hosts_bytes) {
  const auto model = openFamily("llama3");
  const auto engine = engineOn("cpu", model);
  const Measurements measurements = EngineCore::of(*engine).measurements();
  const int tried = everyKnob(true, [&](const Knob& knob, const Config& config, const std::string& asked) {
    const Effective effective = resolve(config, model->config());
    EXPECT_EQ(toText(effective.config.get(knob.name)), asked);
    Shop host(model, false), device(model, true);
    const int before = failures();
    const auto onHost = host.build(*model, config, measurements);  // first: distributions of activations are measured once, of weights that the CPU reads
    expectSameSet(*model, *onHost, *device.build(*model, config, measurements));
    EXPECT(failures() == before, knob.name, asked);
  });
  EXPECT(tried > 40, tried);
}

TEST(every_other_knob_computes_as_on_the_cpu) {
  const int tried = everyKnob(false, [](const Knob& knob, const Config& config, const std::string& asked) {
    emulator::haveLibrary(asked == "fp8");
    Both both("llama3");
    for (Session* session : {both.cpu.get(), both.gpu.get()}) {
      session->request(config);
      ok(session->finishPending({}));
    }
    const auto runs = [](const Session& session) {  // twins and FP8 (of long prompts) are a GPU's alone
      const Config& ran = session.effective()->config;
      const bool fp8 = ran.text("compute.activations") == "fp8";
      return (fp8 ? ran.with("compute.activations", std::string("auto")) : ran).with("compute.prefill_twin", std::string("auto")).canonical();
    };
    if (refused(*both.gpu, knob, asked)) {
      EXPECT_EQ(asked, std::string("fp8"));
      return;
    }
    EXPECT_EQ(runs(*both.gpu), runs(*both.cpu));
    const double worst = both.promptThenSteps(35, 6);
    EXPECT(worst <= boundOf(config), knob.name, asked, worst);
    both.expectSameCache();
  });
  emulator::haveLibrary(false);
  EXPECT(tried > 30, tried);
}
