// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/weight_watch.h"

#include <QCoreApplication>

#include "engine/run/find_super_weights.h"
#include "engine/run/host_weights.h"
#include "engine/weights/converter.h"

namespace winnow {
namespace {
constexpr int kBins = 121;

// What a weight set depends on.
std::map<std::string, KnobValue, std::less<>> weightSettings(const Config& config) {
  auto changed = config.changed();
  std::erase_if(changed, [](const auto& entry) { return !isWeightKnob(entry.first); });
  return changed;
}
}  // namespace

WeightWatch::WeightWatch(WeightWatchObserver observer)
    : observer_(std::move(observer)), thread_([this](const std::stop_token& end) { loop(end); }) {}

WeightWatch::~WeightWatch() {
  thread_.request_stop();
  stop();
  changed_.notify_all();
}

void WeightWatch::setEngine(std::shared_ptr<Engine> engine) {
  std::unique_lock lock(mutex_);
  current_.request_stop();
  engine_.reset();
  changed_.wait(lock, [this] { return !busy_; });
  engine_ = std::move(engine);
  config_.reset();
  reportWanted_ = superWanted_ = false;
  histogramWanted_ = shown_ = -1;
}

void WeightWatch::setOn(bool on) {
  std::scoped_lock lock(mutex_);
  on_ = on;
  if (!on) current_.request_stop();
  changed_.notify_all();
}

void WeightWatch::compare(const Config& effective) {
  std::scoped_lock lock(mutex_);
  if (config_ && weightSettings(*config_) == weightSettings(effective)) return;
  config_ = effective;
  reportWanted_ = true;
  histogramWanted_ = shown_;
  current_.request_stop();
  changed_.notify_all();
}

void WeightWatch::showHistogram(int tensor) {
  std::scoped_lock lock(mutex_);
  shown_ = histogramWanted_ = tensor;
  if (!reportWanted_) current_.request_stop();
  changed_.notify_all();
}

void WeightWatch::findSuperWeights() {
  std::scoped_lock lock(mutex_);
  superWanted_ = true;
  changed_.notify_all();
}

void WeightWatch::stop() {
  std::scoped_lock lock(mutex_);
  reportWanted_ = superWanted_ = false;
  histogramWanted_ = -1;
  config_.reset();
  current_.request_stop();
}

void WeightWatch::loop(const std::stop_token& end) {
  lowerPriority(kBackgroundNice);
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, end, [this] { return waiting(); })) {
    current_ = std::stop_source();
    busy_ = true;
    const std::stop_token stop = current_.get_token();
    using Kind = Question::Kind;
    Question question{reportWanted_ ? Kind::report : superWanted_ ? Kind::superWeights : Kind::histogram, engine_, *config_, histogramWanted_};
    lock.unlock();
    answer(question, {[this](double fraction, std::string_view what) {
                        observer_.onProgress(fraction, QString::fromUtf8(what.data(), static_cast<qsizetype>(what.size())));
                      },
                      stop});
    question.engine.reset();
    lock.lock();
    busy_ = false;
    if (!stop.stop_requested()) {
      if (question.kind == Kind::report) reportWanted_ = false;
      if (question.kind == Kind::superWeights) superWanted_ = false;
      if (question.kind == Kind::histogram && question.tensor == histogramWanted_) histogramWanted_ = -1;
    }
    changed_.notify_all();
  }
}

void WeightWatch::answer(const Question& question, const Progress& progress) {
  progress(0, question.kind == Question::Kind::superWeights ? "looking for super weights" : "comparing the weights");
  std::optional<Error> failure;
  try {
    failure = answerFrom(question, progress);
  } catch (const std::bad_alloc&) {
    failure = Error{ErrorCode::resources, "There is not enough memory to compare the weights.", ""};
  }
  const bool told = failure && failure->code != ErrorCode::cancelled;
  observer_.onProgress(-1, told ? QString::fromStdString(failure->message) : QString());
}

std::optional<Error> WeightWatch::answerFrom(const Question& question, const Progress& progress) {
  if (question.kind == Question::Kind::superWeights) {
    const auto found = winnow::findSuperWeights(*question.engine, progress);
    if (!found) return found.error();
    observer_.onSuperWeights(*found);
    return {};
  }
  ThreadPool pool(1);  // the model may be generating beside it
  const auto weights = hostWeights(*question.engine, question.config, pool, progress);
  if (!weights) return weights.error();
  if (question.kind == Question::Kind::report) {
    const auto made = reportWeights(*weights->set, weights->calibration.get(), pool, progress);
    if (!made) return made.error();
    observer_.onReport(*made, question.config);
  } else if (static_cast<size_t>(question.tensor) < weights->set->versions.size()) {
    const auto made = weightHistogram(*weights->set, question.tensor, kBins, pool, progress);
    if (!made) return made.error();
    observer_.onHistogram(*made);
  }
  return {};
}

}  // namespace winnow
