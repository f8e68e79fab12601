// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/evaluate/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "engine/run/sampler.h"
#include "engine/weights/recipe.h"

namespace winnow {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kMostSequences = 256;
constexpr size_t kRooflineBytes = 256u << 20;  // far beyond the last cache level of desktop processors

double quantile(std::vector<double> values, double fraction) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double at = fraction * static_cast<double>(values.size() - 1);
  const size_t low = static_cast<size_t>(at), high = std::min(low + 1, values.size() - 1);
  return values[low] + (at - static_cast<double>(low)) * (values[high] - values[low]);
}

double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Random ids (the same ones in every repetition and program start) or the text's own, over and over.
class TokenSource {
 public:
  TokenSource(const Engine& engine, const BenchRequest& request) : vocab_(engine.model().config().vocab) {
    const VocabData& data = engine.model().vocab();
    if (data.addBos && data.bos >= 0 && data.bos < vocab_) bos_ = data.bos;
    if (request.realText && engine.tokenizer()) text_ = engine.tokenizer()->encode(request.text, false);
  }
  bool emptyText() const { return text_.empty(); }
  int32_t at(int64_t index, size_t sequence) const {
    if (index == 0 && bos_ >= 0) return bos_;
    if (!text_.empty()) return text_[(static_cast<size_t>(index) + sequence * kApart) % text_.size()];
    return static_cast<int32_t>(uniformAt(1 + sequence, static_cast<uint64_t>(index)) * vocab_);
  }
  std::vector<int32_t> range(int64_t first, int count, size_t sequence) const {
    std::vector<int32_t> out;
    for (int i = 0; i < count; ++i) out.push_back(at(first + i, sequence));
    return out;
  }

 private:
  static constexpr size_t kApart = 997;  // tokens of the text between the beginnings of two sequences
  int vocab_;
  int32_t bos_ = -1;
  std::vector<int32_t> text_;
};

// Floating-point operations of a prefill: two per weight of the linear layers that run, the attention of each query over what it
// sees, and the head once.
double prefillFlops(const ModelConfig& model, const Session& session, int tokens, int depth) {
  const Plan& plan = session.plan();
  const double n = tokens, seen = depth + (n + 1) / 2;
  const double width = session.streamWidth();
  double perToken = 0;
  for (int layer = 0; layer < model.layers; ++layer) {
    perToken += 2.0 * width * session.ffnWidth(layer) * (model.gatedFfn ? 3 : 2);
    if (plan.shortcuts) perToken += 2 * width * width * ((plan.attends(layer) ? 1 : 0) + (plan.hasFfn(layer) ? 1 : 0));
    if (!plan.attends(layer)) continue;
    const bool follower = plan.follower(layer);
    double rows = model.qRows();  // of the output projection, then of those that run of q, k and v
    for (const auto& [role, own] : {std::pair(TensorRole::q, model.qRows()), std::pair(TensorRole::k, model.kvRows()), std::pair(TensorRole::v, model.kvRows())})
      if (!plan.skips(role, layer)) rows += own;
    const double weights = width * rows;
    perToken += 2 * weights + 2.0 * (follower ? 1 : 2) * model.qRows() * seen;
  }
  return n * perToken + 2 * width * model.vocab;
}

// What the matrix products of a configuration run at their best on this machine.
struct PeakKind {
  Storage storage = Storage::f32;
  ActivationMode mode = ActivationMode::f32;
  int bits = 32;
};

PeakKind peakKindOf(const Model& model, const Config& config) {
  PeakKind kind;
  const MasterTensor* matrix = model.find(TensorRole::down, 0);
  const DType type = matrix ? matrix->type : DType::f32;
  if (type == DType::f16) kind = {Storage::f16, ActivationMode::f16, 16};
  if (type == DType::bf16) kind = {Storage::bf16, ActivationMode::bf16, 16};
  if (isBlockType(type)) {
    const auto traits = dtypeTraits(type);
    kind = {Storage::packed, ActivationMode::f16, std::clamp(8 * traits.blockBytes / traits.blockValues, 2, 8)};
    if (kind.bits == 7) kind.bits = 6;
    if (type == DType::q3_k || type == DType::q6_k || type == DType::mxfp4) kind.bits = 8;  // they multiply as f32, like 8 bits
  }
  const WeightTarget target = weightTarget(model, config, "");
  bool dotsInt8 = true;
  for (size_t i = 0; i < target.recipes.size(); ++i)
    if (&model.tensors()[i] == matrix && !target.recipes[i].method.empty()) {
      const WeightFormat& format = target.recipes[i].format;
      kind = {Storage::packed, ActivationMode::f16, format.code == Code::integer ? format.bits : 8};
      dotsInt8 = format.dotsInt8();
    }
  const std::string& activations = config.text("compute.activations");
  if (activations == "f32") kind.mode = ActivationMode::f32;
  if (activations == "16bit" && kind.storage != Storage::bf16) kind.mode = ActivationMode::f16;
  if (activations == "int8" && kind.storage == Storage::packed && dotsInt8) kind.mode = ActivationMode::int8;
  return kind;
}

