// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/weight_watch.h"

#include <QCoreApplication>

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
  reportWanted_ = false;
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

void WeightWatch::stop() {
  std::scoped_lock lock(mutex_);
  reportWanted_ = false;
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
    const auto engine = engine_;
    const Config config = *config_;
    const bool report = reportWanted_;
    const int tensor = report ? -1 : histogramWanted_;
    lock.unlock();
    answer(engine, config, tensor, report, stop);
    lock.lock();
    busy_ = false;
    if (!stop.stop_requested()) {
      if (report) reportWanted_ = false;
      if (tensor >= 0 && tensor == histogramWanted_) histogramWanted_ = -1;
    }
    changed_.notify_all();
  }
}

void WeightWatch::answer(const std::shared_ptr<Engine>& engine, const Config& config, int tensor, bool report, const std::stop_token& stop) {
  const Progress progress{[this](double fraction, std::string_view what) {
                            observer_.onProgress(fraction, QString::fromUtf8(what.data(), static_cast<qsizetype>(what.size())));
                          },
                          stop};
  progress(0, "comparing the weights");
  std::optional<Error> failure;
  try {
    ThreadPool pool(1);  // the model may be generating beside it
    const auto weights = hostWeights(*engine, config, pool, progress);
    if (!weights) {
      failure = weights.error();
    } else if (report) {
      const auto made = reportWeights(*weights->set, weights->calibration.get(), pool, progress);
      if (made) observer_.onReport(*made, config);
      else failure = made.error();
    } else if (static_cast<size_t>(tensor) < weights->set->versions.size()) {
      const auto made = weightHistogram(*weights->set, tensor, kBins, pool, progress);
      if (made) observer_.onHistogram(*made);
      else failure = made.error();
    }
  } catch (const std::bad_alloc&) {
    failure = Error{ErrorCode::resources, "There is not enough memory to compare the weights.", ""};
  }
  const bool told = failure && failure->code != ErrorCode::cancelled;
  observer_.onProgress(-1, told ? QString::fromStdString(failure->message) : QString());
}

}  // namespace winnow
