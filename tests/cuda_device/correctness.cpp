// SPDX-License-Identifier: GPL-3.0-or-later
// The same sessions on the CPU and on the GPU: teacher-forced logits within tests/support/device_bounds.h, greedy text, changes in
// mid-generation, memory.
#include <cuda_runtime.h>

#include <filesystem>

#include "engine/cache/registry.h"
#include "engine/cuda/memory.h"
#include "tests/cuda_device/report.h"
#include "tests/support/device_bounds.h"
#include "tests/support/engine.h"
#include "tests/support/random_model.h"
#include "tests/support/shapes.h"

namespace winnow::device_run {
namespace {

using test::Settings;
using test::value;

constexpr int kContext = 256, kPrompt = 40, kSteps = 24;

struct Side {
  std::shared_ptr<Engine> engine;
  std::unique_ptr<Session> session;
};

Side open(const std::shared_ptr<const Model>& model, const char* device, const Settings& settings, int context = kContext) {
  EngineOptions options;
  options.device = device;
  SessionOptions session;
  session.context = context;
  session.maxBatch = 32;  // a prompt in two pieces
  Side side;
  side.engine = value(Engine::create(model, options));
  side.session = value(side.engine->createSession(test::configure(settings), session, {}));
  return side;
}

// How far rows of logits are apart, and whether the top token is the same wherever the gap is larger than twice that.
struct Distance {
  double worst = 0, first = 0;  // of all rows, of the first
  bool sameTop = true, finite = true;
  int rows = 0;