class Bench {
 public:
  Bench(Engine& engine, Session& session, const BenchRequest& request, const Progress& progress,
        const std::function<void(const BenchTest&, int)>& onRepetition)
      : engine_(engine), session_(session), sessions_{&session}, request_(request), progress_(progress), onRepetition_(onRepetition), source_(engine, request) {
    inner_.stop = progress.stop;
  }

  Result<BenchResult> run() {
    if (Status checked = check(); !checked) return checked.error();
    std::vector<BenchTest> tests = planned();
    steps_ = static_cast<int>(tests.size()) * (request_.repetitions + 1);
    calibrate();
    for (BenchTest& test : tests) {
      session_.adopt();
      if (Status done = measure(test); !done) return done.error();
      calibrate();
    }
    session_.reset();
    BenchResult result;
    result.protocol = request_.realText ? "llama-bench real text" : "llama-bench random";
    result.readGbs = quantile(bandwidths_, 0.5);
    result.gemmGflops = quantile(peaks_, 0.5);
    for (BenchTest& test : tests) {
      fillShare(test, result);
      double& share = test.prefill ? result.prefillShare : result.decodeShare;
      if (share == 0) share = test.share;
    }
    result.tests = std::move(tests);
    progress_(1.0, "done");
    return result;
  }

 private:
  Status check() const {
    if (request_.repetitions < 1 || request_.repetitions > 1000)
      return Error{ErrorCode::usage, std::to_string(request_.repetitions) + " repetitions were asked for; 1 to 1000 are possible.", ""};
    int64_t longest = 0;
    for (const int depth : request_.depth) {
      if (depth < 0) return Error{ErrorCode::usage, "A depth of " + std::to_string(depth) + " tokens is impossible.", ""};
      for (const auto* counts : {&request_.prompt, &request_.generate})
        for (const int count : *counts) {
          if (count < 0) return Error{ErrorCode::usage, "A test of " + std::to_string(count) + " tokens is impossible.", ""};
          longest = std::max<int64_t>(longest, int64_t{depth} + count);
        }
    }
    for (const int batch : request_.batch)
      if (batch < 1 || batch > kMostSequences)
        return Error{ErrorCode::usage, "A batch of " + std::to_string(batch) + " sequences is impossible.", "Use 1 to " + std::to_string(kMostSequences) + "."};
    if (longest == 0) return Error{ErrorCode::usage, "There is nothing to measure: give prompt or generated tokens above 0.", ""};
    if (longest > session_.context())
      return Error{ErrorCode::badInput, "The longest test needs " + std::to_string(longest) + " tokens and the context holds " + std::to_string(session_.context()) + ".",
                   "Use fewer tokens or a smaller depth."};
    if (request_.realText && source_.emptyText()) return Error{ErrorCode::badInput, "The text for the benchmark has no tokens.", ""};
    return Done{};
  }

  std::vector<BenchTest> planned() const {
    std::vector<BenchTest> tests;
    for (const int depth : request_.depth) {
      const std::string suffix = depth > 0 ? " @ d" + std::to_string(depth) : "";
      const auto add = [&](bool prefill, int count, int batch) {
        if (count == 0) return;
        BenchTest test;
        test.name = (prefill ? "pp" : "tg") + std::to_string(count) + (batch > 1 ? "@b" + std::to_string(batch) : "") + suffix;
        test.tokens = count;
        test.depth = depth;
        test.batch = batch;
        test.prefill = prefill;
        tests.push_back(std::move(test));
      };
      for (const int count : request_.prompt) add(true, count, 1);
      for (const int batch : request_.batch)
        for (const int count : request_.generate) add(false, count, batch);
    }
    return tests;
  }

  // Sessions for the sequences beside the caller's.
  Status provide(int batch) {
    SessionOptions options;
    options.context = session_.context();
    options.threads = session_.threads();
    options.maxBatch = 64;  // their prompts are not timed
    while (sessions_.size() < static_cast<size_t>(batch)) {
      auto made = engine_.createSession(session_.effective()->config, options, inner_);
      if (!made) return made.error();
      others_.push_back(std::move(*made));
      sessions_.push_back(others_.back().get());
    }
    return Done{};
  }

  void report(const std::string& what) { progress_(static_cast<double>(step_++) / steps_, what); }

  void calibrate() {
    if (!request_.roofline || progress_.stopped()) return;
    const Config& config = session_.effective()->config;
    const PeakKind kind = peakKindOf(engine_.model(), config);
    bandwidths_.push_back(session_.measureReadBandwidth(kRooflineBytes));
    // Long prompts in FP8 have another peak than all others, which no figure of this result could tell apart: none is given.
    peaks_.push_back(config.text("compute.activations") == "fp8" ? 0 : session_.measurePeak(kind.storage, kind.mode, kind.bits));
  }

