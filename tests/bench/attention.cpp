// SPDX-License-Identifier: GPL-3.0-or-later
// What it costs, and saves, that layers share attention and that prompts choose what they attend to.
//   bench_attention sharing MODEL TEXT CALIBRATION [--context N] [--chunks N] [--set knob=value]...
//     perplexity and KL divergence of blocks of 2 and 4 layers, as they are, with heads aligned, with outputs fitted anew, with both.
//   bench_attention prompts MODEL TEXT [--context N] [--chunks N] [--segment N] [--set knob=value]...
//     the same of what follows prompts read with several budgets, token by token.
//   bench_attention caches MODEL TEXT [CALIBRATION] [--context N] [--chunks N] [--budget N] [--set knob=value]...
//     the same, token by token, of layers that read the cache of another, with and without windows of `budget` tokens, beside shared attention; where
//     a calibration text is given with what is fitted to it, too.
//   bench_attention masked [--lengths 2048,8192] [--budget N] [--rounds N] [--threads N]
//     processor time of the attention of 512 queries at the end of a prompt: dense, with a window of `budget` tokens, and with one that masks nothing.
//   bench_attention speed SHAPE|MODEL [--lengths 2048,8192] [--budget N] [--rounds N] [--threads N] [--set knob=value]...
//     processor time of a prompt, dense and chosen in turn (ABBA), and what attention declares to compute.
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "engine/cpu/ops.h"
#include "engine/evaluate/perplexity.h"
#include "engine/model/synthesize.h"
#include "engine/run/engine.h"
#include "engine/text/tokenizer.h"
#include "tests/bench/bench.h"

namespace {

using namespace winnow;
using namespace winnow::bench;
using Settings = std::vector<std::pair<std::string, std::string>>;

struct Options {
  std::string part;
  std::vector<std::string> files;
  int context = 256, chunks = 20, segment = 64, budget = 2048, rounds = 3, threads = 1;
  std::vector<int> lengths = {2048, 8192};
  Settings set;
};

Options parse(int argc, char** argv) {
  Options out;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (!word.starts_with("--")) {
      (out.part.empty() ? out.part : out.files.emplace_back()) = word;
      continue;
    }
    if (i + 1 == argc) stop(word + " needs a value.");
    const std::string value = argv[++i];
    const size_t equals = value.find('=');
    const int number = std::atoi(value.c_str());
    if (word == "--context") out.context = number;
    else if (word == "--chunks") out.chunks = number;
    else if (word == "--segment") out.segment = number;
    else if (word == "--budget") out.budget = number;
    else if (word == "--rounds") out.rounds = std::max(number, 1);
    else if (word == "--threads") out.threads = std::max(number, 1);
    else if (word == "--set" && equals != std::string::npos) out.set.emplace_back(value.substr(0, equals), value.substr(equals + 1));
    else if (word == "--lengths") {
      out.lengths.clear();
      for (size_t at = 0; at < value.size(); at = std::min(value.find(',', at), value.size() - 1) + 1) out.lengths.push_back(std::atoi(value.c_str() + at));
    } else stop("unknown option " + word + ".");
  }
  const size_t wanted = out.part == "sharing" ? 3 : out.part == "prompts" || out.part == "caches" ? 2 : out.part == "speed" ? 1 : 0;
  const bool calibrates = out.part == "caches" && out.files.size() == 3;
  if ((wanted == 0 && out.part != "masked") || (out.files.size() != wanted && !calibrates))
    stop("usage: bench_attention sharing MODEL TEXT CALIBRATION | caches MODEL TEXT [CALIBRATION] | prompts MODEL TEXT | masked | speed SHAPE|MODEL");
  return out;
}

Config configured(const Options& options, const Settings& settings) {
  Config config;
  for (const Settings* all : {&settings, &options.set})
    for (const auto& [name, value] : *all) config = need(config.parsed(name, value));
  return config;
}

