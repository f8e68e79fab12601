// SPDX-License-Identifier: GPL-3.0-or-later
// What pruning costs, in quality and in time.
//   bench_pruning quality MODEL --text F [--calibration F] [--context N] [--chunks N] [--set knob=value]...
//     perplexity and KL divergence of every method at every ratio and pattern, and whether the directions hold.
//   bench_pruning recovery MODEL --text F ...     the same for every method with every recovery, at 50 % and 2:4, with the seconds that preparing took;
//     --method and --recovery, given more than once, leave the others out.
//   bench_pruning layers MODEL --text F ...       the same for dropped layers, with time per token, memory and the influence of each layer.
//   bench_pruning width MODEL --text F ...        the same for narrowed feed-forwards, by every method, with recoveries, time per token and memory; takes
//     --method and --recovery as well.
//   bench_pruning heads MODEL --text F ...        the same for heads left out of attentions; head_dim: for components of heads.
//   bench_pruning slice MODEL --text F ...        the same for a sliced residual stream, with the time of the shortcuts.
//   bench_pruning ratio MODEL [--rounds N] ...    seconds from asking for another ratio to the moment a token may use it; under --set compute.publish=layers
//     in the background, layer by layer.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "engine/evaluate/perplexity.h"
#include "engine/prune/head_dims.h"
#include "engine/prune/heads.h"
#include "engine/prune/layer_drop.h"
#include "engine/prune/method.h"
#include "engine/prune/width.h"
#include "tests/bench/bench.h"

using namespace winnow;
using namespace winnow::bench;

namespace {

struct Options {
  std::string part, model, text, calibration;
  std::vector<std::string> methods, recoveries;  // of parts recovery, width, heads and head_dim; empty: all
  int context = 256, chunks = 0, rounds = 7, threads = 2;
  Config config;
};

Options parse(int argc, char** argv) {
  Options options;
  std::vector<std::string> plain;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    if (arg.rfind("--", 0) != 0) {
      plain.push_back(arg);
      continue;
    }
    ++i;
    if (arg == "--text") options.text = value;
    else if (arg == "--calibration") options.calibration = value;
    else if (arg == "--method") options.methods.push_back(value);
    else if (arg == "--recovery") options.recoveries.push_back(value);
    else if (arg == "--context") options.context = std::atoi(value.c_str());
    else if (arg == "--chunks") options.chunks = std::atoi(value.c_str());
    else if (arg == "--rounds") options.rounds = std::max(1, std::atoi(value.c_str()));
    else if (arg == "--threads") options.threads = std::max(1, std::atoi(value.c_str()));
    else if (arg == "--set" && value.find('=') != std::string::npos)
      options.config = need(options.config.parsed(value.substr(0, value.find('=')), value.substr(value.find('=') + 1)));
    else stop("unknown option " + arg);
  }
  if (plain.size() != 2) stop("usage: bench_pruning quality|recovery|layers|width|heads|head_dim|slice|ratio MODEL [--text F] [--calibration F] [--context N] [--chunks N] [--rounds N] [--set knob=value]...");
  options.part = plain[0];
  options.model = plain[1];
  if (!options.calibration.empty()) options.config = need(options.config.parsed("calibration.text", options.calibration));
  return options;
}

class Meter {
 public:
  Meter(std::shared_ptr<Engine> engine, const Options& options) : engine_(std::move(engine)), options_(options) {
    std::ifstream in(options.text, std::ios::binary);
    text_.assign(std::istreambuf_iterator<char>(in), {});
    if (text_.empty()) stop("--text " + options.text + " is missing or empty");
    if (!engine_->tokenizer()) stop("the model has no vocabulary");
    SessionOptions session;
    session.context = options.context;
    baseline_ = need(engine_->createSession(Config(), session, {}));
    session_ = need(engine_->createSession(options.config, session, {}));
  }
  PerplexityResult operator()(const Config& config) {
    const auto start = Clock::now();
    session_->reset();  // heads come and go with an empty cache
    session_->request(config);
    need(session_->finishPending({}));
    prepared_ = secondsSince(start);
    PerplexityRequest request;
    request.context = options_.context;
    request.chunks = options_.chunks;
    return need(measurePerplexity(*session_, baseline_.get(), *engine_->tokenizer(), text_, request, {}));
  }
  Session& session() { return *session_; }
  double prepared() const { return prepared_; }  // seconds