  Status prepareDepth(int depth, int batch) {
    if (Status made = provide(batch); !made) return made;
    for (size_t i = 0; i < static_cast<size_t>(batch); ++i) {
      sessions_[i]->reset();
      if (depth == 0) continue;
      if (Status fed = sessions_[i]->prefill(source_.range(0, depth, i), inner_); !fed) return fed;
    }
    return Done{};
  }

  double kvBytes(int batch) const {
    double bytes = 0;
    for (size_t i = 0; i < static_cast<size_t>(batch); ++i) bytes += static_cast<double>(sessions_[i]->kvBytesPerToken());
    return bytes;
  }

  Status measure(BenchTest& test) {
    report(test.name + ": warm-up");
    BenchTest warm = test;
    if (!test.prefill) warm.tokens = 1;
    std::vector<double> tokenMs;
    if (Status done = once(warm, tokenMs); !done) return done;
    tokenMs.clear();
    warm.repetitions.clear();
    for (int i = 0; i < request_.repetitions; ++i) {
      report(test.name + ": repetition " + std::to_string(i + 1) + " of " + std::to_string(request_.repetitions));
      if (Status done = once(test, tokenMs); !done) return done;
      if (onRepetition_) onRepetition_(test, i);
    }
    summarize(test, tokenMs);
    return Done{};
  }

  // One timed repetition, appended to test.repetitions; single-token times (tg) or the mean token time (pp) to tokenMs.
  Status once(BenchTest& test, std::vector<double>& tokenMs) {
    if (progress_.stopped()) return Error{ErrorCode::cancelled, "Cancelled.", ""};
    if (Status ready = prepareDepth(test.depth, test.batch); !ready) return ready;
    double kvBefore = kvBytes(test.batch);
    BenchRepetition repetition;
    const auto start = Clock::now();
    if (test.prefill) {
      if (Status fed = session_.prefill(source_.range(test.depth, test.tokens, 0), inner_); !fed) return fed;
      repetition.seconds = secondsSince(start);
      tokenMs.push_back(1e3 * repetition.seconds / test.tokens);
    } else {
      std::vector<int32_t> next(static_cast<size_t>(test.batch));
      for (int token = 0; token < test.tokens; ++token) {
        if (progress_.stopped()) return Error{ErrorCode::cancelled, "Cancelled.", ""};
        for (size_t i = 0; i < next.size(); ++i) next[i] = source_.at(test.depth + token, i);
        const auto before = Clock::now();
        if (Status stepped = Session::stepTogether(std::span(sessions_).first(next.size()), next); !stepped) return stepped;
        tokenMs.push_back(1e3 * secondsSince(before));
        if (token == 0) kvBefore = kvBytes(test.batch);  // what a token reads may depend on it
      }
      repetition.seconds = secondsSince(start);
    }
    repetition.tokensPerSecond = test.tokens * test.batch / repetition.seconds;
    test.repetitions.push_back(repetition);
    bytesPerStep_[test.name] = static_cast<double>(session_.weightBytesPerToken()) + (kvBefore + kvBytes(test.batch)) / 2;
    return Done{};
  }

  static void summarize(BenchTest& test, const std::vector<double>& tokenMs) {
    double sum = 0, squared = 0;
    const double n = static_cast<double>(test.repetitions.size());
    for (const BenchRepetition& repetition : test.repetitions) sum += repetition.tokensPerSecond;
    test.tokensPerSecond = sum / n;
    for (const BenchRepetition& repetition : test.repetitions) squared += std::pow(repetition.tokensPerSecond - test.tokensPerSecond, 2);
    test.stddev = n > 1 ? std::sqrt(squared / (n - 1)) : 0;
    test.medianMs = quantile(tokenMs, 0.5);
    test.p5Ms = quantile(tokenMs, 0.05);
    test.p95Ms = quantile(tokenMs, 0.95);
  }

  void fillShare(BenchTest& test, const BenchResult& result) {
    const double seconds = test.medianMs / 1e3;  // per token
    if (seconds <= 0) return;
    if (test.prefill && result.gemmGflops > 0)
      test.share = prefillFlops(engine_.model().config(), session_, test.tokens, test.depth) / (seconds * test.tokens) / 1e9 / result.gemmGflops;
    if (!test.prefill && result.readGbs > 0) test.share = bytesPerStep_[test.name] / seconds / 1e9 / result.readGbs;
  }

  Engine& engine_;
  Session& session_;
  std::vector<std::unique_ptr<Session>> others_;
  std::vector<Session*> sessions_;  // of a batch; the caller's first
  const BenchRequest& request_;
  const Progress& progress_;
  const std::function<void(const BenchTest&, int)>& onRepetition_;
  TokenSource source_;
  Progress inner_;
  int step_ = 0, steps_ = 1;
  std::map<std::string, double> bytesPerStep_;
  std::vector<double> bandwidths_, peaks_;
};

}  // namespace

Result<BenchResult> runBench(Engine& engine, Session& session, const BenchRequest& request, const Progress& progress,
                             const std::function<void(const BenchTest&, int repetition)>& onRepetition) {
  return Bench(engine, session, request, progress, onRepetition).run();
}

}  // namespace winnow