class Quality {
 public:
  Quality(const Options& options, bool stepwise)
      : options_(options), engine_(need(Engine::create(need(Model::open(options.files[0])), EngineOptions{.device = "cpu", .threads = options.threads}))) {
    std::ifstream in(options.files[1], std::ios::binary);
    text_.assign(std::istreambuf_iterator<char>(in), {});
    if (text_.empty()) stop(options.files[1] + " can't be read.");
    request_.context = options.context;
    request_.chunks = options.chunks;
    request_.stepwise = stepwise;
    baseline_ = need(engine_->createSession(Config(), {.context = options.context}, Progress{}));
    const auto result = need(measurePerplexity(*baseline_, nullptr, *engine_->tokenizer(), text_, request_, {}));
    std::printf("%s, %s, %s, %lld predictions, perplexity %.4f\n\n| | perplexity | mean KLD | same top token | prepared in |\n|---|---|---|---|---|\n", options.files[0].c_str(),
                options.files[1].c_str(), result.protocol.c_str(), static_cast<long long>(result.count), result.perplexity);
  }
  void row(const std::string& name, const Settings& settings) {
    const auto start = Clock::now();
    const auto session = need(engine_->createSession(configured(options_, settings), {.context = options_.context}, Progress{}));
    const double seconds = secondsSince(start);
    const auto result = need(measurePerplexity(*session, baseline_.get(), *engine_->tokenizer(), text_, request_, {}));
    std::printf("| %s | %.4f | %.5f ± %.5f | %.2f %% | %.2f s |\n", name.c_str(), result.perplexity, result.kld->mean, result.kld->meanStderr, 100 * result.kld->top1, seconds);
    for (const Adjustment& adjustment : session->effective()->adjustments) std::printf("| %s: %s | | | | |\n", adjustment.knob.c_str(), adjustment.reason.c_str());
    std::fflush(stdout);
  }

 private:
  const Options& options_;
  std::shared_ptr<Engine> engine_;
  std::string text_;
  PerplexityRequest request_;
  std::unique_ptr<Session> baseline_;
};

void sharing(const Options& options) {
  Quality quality(options, false);
  for (const char* block : {"2", "4"})
    for (const bool refit : {false, true})
      for (const bool align : {false, true})
        quality.row(std::string("blocks of ") + block + (align ? ", aligned" : "") + (refit ? ", fitted" : ""),
                    {{"share.block", block}, {"share.align", align ? "true" : "false"}, {"share.refit", refit ? "true" : "false"}, {"calibration.text", options.files[2]}});
}

void prompts(const Options& options) {
  Quality quality(options, true);
  for (int budget = options.context / 16; budget <= options.context / 4; budget *= 2)
    quality.row("budget " + std::to_string(budget),
                {{"prefill.method", "critiprefill"}, {"prefill.budget", std::to_string(budget)}, {"prefill.segment", std::to_string(options.segment)}});
}

void caches(const Options& options) {
  Quality quality(options, true);
  const std::string window = std::to_string(options.budget);
  quality.row("StreamingLLM, " + window + " tokens in all layers", {{"kv.policy", "streaming"}, {"kv.budget", window}});
  quality.row("mix, no sharing, " + window + " tokens in most layers", {{"share.method", "mix"}, {"kv.budget", window}});
  for (const char* block : {"2", "4"})
    for (const char* method : {"echoatt", "cla", "mix"}) {
      Settings settings = {{"share.method", method}, {"share.block", block}};
      if (method == std::string_view("mix")) settings.emplace_back("kv.budget", window);
      quality.row(std::string(method) + ", blocks of " + block, settings);
      if (options.files.size() < 3) continue;
      settings.insert(settings.end(), {{"share.refit", "true"}, {"calibration.text", options.files[2]}});
      quality.row(std::string(method) + ", blocks of " + block + ", fitted", settings);
    }
}

// One layer of 16 heads of 64 on 4 kv heads, whose pages hold any values.
class MaskedPrompt {
 public:
  MaskedPrompt(const Options& options, int length) : pool_(options.threads), context_(pool_, cpu::bestIsa()), rows_(static_cast<size_t>(kKvHeads) * length * kDim), positions_(length) {
    for (size_t i = 0; i < rows_.size(); ++i) rows_[i] = static_cast<uint16_t>(0x2c00 + i * 7919 % 4096 + (i % 3 == 0 ? 0x8000 : 0));  // +-0.06 to +-1
    for (int slot = 0; slot < length; ++slot) positions_[static_cast<size_t>(slot)] = slot;
    for (int head = 0; head < kKvHeads; ++head)
      for (int page = 0; page < length / kPage; ++page) pages_.push_back(rows_.data() + (static_cast<size_t>(head) * length + page * kPage) * kDim);
    for (int head = 0; head < kKvHeads; ++head) heads_.push_back({pages_.data() + head * (length / kPage), pages_.data() + head * (length / kPage), length, positions_.data()});
    for (float& q : q_) q = static_cast<float>(&q - q_.data()) * 1e-5f - 1;
  }
  double seconds(int window) {
    cpu::AttendArgs args;
    args.heads = kHeads;
    args.kvHeads = kKvHeads;
    args.headDim = kDim;
    args.queries = kQueries;
    args.pageTokens = kPage;
    args.q = q_.data();
    args.qStride = args.outStride = kHeads * kDim;
    args.kv = heads_.data();
    args.scale = 0.125f;
    args.slidingWindow = window;
    args.out = out_.data();
    const std::clock_t start = std::clock();
    cpu::attend(context_, args);
    return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  }