  void add(std::span<const float> expected, std::span<const float> found) {
    double difference = 0, norm = 0, largest = 0;
    for (size_t i = 0; i < found.size(); ++i) {
      const double d = double{found[i]} - expected[i];
      finite = finite && std::isfinite(found[i]);
      difference += d * d;
      norm += double{expected[i]} * expected[i];
      largest = std::max(largest, std::fabs(d));
    }
    const double apart = std::sqrt(difference / norm);
    if (rows == 0) first = apart;
    worst = std::max(worst, apart);
    const size_t best = static_cast<size_t>(test::best(expected));
    for (size_t i = 0; i < found.size(); ++i)
      if (i != best && double{expected[best]} - expected[i] > 2 * largest) sameTop = sameTop && found[best] > found[i];
    ++rows;
  }
  bool within(double bound) const { return finite && sameTop && worst <= bound; }
  std::string text() const {
    return std::string(finite ? "" : "not finite; ") + (sameTop ? "" : "another top token; ") + std::to_string(rows) + " rows";
  }
};

void step(const Side& cpu, const Side& gpu, int32_t token, Distance& distance) {
  test::ok(cpu.session->step(token));
  test::ok(gpu.session->step(token));
  distance.add(cpu.session->logits(), gpu.session->logits());
}

// Whether every row is within `bound` and the first within `firstBound`. The distance of the first row.
double compareLogits(Recorder& recorder, const std::string& name, const std::shared_ptr<const Model>& model, const Settings& settings, double bound, double firstBound, int prompted = kPrompt) {
  const Side cpu = open(model, "cpu", settings), gpu = open(model, "cuda", settings);
  const auto tokens = test::someTokens(prompted + kSteps, model->config().vocab);
  const std::span<const int32_t> prompt(tokens.data(), static_cast<size_t>(prompted));
  std::vector<float> expected;
  Distance prefill, decode;
  test::ok(cpu.session->prefill(prompt, {}, [&](int, int count, const float* rows) {
    expected.insert(expected.end(), rows, rows + int64_t{count} * model->config().vocab);
  }));
  test::ok(gpu.session->prefill(prompt, {}, [&](int first, int count, const float* rows) {
    const auto vocab = static_cast<size_t>(model->config().vocab);
    for (int i = 0; i < count; ++i)
      prefill.add({expected.data() + static_cast<size_t>(first + i) * vocab, vocab}, {rows + static_cast<size_t>(i) * vocab, vocab});
  }));
  for (int i = prompted; i < prompted + kSteps; ++i) step(cpu, gpu, tokens[static_cast<size_t>(i)], decode);
  recorder.check(prefill.within(bound) && prefill.first <= firstBound && decode.within(bound) && prefill.rows == prompted, name, "prompt " + prefill.text() + ", steps " + decode.text(),
                 {{"first", prefill.first}, {"prompt", prefill.worst}, {"steps", decode.worst}, {"bound", bound}});
  return prefill.first;
}

std::string starterPath() {
  const std::string bundled = std::string(WINNOW_TESTS_DIR) + "/../resources/starter/starter.gguf";
  if (std::filesystem::exists(bundled)) return bundled;
  const std::string made = (test::scratch() / "starter.gguf").string();
  test::ok(synthesize(test::named("starter"), "f32", 1, made, {}));
  return made;
}

void compareGreedy(Recorder& recorder) {
  const std::string path = starterPath();
  const auto model = value(Model::open(path));
  const Settings settings = {{"compute.activations", "f32"}};
  const Side cpu = open(model, "cpu", settings), gpu = open(model, "cuda", settings);
  const auto prompt = test::someTokens(16, model->config().vocab);
  test::ok(cpu.session->prefill(prompt, {}));
  test::ok(gpu.session->prefill(prompt, {}));
  const auto a = test::generate(*cpu.session, 64), b = test::generate(*gpu.session, 64);
  const auto same = static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin());
  recorder.check(same == a.size(), "greedy starter f32", path.find("resources") == std::string::npos ? "random weights" : "the bundled starter",
                 {{"tokens", static_cast<double>(a.size())}, {"equal", static_cast<double>(same)}});
}

// KL(p || q) in nats of two rows of logits.
double divergenceOf(const float* p, const float* q, size_t n) {
  const auto logSum = [n](const float* row) {
    const double most = *std::max_element(row, row + n);
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += std::exp(row[i] - most);
    return most + std::log(sum);
  };
  const double ofP = logSum(p), ofQ = logSum(q);
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += std::exp(p[i] - ofP) * ((p[i] - ofP) - (q[i] - ofQ));
  return sum;
}

// What FP8 changes of a real model over one long prompt. Under the emulation, whose sums are exact, it is 0.0053 nat; the device's keep 13 bits and more
// of each, which is little beside codes of 4. Four times as much is another thing than rounding.
void compareFp8(Recorder& recorder) {
  constexpr int kTokens = 512;
  const auto model = value(Model::open(starterPath()));
  EngineOptions options;
  options.device = "cuda";
  const auto engine = value(Engine::create(model, options));
  const auto vocab = static_cast<size_t>(model->config().vocab);
  auto tokens = test::someTokens(kTokens, model->config().vocab);
  if (const auto tokenizer = engine->tokenizer()) tokens = tokenizer->encode(test::readFile(std::string(WINNOW_TESTS_DIR) + "/../resources/texts/sample.txt"), true);
  tokens.resize(kTokens);
  SessionOptions sizes;
  sizes.context = sizes.maxBatch = kTokens;
  std::vector<float> rows[2];
  for (const bool fp8 : {false, true}) {
    const auto session = value(engine->createSession(test::configure({{"compute.activations", fp8 ? "fp8" : "auto"}}), sizes, {}));
    for (const Adjustment& a : session->effective()->adjustments)
      if (a.knob == "compute.activations") return recorder.add(Status::skip, "fp8 starter", "skipped: " + a.reason);
    test::ok(session->prefill(tokens, {}, [&](int, int count, const float* logits) { rows[fp8].insert(rows[fp8].end(), logits, logits + static_cast<size_t>(count) * vocab); }));
  }
  double sum = 0;
  for (size_t t = 0; t < kTokens; ++t) sum += divergenceOf(rows[0].data() + t * vocab, rows[1].data() + t * vocab, vocab) / kTokens;
  recorder.check(sum > 1e-5 && sum < 0.02, "fp8 starter", "KL divergence from 16 bits over 512 tokens, nat", {{"divergence", sum}});
}

int64_t freeBytes() {
  size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) throw std::runtime_error("cudaMemGetInfo failed");
  return static_cast<int64_t>(free);
}

int64_t sumOf(const MemoryByTag& memory) {
  int64_t sum = 0;
  for (const int64_t bytes : memory) sum += bytes;
  return sum;
}

