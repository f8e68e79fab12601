// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/quality_probe.h"

#include <algorithm>

#include "engine/evaluate/perplexity.h"

namespace winnow {

QualityProbe::QualityProbe(std::function<void(const QualityPoint&)> onPoint)
    : onPoint_(std::move(onPoint)), thread_([this](const std::stop_token& end) { loop(end); }) {}

QualityProbe::~QualityProbe() {
  {
    std::scoped_lock lock(mutex_);
    current_.request_stop();
    next_.reset();
  }
  thread_.request_stop();
  changed_.notify_all();
}

void QualityProbe::configure(const std::string& text, int context, int windows) {
  std::scoped_lock lock(mutex_);
  text_ = text;
  context_ = context;
  windows_ = windows;
  current_.request_stop();
}

void QualityProbe::setEngine(std::shared_ptr<Engine> engine) {
  std::unique_lock lock(mutex_);
  next_.reset();
  current_.request_stop();
  changed_.wait(lock, [this] { return !busy_; });
  engine_ = std::move(engine);
}

void QualityProbe::score(const Config& effective, int epoch, int64_t token) {
  std::scoped_lock lock(mutex_);
  if (!engine_ || text_.empty() || !engine_->tokenizer()) return;
  next_ = Work{engine_, effective, epoch, token, text_, context_, windows_};
  current_.request_stop();
  changed_.notify_all();
}

void QualityProbe::loop(const std::stop_token& end) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, end, [this] { return next_.has_value(); })) {
    const Work work = *std::exchange(next_, std::nullopt);
    current_ = std::stop_source();
    busy_ = true;
    const std::stop_token stop = current_.get_token();
    lock.unlock();
    run(work, stop);
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

void QualityProbe::run(const Work& work, const std::stop_token& stop) {
  QualityPoint point;
  point.epoch = work.epoch;
  point.token = work.token;
  point.running = true;
  onPoint_(point);
  SessionOptions options;
  options.context = std::min(work.context, work.engine->model().config().context);
  options.threads = 1;
  options.background = true;
  PerplexityRequest request;
  request.context = options.context;
  request.chunks = work.windows;
  const Progress progress{{}, stop};
  const auto session = work.engine->createSession(work.config, options, progress);
  const auto baseline = session ? work.engine->createSession(Config(), options, progress) : Result<std::unique_ptr<Session>>(session.error());
  const auto result = baseline ? measurePerplexity(**session, baseline->get(), *work.engine->tokenizer(), work.text, request, progress)
                               : Result<PerplexityResult>(baseline.error());
  point.running = false;
  if (result) {
    point.perplexity = result->perplexity;
    point.stderror = result->stderror;
    point.windows = result->chunks;
    point.protocol = QString::fromStdString(result->protocol);
    if (result->kld) {
      point.kld = result->kld->mean;
      point.top1 = result->kld->top1;
    }
  }
  onPoint_(point);  // windows == 0: cancelled or refused, nothing to show
}

}  // namespace winnow
