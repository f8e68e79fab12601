// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/evaluate/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>

#include "engine/evaluate/quantiles.h"

namespace winnow {
namespace {

using Clock = std::chrono::steady_clock;
double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

constexpr size_t kStreamBytes = size_t{256} << 20;  // far more than any cache of the machine

std::string testName(const char* kind, int tokens, int depth) {
  return kind + std::to_string(tokens) + (depth > 0 ? " @ d" + std::to_string(depth) : "");
}

class Bench {
 public:
  Bench(Session& session, const Tokenizer* tokenizer, const BenchRequest& request, const Progress& progress)
      : session_(session), request_(request), progress_(progress) {
    if (request.realText && tokenizer) text_ = tokenizer->encode(request.text, true);
    bos_ = tokenizer && tokenizer->vocab().addBos ? tokenizer->vocab().bos : -1;
  }

  Result<BenchResult> run() {
    if (request_.realText && text_.empty()) return Error{ErrorCode::badInput, "the text for the bench has no tokens.", "Give a longer text."};
    BenchResult result;
    result.protocol = request_.realText ? "llama-bench real text" : "llama-bench random";
    const size_t planned = request_.depth.size() * (request_.prompt.size() + request_.generate.size());
    roofline();
    for (int depth : request_.depth)
      for (bool prefill : {true, false})
        for (int tokens : prefill ? request_.prompt : request_.generate) {
          progress_(static_cast<double>(result.tests.size()) / static_cast<double>(std::max<size_t>(1, planned)), testName(prefill ? "pp" : "tg", tokens, depth));
          Result<BenchTest> test = measure(tokens, depth, prefill);
          if (!test) return test.error();
          result.tests.push_back(std::move(*test));
          roofline();
        }
    finish(result);
    progress_(1, "done");
    return result;
  }

 private:
  // Measured before, between and after the tests with the same threads: a machine that slows down slows both.
  void roofline() {
    if (!request_.roofline) return;
    readGbs_.push_back(cpu::measureReadBandwidth(session_.cpuContext(), kStreamBytes));
    const auto [storage, mode, bits] = session_.matmulKind();
    gflops_.push_back(cpu::measurePeak(session_.cpuContext(), storage, mode, bits));
  }

  int32_t token(int64_t position) {
    if (request_.realText) return text_[static_cast<size_t>(position) % text_.size()];
    if (position == 0 && bos_ >= 0) return bos_;
    return static_cast<int32_t>(random_() % static_cast<uint32_t>(session_.vocab()));
  }
  std::vector<int32_t> tokens(int64_t from, int count) {
    std::vector<int32_t> out(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) out[static_cast<size_t>(i)] = token(from + i);
    return out;
  }

  Status enter(int depth) {
    session_.reset();
    return depth > 0 ? session_.prefill(tokens(0, depth), progress_) : Status(Done{});
  }

  Result<BenchTest> measure(int count, int depth, bool prefill) {
    BenchTest test;
    test.name = testName(prefill ? "pp" : "tg", count, depth);
    test.tokens = count;
    test.depth = depth;
    test.prefill = prefill;
    std::vector<double> ms;  // of tokens (tg) or of repetitions per token (pp)
    double bytesPerSecond = 0;
    for (int repetition = -1; repetition < request_.repetitions; ++repetition) {  // -1 warms up: a whole pp, one token of tg
      if (const Status entered = enter(depth); !entered) return entered.error();
      const std::vector<int32_t> fed = tokens(depth, repetition < 0 && !prefill ? 1 : count);
      const auto start = Clock::now();
      double bytes = 0;
      if (prefill) {
        if (const Status done = session_.prefill(fed, progress_); !done) return done.error();
      } else {
        for (int32_t id : fed) {
          const auto begin = Clock::now();
          if (const Status done = session_.step(id); !done) return done.error();
          if (repetition >= 0) ms.push_back(1e3 * secondsSince(begin));
          bytes += static_cast<double>(session_.weightBytesPerToken() + session_.kvBytesPerToken());
          if (progress_.stopped()) return Error{ErrorCode::cancelled, "the bench was cancelled.", ""};
        }
      }
      const double seconds = secondsSince(start);
      if (repetition < 0) continue;
      test.repetitions.push_back({seconds, count / seconds});
      if (prefill) ms.push_back(1e3 * seconds / count);
      bytesPerSecond += bytes / seconds / request_.repetitions;
    }
    summarize(test, ms);
    rates_.push_back(prefill ? session_.flopsPerToken() * test.tokensPerSecond : bytesPerSecond);
    return test;
  }

  static void summarize(BenchTest& test, std::vector<double>& ms) {
    const auto n = static_cast<double>(test.repetitions.size());
    for (const BenchRepetition& r : test.repetitions) test.tokensPerSecond += r.tokensPerSecond / n;
    double squares = 0;
    for (const BenchRepetition& r : test.repetitions) squares += (r.tokensPerSecond - test.tokensPerSecond) * (r.tokensPerSecond - test.tokensPerSecond);
    test.stddev = n > 1 ? std::sqrt(squares / (n - 1)) : 0;
    std::ranges::sort(ms);
    test.medianMs = sortedQuantile(ms, 0.5);
    test.p5Ms = sortedQuantile(ms, 0.05);
    test.p95Ms = sortedQuantile(ms, 0.95);
  }

  void finish(BenchResult& result) {
    if (!request_.roofline) return;
    std::ranges::sort(readGbs_);
    std::ranges::sort(gflops_);
    result.readGbs = sortedQuantile(readGbs_, 0.5);
    result.gemmGflops = sortedQuantile(gflops_, 0.5);
    for (size_t i = 0; i < result.tests.size(); ++i) {
      BenchTest& test = result.tests[i];
      const double peak = (test.prefill ? result.gemmGflops : result.readGbs) * 1e9;
      test.share = peak > 0 ? rates_[i] / peak : 0;
      double& first = test.prefill ? result.prefillShare : result.decodeShare;
      if (first == 0) first = test.share;
    }
  }

  Session& session_;
  const BenchRequest& request_;
  const Progress& progress_;
  std::vector<int32_t> text_;
  int32_t bos_ = -1;
  std::mt19937 random_{1};
  std::vector<double> readGbs_, gflops_;
  std::vector<double> rates_;  // per test: bytes/s (tg) or FLOP/s (pp)
};

}  // namespace

Result<BenchResult> runBench(Session& session, const Tokenizer* tokenizer, const BenchRequest& request, const Progress& progress) {
  return Bench(session, tokenizer, request, progress).run();
}

}  // namespace winnow