 private:
  std::shared_ptr<Engine> engine_;
  const Options& options_;
  std::string text_;
  std::unique_ptr<Session> baseline_, session_;
  double prepared_ = 0;
};

Config with(const Config& config, const std::string& method, const std::string& ratio, const std::string& pattern) {
  return need(need(need(config.parsed("prune.method", method)).parsed("prune.ratio", ratio)).parsed("prune.pattern", pattern));
}

void benchQuality(const std::shared_ptr<Engine>& engine, const Options& options) {
  Meter meter(engine, options);
  const std::vector<std::pair<std::string, std::string>> levels = {
      {"0.3", "unstructured"}, {"0.4", "unstructured"}, {"0.5", "unstructured"}, {"0.6", "unstructured"}, {"0.7", "unstructured"}, {"0.5", "4:8"}, {"0.5", "2:4"}};
  std::printf("| method |");
  for (const auto& [ratio, pattern] : levels) std::printf(" %s |", pattern == "unstructured" ? ratio.c_str() : pattern.c_str());
  std::printf(" s at 0.5 |\n");
  std::printf("dense: perplexity %.3f\n", meter(options.config).perplexity);
  std::vector<std::vector<double>> kld;
  for (const PruneMethod& method : pruneMethods()) {
    std::printf("| %s |", method.name.c_str());
    kld.emplace_back();
    double seconds = 0;
    for (const auto& [ratio, pattern] : levels) {
      const PerplexityResult result = meter(with(options.config, method.name, ratio, pattern));
      std::printf(" %.2f (%.4f) |", result.perplexity, result.kld->mean);
      std::fflush(stdout);
      kld.back().push_back(result.kld->mean);
      if (ratio == "0.5" && pattern == "unstructured") seconds = meter.prepared();
    }
    std::printf(" %.2f |\n", seconds);
    for (size_t i = 1; i < 5; ++i)
      if (kld.back()[i] < 0.98 * kld.back()[i - 1]) std::printf("DIRECTION FAILS: %s loses less at %s than at %s\n", method.name.c_str(), levels[i].first.c_str(), levels[i - 1].first.c_str());
  }
  for (size_t m = 1; m < kld.size(); ++m)
    for (const size_t i : {size_t{2}, size_t{6}})
      std::printf("%s: %s loses %.2f times what magnitude does at %s\n", kld[m][i] < kld[0][i] ? "holds" : "FAILS", pruneMethods()[m].name.c_str(), kld[m][i] / kld[0][i], levels[i].second.c_str());
}

void benchRecovery(const std::shared_ptr<Engine>& engine, const Options& options) {
  Meter meter(engine, options);
  std::vector<std::string> recoveries = options.recoveries, methods = options.methods;
  if (recoveries.empty()) recoveries = Schema::instance().find("prune.recovery")->choices;
  if (methods.empty())
    for (const PruneMethod& method : pruneMethods()) methods.push_back(method.name);
  std::printf("dense: perplexity %.3f\n| method | pattern |", meter(options.config).perplexity);
  for (const std::string& recovery : recoveries) std::printf(" %s, s |", recovery.c_str());
  for (const std::string& method : methods)
    for (const char* pattern : {"unstructured", "2:4"}) {
      std::printf("\n| %s | %s |", method.c_str(), pattern);
      for (const std::string& recovery : recoveries) {
        const PerplexityResult result = meter(need(with(options.config, method, "0.5", pattern).parsed("prune.recovery", recovery)));
        std::printf(" %.2f (%.4f), %.1f |", result.perplexity, result.kld->mean, meter.prepared());
        std::fflush(stdout);
      }
    }
  std::printf("\n");
}

double decodeMs(Session& session) {
  constexpr int kTokens = 64;
  session.reset();
  need(session.step(1));
  const auto start = Clock::now();
  for (int i = 0; i < kTokens; ++i) need(session.step(1 + i % 7));
  return 1e3 * secondsSince(start) / kTokens;
}