// The plan shown before, the ledger's count and the driver's agree.
void comparePlan(Recorder& recorder, const std::string& what, const Settings& settings) {
  const auto model = test::randomModel(test::named("0.3b").config, DType::bf16, true);
  EngineOptions options;
  options.device = "cuda";
  SessionOptions sessionOptions;
  sessionOptions.context = 1024;
  const auto engine = value(Engine::create(model, options));
  const int64_t before = freeBytes();
  const Config config = test::configure(settings);
  const int64_t planned = sumOf(value(engine->plan(config, sessionOptions, 600)));
  recorder.check(before - freeBytes() < (int64_t{1} << 20), "a plan allocates nothing" + what, "", {{"bytes", static_cast<double>(before - freeBytes())}});
  const auto session = value(engine->createSession(config, sessionOptions, {}));
  const auto tokens = test::someTokens(600, model->config().vocab);
  test::ok(session->prefill(tokens, {}));
  test::ok(session->step(1));
  const auto used = static_cast<double>(sumOf(session->memory())), held = static_cast<double>(before - freeBytes());
  const auto counted = static_cast<double>(engine->ledger().total());
  const double slack = std::max(0.02 * used, 65536.0);
  recorder.check(std::fabs(used - static_cast<double>(planned)) <= slack, "plan against use" + what, "",
                 {{"planned_mib", static_cast<double>(planned) / (1 << 20)}, {"used_mib", used / (1 << 20)}});
  // Host memory is in the ledger too, and the driver keeps some for kernels and rounds up: what it holds is close, not the same.
  recorder.check(std::fabs(counted - held) <= std::max(0.05 * counted, 256.0 * (1 << 20)), "ledger against cudaMemGetInfo" + what, "",
                 {{"ledger_mib", counted / (1 << 20)}, {"driver_mib", held / (1 << 20)}});
}

// More layers than the device has memory for: refused with figures, and nothing was taken.
void refuseTooMuch(Recorder& recorder) {
  size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) throw std::runtime_error("cudaMemGetInfo failed");
  ModelConfig config = test::named("8b").config;
  const double layerBytes = 2.0 * (2.0 * config.hidden * (config.qRows() + config.kvRows()) + 3.0 * config.hidden * config.ffn);
  config.layers = static_cast<int>(1.2 * static_cast<double>(total) / layerBytes) + 1;
  config.name = "too-large";
  const auto model = test::randomModel(config, DType::bf16, true);
  EngineOptions options;
  options.device = "cuda";
  const auto engine = value(Engine::create(model, options));
  SessionOptions sessionOptions;
  sessionOptions.context = 512;
  const int64_t before = freeBytes();
  const auto start = std::chrono::steady_clock::now();
  const auto session = engine->createSession(Config(), sessionOptions, {});
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const std::string message = session ? "it was not refused" : session.error().message + " " + session.error().hint;
  const bool figures = std::count_if(message.begin(), message.end(), [](char c) { return c >= '0' && c <= '9'; }) >= 2;
  recorder.check(!session && session.error().code == ErrorCode::resources && figures && before - freeBytes() < (int64_t{64} << 20), "refused before allocation", message,
                 {{"seconds", seconds}, {"taken_mib", static_cast<double>(before - freeBytes()) / (1 << 20)}});
}

void surviveFullDevice(Recorder& recorder) {
  size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) throw std::runtime_error("cudaMemGetInfo failed");
  Ledger ledger;
  bool refused = false;
  try {
    const cuda::DeviceBuffer buffer(ledger, MemoryTag::weights, total + (size_t{1} << 30));
  } catch (const std::bad_alloc&) {
    refused = true;
  }
  cuda::OwnStream stream;
  const cuda::DeviceBuffer small(ledger, MemoryTag::weights, 4096);
  std::vector<uint8_t> out(4096, 1), in(4096, 7);
  small.copyTo(stream.get(), out.data(), 0);
  const_cast<cuda::DeviceBuffer&>(small).copyFrom(stream.get(), in.data(), in.size());
  small.copyTo(stream.get(), out.data(), out.size());
  recorder.check(refused && out == in, "a full device is survived", refused ? "bad_alloc, and the next copy works" : "the allocation did not fail");
}

}  // namespace

