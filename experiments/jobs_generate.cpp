// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <chrono>
#include <map>
#include <tuple>

#include "engine/text/chat.h"
#include "experiments/format.h"
#include "experiments/implied.h"
#include "experiments/jobs.h"
#include "experiments/recorder.h"
#include "experiments/statistics.h"

namespace winnow {
namespace {

using Clock = std::chrono::steady_clock;
double msSince(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

constexpr auto kLeastEnergyTime = std::chrono::seconds(1);  // the meter moves every 100 ms: shorter runs would tell its steps

QString gpuText(const cuda::GpuState& gpu) {
  const Format format;
  QStringList parts;
  if (gpu.watts) parts << format.value(*gpu.watts, QStringLiteral("W"));
  if (gpu.latest.smMhz) parts << QStringLiteral("SM %1 MHz").arg(*gpu.latest.smMhz);
  if (gpu.latest.memoryMhz) parts << QStringLiteral("memory %1 MHz").arg(*gpu.latest.memoryMhz);
  if (gpu.latest.celsius) parts << QStringLiteral("%1 °C").arg(*gpu.latest.celsius);
  if (gpu.latest.slowedBy && !gpu.latest.slowedBy->empty()) parts << QStringLiteral("slowed by %1").arg(QString::fromStdString(*gpu.latest.slowedBy));
  return parts.join(QStringLiteral(" · "));
}

QString opCategory(OpKind kind) {
  switch (kind) {
    case OpKind::attend:
    case OpKind::attendReuse:
      return QStringLiteral("attention");
    case OpKind::qkv:
    case OpKind::qOnly:
    case OpKind::vOnly:
      return QStringLiteral("qkv");
    case OpKind::linear:
      return QStringLiteral("projections");
    case OpKind::shortcut:
      return QStringLiteral("shortcuts");
    case OpKind::gateUp:
      return QStringLiteral("feed-forward");
    case OpKind::logits:
      return QStringLiteral("logits");
    case OpKind::embed:
      break;
  }
  return QStringLiteral("embedding");
}

class Generation {
 public:
  Generation(const JobContext& context, Session& session, const GenerateRequest& request, const GenerateObserver& observer)
      : context_(context), session_(session), request_(request), observer_(observer), tokenizer_(context.engine->tokenizer()) {}

  Result<GenerateResult> run() {
    if (!tokenizer_) return noTokenizer();
    const std::vector<int32_t> prompt = promptIds();
    if (prompt.empty()) return Error{ErrorCode::badInput, "the prompt is empty and the model has no begin token.", "Write a prompt."};
    if (static_cast<int64_t>(prompt.size()) > session_.context())
      return Error{ErrorCode::badInput, "the prompt has " + std::to_string(prompt.size()) + " tokens; the context holds " + std::to_string(session_.context()) + ".",
                   "Shorten the prompt or choose a larger context."};
    session_.reset();
    session_.takeEvents();
    RunRecorder recorder(context_.file, *context_.engine, *session_.effective(), description());
    recorder_ = &recorder;
    result_.run = recorder.id();
    if (context_.onRun && recorder.active()) context_.onRun(recorder.id());
    start_ = Clock::now();
    const Status done = feed(prompt);
    if (!done && done.error().code != ErrorCode::cancelled) {
      const Error error = explained(*context_.engine, done.error());
      recorder.finish(storage::RunStatus::failed, error.message);
      return error;
    }
    result_.stopped = !done || context_.progress.stopped();
    summarize();
    recorder.finish(result_.stopped ? storage::RunStatus::cancelled : storage::RunStatus::done);
    return result_;
  }

 private:
  std::vector<int32_t> promptIds() const {
    const std::string text = request_.prompt.toStdString();
    if (!request_.chat) return tokenizer_->encode(text, true);
    return tokenizer_->encode(applyChat(detectChatFormat(tokenizer_->vocab().chatTemplate), text), true, true);
  }

  storage::NewRun description() const {
    storage::NewRun run;
    run.kind = storage::RunKind::generate;
    run.name = context_.name;
    run.prompt = request_.prompt.toStdString();
    run.protocol = request_.chat ? "generate chat" : "generate";
    run.seed = static_cast<int64_t>(request_.sampler.seed);
    run.repeat = context_.repeat;
    run.sweep = context_.sweep;
    run.sweepOrdinal = context_.sweepOrdinal;
    return run;
  }

  Status feed(const std::vector<int32_t>& prompt) {
    const auto begin = Clock::now();
    if (const Status fed = session_.prefill(prompt, context_.progress); !fed) return fed;
    result_.prefillMs = msSince(begin);
    keepOpTimes(true);  // of the last batch of the prompt
    for (size_t i = 0; i < prompt.size(); ++i) {
      TokenPoint point;
      point.index = static_cast<qint64>(i);
      point.id = prompt[i];
      point.prompt = true;
      point.text = QString::fromStdString(promptText_.push(tokenizer_->piece(prompt[i], true)));
      point.ms = i == 0 ? result_.prefillMs : 0;
      emitPoint(point, 0);
    }
    takeEvents();
    if (const auto gpu = context_.engine->gpuState()) joulesBefore_ = gpu->joules;
    const auto decoding = Clock::now();
    const Status done = decode(prompt);
    if (const auto gpu = context_.engine->gpuState(); gpu && gpu->joules && joulesBefore_ && Clock::now() - decoding > kLeastEnergyTime)
      joules_ = *gpu->joules - *joulesBefore_;
    return done;
  }

  Status decode(const std::vector<int32_t>& prompt) {
    std::vector<int32_t> history = prompt;
    while (static_cast<int>(result_.tokens.size()) < request_.tokens && session_.position() < session_.context()) {
      if (context_.progress.stopped()) return Error{ErrorCode::cancelled, "stopped.", ""};
      const auto tokenBegin = Clock::now();
      const int32_t token = session_.sample(history, request_.sampler);
      if (tokenizer_->isEnd(token) && !request_.ignoreEos) break;
      TokenScore score;
      session_.scoreLogits(session_.logits().data(), {&token, 1}, &score);
      const int64_t index = session_.position();
      if (const Status stepped = session_.step(token); !stepped) return stepped;
      const double ms = msSince(tokenBegin);
      history.push_back(token);
      result_.tokens.push_back(token);
      result_.tokenMs.push_back(ms);
      result_.nll.push_back(score.nll);
      takeEvents();
      keepOpTimes(false);
      generated(index, token, ms, score);
      context_.progress(static_cast<double>(result_.tokens.size()) / request_.tokens, "token " + std::to_string(result_.tokens.size()) + " of " + std::to_string(request_.tokens));
      if (observer_.onBoundary) observer_.onBoundary();
    }
    if (static_cast<int>(result_.tokens.size()) < request_.tokens && session_.position() >= session_.context()) tellContextIsFull();
    return Done{};
  }

  void tellContextIsFull() {
    EngineEvent event;
    event.kind = EngineEvent::Kind::warning;
    event.token = session_.position();
    event.code = "context.full";
    event.text = "The context of " + std::to_string(session_.context()) + " tokens is full: " + std::to_string(result_.tokens.size()) + " of " +
                 std::to_string(request_.tokens) + " tokens were generated.";
    handle(event);
  }

  // Times of each op, kept when they are observed: prompt batches and single tokens apart.
  void keepOpTimes(bool prefill) {
    for (const OpTime& time : session_.opTimes()) {
      const Op& op = session_.plan().ops[static_cast<size_t>(time.op)];  // the plan may change with the next epoch
      const std::string name = op.kind == OpKind::linear ? (op.down ? "down" : "o") : std::string(opKindName(op.kind));
      OpRecord& record = opRecords_[{name, op.layer, prefill}];
      record.ns.push_back(static_cast<double>(time.ns));
      record.bytes += time.bytes;
      record.flops += time.flops;
    }
  }

  void storeOpTimes() {
    auto* file = recorder_->file();
    if (!file || opRecords_.empty()) return;
    std::vector<storage::OpStat> stats;
    for (auto& [key, record] : opRecords_) {
      std::ranges::sort(record.ns);
      storage::OpStat stat;
      std::tie(stat.op, stat.layer, stat.prefill) = key;
      stat.n = static_cast<int64_t>(record.ns.size());
      for (const double ns : record.ns) stat.sumNs += static_cast<int64_t>(ns);
      stat.p50Ns = static_cast<int64_t>(quantileOfSorted(record.ns, 0.5));
      stat.p95Ns = static_cast<int64_t>(quantileOfSorted(record.ns, 0.95));
      stat.bytes = record.bytes;
      stat.flops = record.flops;
      stats.push_back(std::move(stat));
    }
    file->addOpStats(result_.run, std::move(stats));
  }

  void generated(int64_t index, int32_t token, double ms, const TokenScore& score) {
    TokenPoint point;
    point.index = index;
    point.id = token;
    const std::string shown = utf8_.push(tokenizer_->piece(token));
    result_.text += shown;
    point.text = QString::fromStdString(shown);
    point.ms = ms;
    point.nll = score.nll;
    point.entropy = score.entropy;
    for (const OpTime& op : session_.opTimes()) {
      const QString category = opCategory(session_.plan().ops[static_cast<size_t>(op.op)].kind);
      auto at = std::ranges::find(point.opMs, category, &std::pair<QString, double>::first);
      if (at == point.opMs.end()) at = point.opMs.insert(point.opMs.end(), {category, 0.0});
      at->second += static_cast<double>(op.ns) / 1e6;
    }
    emitPoint(point, static_cast<int64_t>(ms * 1e6));
  }

  void emitPoint(TokenPoint& point, int64_t durationNs) {
    const CacheStats cache = session_.cache();
    point.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    point.epoch = epoch_;
    point.kvLive = cache.liveTokens;
    point.kvEvicted = cache.evictedTokens;
    point.memory = session_.memory();
    observeGpu(point);
    storage::TokenSample stored;
    stored.index = point.index;
    stored.prefill = point.prompt;
    stored.token = point.id;
    stored.tNs = static_cast<int64_t>(point.seconds * 1e9);
    stored.durationNs = point.prompt ? static_cast<int64_t>(point.ms * 1e6) : durationNs;
    if (point.nll >= 0) stored.nll = point.nll;
    if (point.entropy >= 0) stored.entropy = point.entropy;
    if (point.joules >= 0) stored.joules = point.joules;
    stored.kvLive = cache.liveTokens;
    stored.kvEvicted = cache.evictedTokens;
    stored.kvBytes = cache.allocatedBytes;
    stored.epoch = epoch_;
    stored.piece = tokenizer_->piece(point.id, true);
    recorder_->token(std::move(stored));
    recorder_->memory(point.index, point.memory);
    if (observer_.onToken) observer_.onToken(point);
  }

  // Power is averaged over some 100 ms: what a token took of it is as good as power is steady.
  void observeGpu(TokenPoint& point) {
    const auto gpu = context_.engine->gpuState();
    if (!gpu || point.ms <= 0) return;
    if (gpu->watts) point.joules = *gpu->watts * point.ms / 1e3;
    point.gpu = gpuText(*gpu);
    const std::string slowed = gpu->latest.slowedBy.value_or("");
    if (slowed != slowedBy_ && !slowed.empty()) {
      EngineEvent event;
      event.kind = EngineEvent::Kind::warning;
      event.token = point.index;
      event.code = "device.slowed";
      event.text = "The GPU is slowed down: " + slowed + ".";
      handle(event);
    }
    slowedBy_ = slowed;
  }

  void takeEvents() {
    for (const EngineEvent& event : session_.takeEvents()) handle(event);
  }

  void handle(const EngineEvent& event) {
    if (event.kind == EngineEvent::Kind::epoch) {
      EpochPoint point;
      point.epoch = ++epoch_;
      point.token = event.token;
      point.label = epochLabel(event);
      point.cause = QString::fromStdString(event.cause);
      for (const Adjustment& change : event.changes)
        if (!change.reason.empty()) {
          point.clamped = true;
          point.reason = QString::fromStdString(change.reason);
        }
      recorder_->epoch(epoch_, event.token, event);
      recorder_->effective(*session_.effective());
      if (observer_.onEpoch) observer_.onEpoch(point);
    }
    const bool warning = event.kind == EngineEvent::Kind::warning || event.kind == EngineEvent::Kind::fallback;
    recorder_->event(warning ? "warning" : "info", event.code, event.text);
    if (observer_.onEvent) observer_.onEvent(event);
  }

  void summarize() {
    result_.text += utf8_.finish();
    storeOpTimes();
    recorder_->metric("prefill_ms", "ms", "lower", result_.prefillMs);
    if (result_.tokenMs.empty()) return;
    std::vector<double> sorted = result_.tokenMs;
    std::ranges::sort(sorted);
    storage::Metric latency;
    latency.name = "ms_per_token";
    latency.unit = "ms";
    latency.better = "lower";
    latency.n = static_cast<int64_t>(sorted.size());
    latency.p50 = latency.value = quantileOfSorted(sorted, 0.5);
    latency.p95 = quantileOfSorted(sorted, 0.95);
    if (const auto interval = quantileInterval(sorted, 0.5)) {
      latency.ciLow = interval->low;
      latency.ciHigh = interval->high;
    }
    recorder_->metric(latency);
    if (joules_) recorder_->metric("joules_per_token", "J", "lower", *joules_ / static_cast<double>(latency.n), latency.n);
    recorder_->metric("tokens_per_second", "1/s", "higher", 1000 / latency.value, latency.n);
    if (auto* file = recorder_->file()) file->setOutput(result_.run, result_.text);
  }

  const JobContext& context_;
  Session& session_;
  const GenerateRequest& request_;
  const GenerateObserver& observer_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  RunRecorder* recorder_ = nullptr;
  Clock::time_point start_;
  Utf8Stream utf8_, promptText_;
  GenerateResult result_;
  int epoch_ = 0;
  std::string slowedBy_;
  std::optional<double> joulesBefore_, joules_;  // the meter when decoding began; what it took
  struct OpRecord {
    std::vector<double> ns;
    int64_t bytes = 0, flops = 0;
  };
  std::map<std::tuple<std::string, int, bool>, OpRecord> opRecords_;  // op, layer, prefill
};

}  // namespace

Result<GenerateResult> generateRun(const JobContext& context, Session& session, const GenerateRequest& request, const GenerateObserver& observer) {
  return Generation(context, session, request, observer).run();
}

QString epochLabel(const EngineEvent& event) {
  QStringList parts;
  Config before, after;
  for (const Adjustment& change : event.changes) {
    before = before.with(change.knob, change.requested);
    after = after.with(change.knob, change.effective);
  }
  const auto implied = [&](const Adjustment& change) {
    return follows(before, change.knob, change.requested) && follows(after, change.knob, change.effective);
  };
  const bool all = std::ranges::all_of(event.changes, implied);
  for (const Adjustment& change : event.changes)
    if (all || !implied(change)) parts << QStringLiteral("%1 %2 → %3").arg(QString::fromStdString(change.knob), QString::fromStdString(toText(change.requested)), QString::fromStdString(toText(change.effective)));
  return parts.isEmpty() ? QString::fromStdString(event.text) : parts.join(QStringLiteral(", "));
}

}  // namespace winnow
