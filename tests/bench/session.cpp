// SPDX-License-Identifier: GPL-3.0-or-later
// What live work costs: `bench_session MODEL.gguf [--threads N] [--rounds N] [--set knob=value]... [part...]`, parts: decode, observe,
// requantize. decode: tokens/s and the share of the read bandwidth measured between rounds. observe: tokens without observation, with
// every token stored and with every operation timed and stored, in alternation; medians of ms per token. requantize: seconds from asking for
// another number of weight bits to the moment a token may use them.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <unistd.h>

#include "engine/run/engine.h"
#include "storage/session_file.h"
#include "tests/bench/bench.h"

using namespace winnow;
using namespace winnow::bench;

namespace {

struct Options {
  std::string model;
  int threads = 2, rounds = 11;
  std::vector<std::pair<std::string, std::string>> settings;
  std::vector<std::string> parts;
  bool wants(const char* part) const { return parts.empty() || std::find(parts.begin(), parts.end(), part) != parts.end(); }
};

double quantile(std::vector<double> v, double q) {
  std::sort(v.begin(), v.end());
  return v[static_cast<size_t>(q * static_cast<double>(v.size() - 1) + 0.5)];
}
std::string spread(const std::vector<double>& v, const char* format) {
  const auto at = [&](double q) {
    char text[32];
    std::snprintf(text, sizeof text, format, quantile(v, q));
    return std::string(text);
  };
  return at(0.5) + " [" + at(0) + ", " + at(1) + "]";
}

std::unique_ptr<Session> makeSession(Engine& engine, const Config& config, const Options& options) {
  SessionOptions session;
  session.context = 1024;
  session.threads = options.threads;
  return need(engine.createSession(config, session, {}));
}

constexpr int kBlock = 64;  // tokens of one measurement

int32_t tokenAt(const Session& session, int i) { return static_cast<int32_t>((int64_t{i} * 7919 + 17) % session.vocab()); }

// Milliseconds per token of one block from an empty cache; `after` runs after every step, inside the time.
template <class After>
double blockMs(Session& session, After after) {
  session.reset();
  need(session.step(tokenAt(session, 0)));
  const auto start = Clock::now();
  for (int i = 1; i <= kBlock; ++i) {
    const auto begin = Clock::now();
    need(session.step(tokenAt(session, i)));
    after(i, begin);
  }
  return 1e3 * secondsSince(start) / kBlock;
}

void benchDecode(Session& session, const Options& options) {
  std::vector<double> rates, reads, shares;
  for (int i = 0; i <= options.rounds; ++i) {
    const double before = session.measureReadBandwidth(size_t{256} << 20);
    const double ms = blockMs(session, [](int, Clock::time_point) {});
    const double after = session.measureReadBandwidth(size_t{256} << 20);
    if (i == 0) continue;  // warm-up
    const double bytes = static_cast<double>(session.weightBytesPerToken()) + static_cast<double>(session.kvBytesPerToken()) / 2;
    reads.push_back(std::max(before, after));
    rates.push_back(1e3 / ms);
    shares.push_back(100 * bytes / ms * 1e-6 / reads.back());
  }
  std::printf("decode: %s tokens/s, read %s GB/s, share %s %%\n", spread(rates, "%.1f").c_str(), spread(reads, "%.1f").c_str(),
              spread(shares, "%.0f").c_str());
}

// The work of a generated token beside the step itself, as a stored run does it.
class Observer {
 public:
  Observer(Session& session, std::shared_ptr<storage::SessionFile> file) : session_(session), file_(std::move(file)) {
    storage::NewRun run;
    run.name = "bench";
    run.model.path = run.model.name = "bench";
    auto id = file_->beginRun(run);
    if (!id) {
      std::fprintf(stderr, "%s\n", id.error().message.c_str());
      std::exit(1);
    }
    run_ = *id;
  }
  void token(int i, Clock::time_point begin) {
    const int32_t next = tokenAt(session_, i + 1);
    TokenScore score;
    session_.scoreLogits(session_.logits().data(), {&next, 1}, &score);
    const CacheStats cache = session_.cache();
    storage::TokenSample sample;
    sample.index = index_++;
    sample.token = next;
    sample.durationNs = static_cast<int64_t>(1e9 * secondsSince(begin));
    sample.nll = score.nll;
    sample.entropy = score.entropy;
    sample.kvLive = cache.liveTokens;
    sample.kvBytes = cache.allocatedBytes;
    sample.piece = " token";
    file_->addTokens(run_, {std::move(sample)});
    file_->addMemory(run_, {{index_, "kv", session_.memory()[static_cast<size_t>(MemoryTag::kv)]}});
    for (const OpTime& time : session_.opTimes()) ops_[static_cast<size_t>(time.op)].push_back(static_cast<double>(time.ns));
  }
  void makeRoom() { ops_.resize(session_.plan().ops.size()); }