void runLogits(Recorder& recorder) {
  using test::kBound, test::kInt8Bound, test::codesBound;
  constexpr double kHalves = kBound + test::kPromptRounding, kBrain = test::kBf16Bound + test::kPromptRounding;
  int firstRows = 0, exactFirstRows = 0;  // of int8, where seven in eight have no step apart
  for (const std::string& family : test::families()) {
    const ModelConfig config = test::familyConfig(family);
    const auto compare = [&](const std::string& what, DType type, const Settings& settings, double bound, double firstBound = 1, int prompted = kPrompt) {
      const std::string name = family + " " + what;
      recorder.run(name, 1, [&] {
        const double first = compareLogits(recorder, name, test::randomModel(config, type), settings, bound, std::min(bound, firstBound), prompted);
        if (bound != kInt8Bound) return;
        ++firstRows;
        exactFirstRows += first <= kBound;
      });
    };
    compare("f32", DType::f32, {}, kBound);
    compare("f16", DType::f16, {}, kHalves, kBound);
    compare("bf16", DType::bf16, {}, kBrain, test::kBf16Bound);
    for (const char* bits : {"8", "6", "5", "4", "3", "2"}) compare(std::string(bits) + " bit", DType::f32, {{"weights.bits", bits}}, kHalves, kBound);
    for (const char* bits : {"8", "4"}) compare(std::string(bits) + " bit int8", DType::f32, {{"weights.bits", bits}, {"compute.activations", "int8"}}, kInt8Bound);
    for (const char* format : {"nf4", "mxfp4", "fp8-e4m3", "fp8-e5m2"}) compare(format, DType::f32, {{"weights.format", format}}, kHalves, kBound);
    for (const char* format : {"nf4", "mxfp4"}) compare(std::string(format) + " int8", DType::f32, {{"weights.format", format}, {"compute.activations", "int8"}}, kInt8Bound);
    compare("4 bit g64 asymmetric", DType::f32, {{"weights.bits", "4"}, {"weights.group", "64"}, {"weights.symmetric", "false"}}, kHalves, kBound);
    compare("pruned", DType::f32, {{"prune.ratio", "0.5"}}, kBound);
    compare("shared", DType::f32, {{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}, kBound);
    for (const KvPolicyInfo& policy : kvPolicies())
      if (policy.name != "full") compare(policy.name + " cache", DType::f32, {{"kv.policy", policy.name.c_str()}, {"kv.budget", "32"}, {"kv.interval", "4"}}, kBound);
    if (family != "gpt2")  // its positions are learned
      for (const char* policy : {"window", "streaming"})
        compare(std::string(policy) + " within the cache", DType::f32, {{"kv.policy", policy}, {"kv.budget", "20"}, {"kv.interval", "4"}, {"kv.positions", "cache"}}, kBound);
    // The random models have no text to calibrate on: GRIFFIN measures none.
    for (const char* bits : {"16", "4"}) compare(std::string("griffin ") + bits + " bit", DType::f32, {{"activation.method", "griffin"}, {"activation.sparsity", "0.5"}, {"weights.bits", bits}, {"compute.activations", "f32"}}, kBound);
    compare("critical blocks", DType::f32, {{"prefill.method", "critiprefill"}, {"prefill.budget", "64"}, {"prefill.segment", "32"}}, kBound, kBound, 200);
    for (const int bits : {8, 4, 3, 2})
      for (const char* quantizer : {"per_token", "kivi"}) {
        const std::string width = std::to_string(bits);
        const Settings format = {{"kv.k_bits", width.c_str()}, {"kv.v_bits", width.c_str()}, {"kv.quantizer", quantizer}, {"kv.rotate", bits == 4 ? "true" : "false"}};
        compare(width + " bit cache " + quantizer, DType::f32, format, codesBound(bits), kBound);  // nothing is sealed before the first row
      }
  }
  recorder.check(2 * exactFirstRows >= firstRows, "first rows of int8", "at least half within the bound of 16 bits",
                 {{"rows", static_cast<double>(firstRows)}, {"within", static_cast<double>(exactFirstRows)}});
  recorder.run("greedy starter f32", 5, [&] { compareGreedy(recorder); });
  recorder.run("fp8 starter", 5, [&] { compareFp8(recorder); });
}

// Changes in mid-generation, the same on both sides; and back again to the bits of a session that never changed.
void runSwaps(Recorder& recorder) {
  const auto model = test::randomModel(test::familyConfig("llama3"));
  recorder.run("live changes", 5, [&] {
    const Side cpu = open(model, "cpu", {}), gpu = open(model, "cuda", {});
    const auto tokens = test::someTokens(120, model->config().vocab);
    test::ok(cpu.session->prefill({tokens.data(), 24}, {}));
    test::ok(gpu.session->prefill({tokens.data(), 24}, {}));
    size_t at = 24;
    const std::pair<const char*, Settings> changes[] = {{"as it is", {}},
                                                        {"4 bit", {{"weights.bits", "4"}}},
                                                        {"2 bit, int8", {{"weights.bits", "2"}, {"compute.activations", "int8"}}},
                                                        {"pruned", {{"prune.ratio", "0.3"}}},
                                                        {"streaming cache", {{"kv.policy", "streaming"}, {"kv.budget", "24"}, {"kv.interval", "1"}}},
                                                        {"streaming within the cache", {{"kv.policy", "streaming"}, {"kv.budget", "20"}, {"kv.interval", "1"}, {"kv.positions", "cache"}}},
                                                        {"shared", {{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}},
                                                        {"8 bit cache", {{"kv.k_bits", "8"}, {"kv.v_bits", "8"}}},
                                                        {"as it was", {}}};
    for (const auto& [what, settings] : changes) {
      Distance distance;
      for (const Side* side : {&cpu, &gpu}) {
        side->session->request(test::configure(settings));
        test::ok(side->session->finishPending({}));
      }
      for (int i = 0; i < 6; ++i) step(cpu, gpu, tokens[at++], distance);
      // What was rounded apart before stays in the cache: the int8 steps bound all that follow.
      const double bound = std::string(what) == "as it is" || std::string(what) == "4 bit" ? test::kBound : test::kInt8Bound;
      recorder.check(distance.within(bound), std::string("change: ") + what, distance.text(), {{"distance", distance.worst}, {"bound", bound}});
    }
  });
  recorder.run("A to B to A", 3, [&] {
    const Side gpu = open(model, "cuda", {}), fresh = open(model, "cuda", {});
    const auto tokens = test::someTokens(40, model->config().vocab);
    for (const Settings& settings : {Settings{{"weights.bits", "4"}, {"prune.ratio", "0.4"}}, Settings{}}) {
      gpu.session->request(test::configure(settings));
      test::ok(gpu.session->finishPending({}));
      gpu.session->reset();
      test::ok(gpu.session->prefill(tokens, {}));
    }
    test::ok(fresh.session->prefill(tokens, {}));
    const auto a = test::generate(*gpu.session, 16), b = test::generate(*fresh.session, 16);
    recorder.check(a == b && gpu.session->logitsHash() == fresh.session->logitsHash(), "A to B to A restores every bit", "");
  });
  recorder.run("observers", 3, [&] {
    const Side plain = open(model, "cuda", {}), observed = open(model, "cuda", {});
    observed.session->observeOps(true);
    const auto tokens = test::someTokens(40, model->config().vocab);
    for (const Side* side : {&plain, &observed}) test::ok(side->session->prefill(tokens, {}));
    const auto a = test::generate(*plain.session, 16), b = test::generate(*observed.session, 16);
    int64_t ns = 0;
    for (const OpTime& t : observed.session->opTimes()) ns += t.ns;
    recorder.check(a == b && plain.session->logitsHash() == observed.session->logitsHash() && ns > 0, "observers change no bit", "", {{"ops_us", static_cast<double>(ns) / 1e3}});
  });
}

void runMemory(Recorder& recorder) {
  recorder.run("plan", 6, [&] { comparePlan(recorder, "", {}); });
  recorder.run("plan with twins", 6, [&] { comparePlan(recorder, " with twins", {{"weights.bits", "4"}, {"compute.prefill_twin", "on"}}); });
  recorder.run("refused", 6, [&] { refuseTooMuch(recorder); });
  recorder.run("full", 2, [&] { surviveFullDevice(recorder); });
}

}  // namespace winnow::device_run
