// SPDX-License-Identifier: GPL-3.0-or-later
// What activation sparsity gains and costs.
//   bench_activation speed MODEL --calibration F [--rounds N] [--tokens N] [--set knob=value]...
//     time of a decoded token at every method and share, as a ratio to the dense model measured just before and after it.
//   bench_activation quality MODEL --text F --calibration F [--context N] [--chunks N] [--set knob=value]...
//     perplexity and KL divergence of the second halves of windows, decoded token by token, and the share that was left out.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "engine/evaluate/perplexity.h"
#include "engine/run/engine.h"
#include "engine/sparsify/method.h"
#include "engine/sparsify/use.h"
#include "tests/bench/bench.h"

using namespace winnow;
using namespace winnow::bench;

namespace {

constexpr double kShares[] = {0.25, 0.4, 0.5, 0.7, 0.9};

struct Options {
  std::string part, model, text;
  std::vector<std::string> methods;
  int context = 256, chunks = 0, rounds = 7, tokens = 16, threads = 2;
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
    else if (arg == "--calibration") options.config = need(options.config.parsed("calibration.text", value));
    else if (arg == "--method") options.methods.push_back(value);
    else if (arg == "--context") options.context = std::atoi(value.c_str());
    else if (arg == "--chunks") options.chunks = std::atoi(value.c_str());
    else if (arg == "--rounds") options.rounds = std::max(1, std::atoi(value.c_str()));
    else if (arg == "--tokens") options.tokens = std::max(1, std::atoi(value.c_str()));
    else if (arg == "--threads") options.threads = std::max(1, std::atoi(value.c_str()));
    else if (arg == "--set" && value.find('=') != std::string::npos)
      options.config = need(options.config.parsed(value.substr(0, value.find('=')), value.substr(value.find('=') + 1)));
    else stop("unknown option " + arg);
  }
  if (plain.size() != 2 || (plain[0] != "speed" && plain[0] != "quality"))
    stop("usage: bench_activation speed|quality MODEL --calibration F [--text F] [--method NAME]... [--context N] [--chunks N] [--rounds N] [--tokens N] [--threads N] [--set knob=value]...");
  options.part = plain[0];
  options.model = plain[1];
  if (options.methods.empty())
    for (const ActivationMethod& method : activationMethods()) options.methods.push_back(method.name);
  return options;
}

// Of the place a method names its share of: the neurons, or all inputs.
double leftOut(const SparseUse& use) {
  SparseCount inputs, neurons;
  for (const auto& layer : use.layers)
    for (size_t place = 0; place < layer.size(); ++place) {
      SparseCount& sum = place == SparseUse::kNeurons ? neurons : inputs;
      sum.kept += layer[place].kept;
      sum.of += layer[place].of;
    }
  return neurons.of > 0 ? neurons.skipped() : inputs.skipped();
}

double msPerToken(Session& session, int tokens) {
  std::vector<double> times;
  for (int i = 0; i < tokens; ++i) {
    const auto start = Clock::now();
    need(session.step((7 * i + 1) % session.vocab()));
    times.push_back(1e3 * secondsSince(start));
  }
  return median(times);
}

void prepare(Session& session, int prompt) {
  session.reset();
  std::vector<int32_t> ids;
  for (int i = 0; i < prompt; ++i) ids.push_back((31 * i + 5) % session.vocab());
  need(session.prefill(ids, {}));
}

void speed(const std::shared_ptr<Engine>& engine, const Options& options) {
  constexpr int kPrompt = 32;
  SessionOptions session;
  session.context = 512;
  session.maxBatch = 64;
  const auto dense = need(engine->createSession(options.config, session, {}));
  prepare(*dense, kPrompt);
  msPerToken(*dense, 2);
  std::printf("%-9s %6s %9s %9s %12s %12s %14s\n", "method", "share", "left out", "bytes", "ms/token", "dense ms", "time / dense");
  for (const std::string& method : options.methods) {
    const auto start = Clock::now();
    const auto sparse = need(engine->createSession(options.config.with("activation.method", method), session, {}));
    std::printf("%s: prepared in %.1f s, %.0f MiB of weights in memory besides\n", method.c_str(), secondsSince(start),
                static_cast<double>(sparse->memory()[static_cast<size_t>(MemoryTag::weights)] - dense->memory()[static_cast<size_t>(MemoryTag::weights)]) / (1 << 20));
    for (const double share : kShares) {
      std::vector<double> ratios, own, base;
      sparse->request(options.config.with("activation.method", method).with("activation.sparsity", share));
      for (int round = 0; round < options.rounds; ++round) {
        prepare(*sparse, kPrompt);
        prepare(*dense, kPrompt);
        msPerToken(*sparse, 1);
        const double before = msPerToken(*dense, options.tokens / 2), mine = msPerToken(*sparse, options.tokens), after = msPerToken(*dense, options.tokens / 2);
        own.push_back(mine);
        base.push_back((before + after) / 2);
        ratios.push_back(mine / base.back());
      }
      std::printf("%-9s %5.0f%% %8.1f%% %8.1f%% %12.3f %12.3f %14.3f\n", method.c_str(), 100 * share, 100 * leftOut(sparseUse(*sparse)),
                  100.0 * static_cast<double>(sparse->weightBytesPerToken()) / static_cast<double>(dense->weightBytesPerToken()), median(own), median(base), median(ratios));
      std::fflush(stdout);
    }
  }
}

void quality(const std::shared_ptr<Engine>& engine, const Options& options) {
  std::ifstream in(options.text, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  if (text.empty()) stop("--text " + options.text + " is missing or empty");
  if (!engine->tokenizer()) stop("the model has no vocabulary");
  SessionOptions sessionOptions;
  sessionOptions.context = options.context;
  const auto dense = need(engine->createSession(options.config, sessionOptions, {}));
  const auto session = need(engine->createSession(options.config, sessionOptions, {}));
  PerplexityRequest request;
  request.context = options.context;
  request.chunks = options.chunks;
  request.stepwise = true;
  bool head = false;
  for (const std::string& method : options.methods)
    for (const double share : kShares) {
      session->request(options.config.with("activation.method", method).with("activation.sparsity", share));
      need(session->finishPending({}));
      const PerplexityResult r = need(measurePerplexity(*session, dense.get(), *engine->tokenizer(), text, request, {}));
      if (!std::exchange(head, true))
        std::printf("%s, %s: dense perplexity %.4f\n%-9s %6s %9s %12s %10s %8s\n", engine->model().config().name.c_str(), r.protocol.c_str(), r.basePerplexity, "method", "share", "left out",
                    "perplexity", "KLD", "top 1");
      std::printf("%-9s %5.0f%% %8.1f%% %12.4f %10.5f %7.2f%%\n", method.c_str(), 100 * share, 100 * leftOut(sparseUse(*session)), r.perplexity, r.kld->mean, 100 * r.kld->top1);
      std::fflush(stdout);
    }
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  EngineOptions engineOptions;
  engineOptions.device = "cpu";
  engineOptions.threads = options.threads;
  const auto engine = need(Engine::create(need(Model::open(options.model)), engineOptions));
  options.part == "speed" ? speed(engine, options) : quality(engine, options);
}