void benchLayers(const std::shared_ptr<Engine>& engine, const Options& options) {
  Meter meter(engine, options);
  const int layers = engine->model().config().layers;
  const auto influence = need(engine->layerInfluence(options.config, {}));
  for (int layer = 0; layer < layers; ++layer) {
    const LayerInfluence& one = influence[static_cast<size_t>(layer)];
    std::printf("layer %2d: influence %.4f (attention %.4f, feed-forward %.4f), angle %.4f pi\n", layer, one.layer, one.attention, one.ffn, one.angle);
  }
  std::printf("| dropped | perplexity | KL divergence, nat | ms per token | weights, MB | cache, kB |\n");
  for (const LayerDropMethod& method : layerDropMethods())
    for (int count = 0; count <= std::min(4, layers - 2); ++count) {
      const Config config = need(need(options.config.parsed("prune.layers", std::to_string(count))).parsed("prune.layers_method", method.name));
      const PerplexityResult result = meter(config);
      const double ms = decodeMs(meter.session());
      const MemoryByTag memory = meter.session().memory();
      const double weights = static_cast<double>(memory[static_cast<size_t>(MemoryTag::weights)] + memory[static_cast<size_t>(MemoryTag::weightsMapped)]);
      const auto gone = static_cast<int>(meter.session().effective()->config.integer("prune.layers"));  // merging may stop earlier
      if (gone != count) {
        std::printf("| %s %d: %d go |\n", method.name.c_str(), count, gone);
        continue;
      }
      std::printf("| %s %d | %.3f | %.4f | %.3f | %.2f | %.1f |\n", method.name.c_str(), count, result.perplexity, result.kld->mean, ms, 1e-6 * weights,
                  1e-3 * static_cast<double>(memory[static_cast<size_t>(MemoryTag::kv)]));
    }
}

// Of single tokens: what a machine with other work shows when it is left alone for that long.
double bestMs(Session& session) {
  constexpr int kTokens = 120;
  session.reset();
  need(session.step(1));
  double best = 1e9;
  for (int i = 0; i < kTokens; ++i) {
    const auto start = Clock::now();
    need(session.step(1 + i % 7));
    best = std::min(best, 1e3 * secondsSince(start));
  }
  return best;
}

// Every share of what `knob` removes, by every method.
template <class Method>
void benchShares(const std::shared_ptr<Engine>& engine, const Options& options, const std::string& knob, std::span<const Method> all, const std::vector<std::string>& shares) {
  Meter meter(engine, options);
  std::vector<std::string> methods = options.methods, recoveries = options.recoveries;
  if (recoveries.empty()) recoveries = {"none", "scale", "least-squares"};
  if (methods.empty())
    for (const Method& method : all) methods.push_back(method.name);
  const auto measured = [&](const Config& config) {
    const PerplexityResult result = meter(config);
    std::printf(" %.2f (%.4f) |", result.perplexity, result.kld->mean);
    std::fflush(stdout);
  };
  const auto cost = [&] {
    const double ms = bestMs(meter.session());
    const MemoryByTag memory = meter.session().memory();
    std::printf(" %.1f s to prepare, %.3f ms per token at best, weights %.2f MB, cache %.3f MB, widths", meter.prepared(), ms,
                1e-6 * static_cast<double>(memory[static_cast<size_t>(MemoryTag::weights)] + memory[static_cast<size_t>(MemoryTag::weightsMapped)]),
                1e-6 * static_cast<double>(memory[static_cast<size_t>(MemoryTag::kv)]));
    for (int layer = 0; layer < engine->model().config().layers; ++layer) std::printf(" %d", meter.session().ffnWidth(layer));
    std::printf("\n");
  };
  std::printf("dense: perplexity");
  measured(options.config);
  cost();
  for (const std::string& method : methods)
    for (const std::string& recovery : recoveries) {
      std::printf("| %s | %s |", method.c_str(), recovery.c_str());
      for (const std::string& share : shares)
        measured(need(need(need(options.config.parsed(knob, share)).parsed(knob + "_method", method)).parsed("prune.recovery", recovery)));
      cost();
    }
}

