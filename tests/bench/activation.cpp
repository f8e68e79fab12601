// SPDX-License-Identifier: GPL-3.0-or-later
// What activation sparsity gains and costs.
//   bench_activation speed MODEL --calibration F [--rounds N] [--tokens N] [--set knob=value]...
//     time of a decoded token at every method and share, as a ratio to the dense model measured just before and after it. With --threads 1 it is the
//     processor time of the program, which tells more where other programs run.
//   bench_activation products bf16|f16|f32|8|4|3 [--rounds N] [--threads N]
//     the same of the seven matrices of one layer of the 1b shape alone, with random values, as TEAL and as CATS (all of gate, some of up and down) read them.
//   bench_activation quality MODEL --text F --calibration F [--context N] [--chunks N] [--set knob=value]...
//     perplexity and KL divergence of the second halves of windows, decoded token by token, and the share that was left out.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "engine/cpu/sparse.h"
#include "engine/evaluate/perplexity.h"
#include "engine/run/engine.h"
#include "engine/sparsify/method.h"
#include "engine/sparsify/use.h"
#include "tests/bench/bench.h"

using namespace winnow;
using namespace winnow::bench;

namespace {

struct Options {
  std::string part, model, text;
  std::vector<std::string> methods;
  std::vector<double> shares;
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
    else if (arg == "--share") options.shares.push_back(std::atof(value.c_str()));
    else if (arg == "--context") options.context = std::atoi(value.c_str());
    else if (arg == "--chunks") options.chunks = std::atoi(value.c_str());
    else if (arg == "--rounds") options.rounds = std::max(1, std::atoi(value.c_str()));
    else if (arg == "--tokens") options.tokens = std::max(1, std::atoi(value.c_str()));
    else if (arg == "--threads") options.threads = std::max(1, std::atoi(value.c_str()));
    else if (arg == "--set" && value.find('=') != std::string::npos)
      options.config = need(options.config.parsed(value.substr(0, value.find('=')), value.substr(value.find('=') + 1)));
    else stop("unknown option " + arg);
  }
  if (plain.size() != 2 || (plain[0] != "speed" && plain[0] != "products" && plain[0] != "quality"))
    stop("usage: bench_activation speed|quality MODEL, products TYPE --calibration F [--text F] [--method NAME]... [--share S]... [--context N] [--chunks N] [--rounds N] [--tokens N] [--threads N] [--set knob=value]...");
  options.part = plain[0];
  options.model = plain[1];
  if (options.shares.empty()) options.shares = {0.25, 0.4, 0.5, 0.7, 0.9};
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

double milliseconds(bool processor) {
  timespec now{};
  clock_gettime(processor ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return 1e3 * static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_nsec);
}

double msPerToken(Session& session, int tokens) {
  std::vector<double> times;
  for (int i = 0; i < tokens; ++i) {
    const double start = milliseconds(session.threads() == 1);
    need(session.step((7 * i + 1) % session.vocab()));
    times.push_back(milliseconds(session.threads() == 1) - start);
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
  session.context = kPrompt + 8 + 2 * options.rounds * options.tokens;
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
    std::fflush(stdout);
    for (const double share : options.shares) {
      std::vector<double> ratios, own, base;
      sparse->request(options.config.with("activation.method", method).with("activation.sparsity", share));
      prepare(*sparse, kPrompt);
      prepare(*dense, kPrompt);
      msPerToken(*sparse, 1);
      for (int round = 0; round < options.rounds; ++round) {
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

// A layer of the 1b shape: the matrices in the order in which they are read, and copies by channel.
struct Layer {
  struct Part {
    Matrix w;
    ChannelMajor columns, rows;
    std::vector<float> x, y;
  };
  Ledger ledger;
  std::vector<Part> parts;

  Layer(const WeightFormat& format, ThreadPool& pool) {
    constexpr int kHidden = 2048, kKv = 512, kFfn = 8192;
    uint32_t seed = 1;
    const auto next = [&] { return (seed = seed * 1664525u + 1013904223u) >> 8; };
    for (const auto& [rows, cols] : {std::pair{kHidden, kHidden}, {kKv, kHidden}, {kKv, kHidden}, {kHidden, kHidden}, {kFfn, kHidden}, {kFfn, kHidden}, {kHidden, kFfn}}) {
      Part part{Matrix::allocate(ledger, format, rows, cols), {}, {}, std::vector<float>(static_cast<size_t>(cols)), std::vector<float>(static_cast<size_t>(rows))};
      auto* words = part.w.codes.as<uint32_t>();
      for (size_t i = 0; i < part.w.codes.bytes() / 4; ++i) words[i] = format.storage == Storage::packed ? next() * 2654435761u : next() & 0x3fff3fffu;  // below 2
      for (size_t i = 0; i < part.w.scaleBuffer.bytes() / 2; ++i) part.w.scaleBuffer.as<uint16_t>()[i] = 0x2000;
      for (float& x : part.x) x = static_cast<float>(next() % 20001) / 10000 - 1;  // uniform: a threshold of s leaves out a share of s
      part.columns = ChannelMajor::allocate(ledger, part.w, true);
      part.columns.fill(part.w, pool, {});
      if (format.storage == Storage::packed) {
        part.rows = ChannelMajor::allocate(ledger, part.w, false);
        part.rows.fill(part.w, pool, {});
      }
      parts.push_back(std::move(part));
    }
  }
};

void products(const Options& options) {
  ThreadPool pool(options.threads);
  cpu::Context context(pool, cpu::bestIsa());
  const std::string& name = options.model;
  const WeightFormat format = name == "f32" ? WeightFormat{} : name == "f16" ? WeightFormat{Storage::f16, 16, 0, true} : name == "bf16" ? WeightFormat{Storage::bf16, 16, 0, true}
                                            : WeightFormat{Storage::packed, static_cast<uint8_t>(std::atoi(name.c_str())), 32, true};
  const ActivationMode mode = activationMode(Activations::automatic, format);
  Layer layer(format, pool);
  const auto clock = [&] { return milliseconds(options.threads == 1); };
  const auto whole = [&](Layer::Part& part) {
    const cpu::MatmulTarget target{&part.w, part.y.data(), part.w.rows, nullptr, false};
    cpu::matmul(context, {&target, 1}, part.x.data(), part.w.cols, 1, mode);
  };
  std::vector<int32_t> kept, neurons;
  const auto some = [&](Layer::Part& part, double share, bool rows) {
    std::vector<float> x = part.x;
    cpu::keepAbove(x.data(), static_cast<int>(x.size()), static_cast<float>(share), kept);
    const ChannelMajor* channels = rows ? (part.rows.count > 0 ? &part.rows : nullptr) : &part.columns;
    const cpu::SparseTarget target{&part.w, channels, part.y.data(), nullptr, false, mode};
    if (!rows) return cpu::multiplyColumns(context, {&target, 1}, kept, x.data());
    cpu::multiplyRows(context, {&target, 1}, neurons, part.x.data());
  };
  std::printf("%s, one layer of the 1b shape, %s, %d thread(s)\n%-6s %10s %14s %14s\n", format.describe().c_str(), cpu::isaName(cpu::bestIsa()).c_str(), options.threads, "share", "dense ms",
              "TEAL / dense", "CATS / dense");
  for (const double share : {0.0, 0.25, 0.5, 0.7, 0.9}) {
    std::vector<double> base, teal, cats;
    std::vector<float> h = layer.parts.back().x;
    cpu::keepAbove(h.data(), static_cast<int>(h.size()), static_cast<float>(share), neurons);
    for (int round = 0; round < options.rounds; ++round) {
      const double start = clock();
      for (Layer::Part& part : layer.parts) whole(part);
      const double dense = clock();
      for (Layer::Part& part : layer.parts) some(part, share, false);
      const double inputs = clock();
      for (size_t i = 0; i < layer.parts.size(); ++i) i < 5 ? whole(layer.parts[i]) : some(layer.parts[i], share, i == 5);
      const double gate = clock();
      base.push_back(dense - start);
      teal.push_back((inputs - dense) / (dense - start));
      cats.push_back((gate - inputs) / (dense - start));
    }
    std::printf("%5.0f%% %10.3f %14.3f %14.3f\n", 100 * share, median(base), median(teal), median(cats));
    std::fflush(stdout);
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
  for (const std::string& method : options.methods) {
    if (engine->resolved(options.config.with("activation.method", method)).config.text("activation.method") != method) continue;  // not on this model
    for (const double share : options.shares) {
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
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  if (options.part == "products") {
    products(options);
    return 0;
  }
  EngineOptions engineOptions;
  engineOptions.device = "cpu";
  engineOptions.threads = options.threads;
  const auto engine = need(Engine::create(need(Model::open(options.model)), engineOptions));
  options.part == "speed" ? speed(engine, options) : quality(engine, options);
}