 private:
  Session& session_;
  std::shared_ptr<storage::SessionFile> file_;
  storage::Id run_ = -1;
  int64_t index_ = 0;
  std::vector<std::vector<double>> ops_;
};

void benchObserve(Session& session, const Options& options) {
  const auto folder = std::filesystem::temp_directory_path() / ("winnow-bench-" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  {
    auto file = storage::SessionFile::open((folder / "bench.winnow").string(), storage::SessionFile::Mode::create);
    if (!file) {
      std::fprintf(stderr, "%s\n", file.error().message.c_str());
      std::exit(1);
    }
    Observer observer(session, *file);
    observer.makeRoom();
    std::vector<double> ms[3], slower[3];
    for (int i = 0; i <= options.rounds; ++i) {
      double now[3];
      for (int step = 0; step < 3; ++step) {
        const int level = i % 2 == 0 ? step : 2 - step;  // A B C C B A
        session.observeOps(level == 2);
        now[level] = level == 0 ? blockMs(session, [](int, Clock::time_point) {})
                                : blockMs(session, [&](int t, Clock::time_point begin) { observer.token(t, begin); });
      }
      for (int level = 0; level < 3 && i > 0; ++level) {
        ms[level].push_back(now[level]);
        slower[level].push_back(100 * (now[level] / now[0] - 1));
      }
    }
    const char* names[] = {"nothing", "every token", "every operation"};
    for (int level = 0; level < 3; ++level)
      std::printf("observing %-15s: %s ms per token, slower by %s %%\n", names[level], spread(ms[level], "%.3f").c_str(),
                  spread(slower[level], "%.1f").c_str());
  }
  std::filesystem::remove_all(folder);
}

void benchRequantize(const Engine& engine, Session& session, const Config& base, const Options& options) {
  std::vector<double> seconds, toToken;
  for (int i = 0; i <= options.rounds; ++i) {
    session.request(base.with("weights.method", std::string("rtn")).with("weights.bits", int64_t{4}));
    const auto start = Clock::now();
    need(session.finishPending({}));
    const double published = secondsSince(start);
    need(session.step(tokenAt(session, i)));
    if (i > 0) {
      seconds.push_back(published);
      toToken.push_back(secondsSince(start));
    }
    session.request(base);
    need(session.finishPending({}));
    session.reset();
  }
  std::printf("requantize to 4 bits, %.2f G parameters: published after %s s, first token on them after %s s\n",
              1e-9 * static_cast<double>(engine.model().config().parameters), spread(seconds, "%.2f").c_str(),
              spread(toToken, "%.2f").c_str());
}

[[noreturn]] void usage() {
  std::fprintf(stderr,
               "usage: bench_session MODEL.gguf [--threads N] [--rounds N] [--set knob=value]... [decode] [observe] [requantize]\n");
  std::exit(2);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if ((arg == "--threads" || arg == "--rounds") && i + 1 < argc && std::atoi(argv[i + 1]) > 0) {
      (arg == "--threads" ? options.threads : options.rounds) = std::atoi(argv[i + 1]);
      ++i;
    } else if (arg == "--set" && i + 1 < argc && std::string(argv[i + 1]).find('=') != std::string::npos) {
      const std::string text = argv[++i];
      options.settings.emplace_back(text.substr(0, text.find('=')), text.substr(text.find('=') + 1));
    } else if (arg.starts_with("-")) {
      usage();
    } else if (options.model.empty()) {
      options.model = arg;
    } else {
      options.parts.push_back(arg);
    }
  }
  if (options.model.empty()) usage();
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  EngineOptions engineOptions;
  engineOptions.device = "cpu";
  engineOptions.threads = options.threads;
  const auto engine = need(Engine::create(need(Model::open(options.model)), engineOptions));
  Config config;
  for (const auto& [name, value] : options.settings) config = need(config.parsed(name, value));
  const auto session = makeSession(*engine, config, options);
  std::printf("%s, %d rounds\n", engine->deviceDescription().c_str(), options.rounds);
  if (options.wants("decode")) benchDecode(*session, options);
  if (options.wants("observe")) benchObserve(*session, options);
  if (options.wants("requantize")) benchRequantize(*engine, *session, config, options);
  return 0;
}