// Timed in turn with the whole model, whose best time beside it is the measure.
void benchSlice(const std::shared_ptr<Engine>& engine, const Options& options) {
  Meter meter(engine, options);
  SessionOptions small;
  small.context = options.context;
  const auto whole = need(engine->createSession(options.config, small, {}));
  std::printf("| removed | perplexity (KL divergence, nat) | width | weights, MB | of them shortcuts | s to prepare | ms per token | of the whole model's | in shortcuts |\n");
  for (const char* share : {"0", "0.1", "0.2", "0.3", "0.4", "0.5"}) {
    const PerplexityResult result = meter(need(options.config.parsed("prune.slice", share)));
    Session& session = meter.session();
    double ms = 1e9, beside = 1e9;
    for (int round = 0; round < options.rounds; ++round) {
      beside = std::min(beside, bestMs(*whole));
      ms = std::min(ms, bestMs(session));
    }
    session.reset();
    session.observeOps(true);
    double shortcutNs = 0, allNs = 0;
    int64_t shortcutBytes = 0;
    for (int token = 0; token < 100; ++token) {
      need(session.step(1 + token % 7));
      for (const OpTime& time : session.opTimes()) {
        const bool shortcut = session.plan().ops[static_cast<size_t>(time.op)].kind == OpKind::shortcut;
        allNs += static_cast<double>(time.ns);
        if (shortcut) shortcutNs += static_cast<double>(time.ns);
        if (shortcut && token == 0) shortcutBytes += time.bytes;
      }
    }
    session.observeOps(false);
    const MemoryByTag memory = session.memory();
    std::printf("| %s | %.3f (%.4f) | %d | %.2f | %.2f | %.1f | %.3f | %.2f | %.0f %% |\n", share, result.perplexity, result.kld->mean, session.streamWidth(),
                1e-6 * static_cast<double>(memory[static_cast<size_t>(MemoryTag::weights)] + memory[static_cast<size_t>(MemoryTag::weightsMapped)]), 1e-6 * static_cast<double>(shortcutBytes),
                meter.prepared(), ms, ms / beside, 100 * shortcutNs / allNs);
    std::fflush(stdout);
  }
}

void benchRatio(const std::shared_ptr<Engine>& engine, const Options& options) {
  SessionOptions small;
  small.context = 64;
  small.threads = options.threads;
  const auto session = need(engine->createSession(options.config, small, {}));
  double processor = 0;  // seconds of the last change on all processors: what a machine without other work would divide by its threads
  const auto change = [&](const Config& config) {
    const auto start = Clock::now();
    const std::clock_t before = std::clock();
    session->request(config);
    if (config.text("compute.publish") == "layers")  // takes what the background job hands on, as between tokens
      while (session->pending()) {
        session->adopt();
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
    need(session->finishPending({}));
    processor = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
    return secondsSince(start);
  };
  for (const char* method : {"magnitude", "wanda"}) {
    const double first = change(with(options.config, method, "0.5", "unstructured"));
    const double scores = 1e-6 * static_cast<double>(session->memory()[static_cast<size_t>(MemoryTag::calibration)]);
    std::vector<double> seconds, busy;
    for (int i = 0; i < options.rounds; ++i) {
      seconds.push_back(change(with(options.config, method, std::to_string(0.3 + 0.05 * (i % 8)), "unstructured")));
      busy.push_back(processor);
    }
    std::sort(seconds.begin(), seconds.end());
    std::sort(busy.begin(), busy.end());
    const size_t middle = seconds.size() / 2;
    std::printf("%s: the first ratio %.2f s; another one %.3f s [%.3f, %.3f], processor time %.3f s [%.3f, %.3f], %d rounds; scores and statistics kept: %.1f MB\n",
                method, first, seconds[middle], seconds.front(), seconds.back(), busy[middle], busy.front(), busy.back(), options.rounds, scores);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  EngineOptions engineOptions;
  engineOptions.device = "cpu";
  engineOptions.threads = options.threads;
  const std::shared_ptr<Engine> engine = need(Engine::create(need(Model::open(options.model)), engineOptions));
  std::printf("%s, %s\n", engine->deviceDescription().c_str(), options.model.c_str());
  if (options.part == "quality")
    benchQuality(engine, options);
  else if (options.part == "recovery")
    benchRecovery(engine, options);
  else if (options.part == "layers")
    benchLayers(engine, options);
  else if (options.part == "width")
    benchShares(engine, options, "prune.width", widthMethods(), {"0.1", "0.2", "0.3", "0.4", "0.5"});
  else if (options.part == "heads")
    benchShares(engine, options, "prune.heads", headMethods(), {"0.125", "0.25", "0.375", "0.5"});
  else if (options.part == "slice")
    benchSlice(engine, options);
  else if (options.part == "head_dim")
    benchShares(engine, options, "prune.head_dim", headDimMethods(), {"0.25", "0.5"});
  else if (options.part == "ratio")
    benchRatio(engine, options);
  else
    stop("unknown part " + options.part);
  return 0;
}