 private:
  static constexpr int kHeads = 16, kKvHeads = 4, kDim = 64, kPage = 64, kQueries = 512;
  ThreadPool pool_;
  cpu::Context context_;
  std::vector<uint16_t> rows_;  // f16 [kvHeads, slots, dim], keys and values alike
  std::vector<int32_t> positions_;
  std::vector<const uint16_t*> pages_;
  std::vector<cpu::KvHead> heads_;
  std::vector<float> q_ = std::vector<float>(static_cast<size_t>(kQueries) * kHeads * kDim), out_ = q_;
};

void masked(const Options& options) {
  std::printf("512 queries, window %d, %d threads, %d rounds\n\n| slots | dense ms | window ms | dense / window | a window that masks nothing / dense |\n|---|---|---|---|---|\n",
              options.budget, options.threads, options.rounds);
  for (const int length : options.lengths) {
    MaskedPrompt prompt(options, length);
    std::vector<double> dense, window, gain, cost;
    for (int round = -1; round < options.rounds; ++round) {  // the first warms up
      const double a = prompt.seconds(0), b = prompt.seconds(options.budget), ones = prompt.seconds(length), again = prompt.seconds(0);
      if (round < 0) continue;
      dense.push_back(1e3 * (a + again) / 2);
      window.push_back(1e3 * b);
      gain.push_back((a + again) / (2 * b));
      cost.push_back(2 * ones / (a + again));
    }
    std::printf("| %d | %.2f | %.2f | %.2f | %.3f |\n", length, median(dense), median(window), median(gain), median(cost));
    std::fflush(stdout);
  }
}

struct Read {
  double seconds = 0;
  int64_t flops = 0;  // of attention
};
Read read(Session& session, const std::vector<int32_t>& ids) {
  session.reset();
  session.observeOps(true);
  Read out;
  const std::clock_t start = std::clock();
  const Progress progress{[&](double, std::string_view) {
    for (const OpTime& time : session.opTimes()) {
      const OpKind kind = session.plan().ops[static_cast<size_t>(time.op)].kind;
      if (kind == OpKind::attend) out.flops += time.flops;
    }
  }, {}};
  need(session.prefill(ids, progress));
  out.seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  return out;
}

std::string modelFile(const std::string& name) {
  for (const NamedShape& shape : namedShapes()) {
    if (shape.name != name) continue;
    const std::string path = (std::filesystem::temp_directory_path() / ("bench-attention-" + name + ".gguf")).string();
    if (!std::filesystem::exists(path)) need(synthesize(shape, "bf16", 1, path, {}));
    return path;
  }
  return name;
}

void speed(const Options& options) {
  const auto engine = need(Engine::create(need(Model::open(modelFile(options.files[0]))), EngineOptions{.device = "cpu", .threads = options.threads}));
  std::printf("%s, %d threads, %d rounds\n\n| tokens | dense s | chosen s | ratio | declared FLOPs of attention, ratio |\n|---|---|---|---|---|\n",
              options.files[0].c_str(), options.threads, options.rounds);
  for (const int length : options.lengths) {
    std::vector<int32_t> ids;
    for (int i = 0; i < length; ++i) ids.push_back((i * 7919 + 13) % std::min(engine->model().config().vocab, 30000));
    const Settings chosen = {{"prefill.method", "critiprefill"}, {"prefill.budget", std::to_string(options.budget)}};
    const auto dense = need(engine->createSession(configured(options, {}), {.context = length}, {})), some = need(engine->createSession(configured(options, chosen), {.context = length}, {}));
    std::vector<double> a, b, ratios;
    double flops = 0;
    for (int round = 0; round < options.rounds; ++round) {
      Read x, y;
      if (round % 2 == 0) x = read(*dense, ids), y = read(*some, ids);
      else y = read(*some, ids), x = read(*dense, ids);
      a.push_back(x.seconds);
      b.push_back(y.seconds);
      ratios.push_back(x.seconds / y.seconds);
      flops = static_cast<double>(x.flops) / static_cast<double>(y.flops);
    }
    std::printf("| %d | %.2f | %.2f | %.2f | %.2f |\n", length, median(a), median(b), median(ratios), flops);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  if (options.part == "sharing") sharing(options);
  else if (options.part == "caches") caches(options);
  else if (options.part == "masked") masked(options);
  else if (options.part == "prompts") prompts(options);
  else speed(options);
}
