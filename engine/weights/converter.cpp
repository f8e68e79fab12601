// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/converter.h"

#include <sys/resource.h>
#include <unistd.h>

#include <exception>
#include <utility>

namespace winnow {

void lowerPriority(int nice) { setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), nice); }

bool WeightJob::finished() const {
  std::scoped_lock lock(mutex_);
  return finished_;
}

std::shared_ptr<const WeightSet> WeightJob::set() const {
  std::scoped_lock lock(mutex_);
  return set_;
}

std::optional<Error> WeightJob::error() const {
  std::scoped_lock lock(mutex_);
  return error_;
}

Converter::~Converter() {
  std::scoped_lock lock(mutex_);
  for (const auto& job : queue_) job->cancel();
  if (current_) current_->cancel();
  thread_.request_stop();
}  // thread_ is the last member: it joins first, with the lock released

std::shared_ptr<const WeightSet> WeightJob::takePart() {
  std::scoped_lock lock(mutex_);
  return std::exchange(part_, nullptr);
}

std::shared_ptr<WeightJob> Converter::submit(WeightTarget target, std::shared_ptr<const WeightSet> before) {
  auto job = std::make_shared<WeightJob>(std::move(target), std::move(before));
  std::scoped_lock lock(mutex_);
  queue_.push_back(job);
  if (!thread_.joinable()) thread_ = std::jthread([this](const std::stop_token& stop) { work(stop); });
  wake_.notify_one();
  return job;
}

void Converter::work(const std::stop_token& stop) {
  lowerPriority(kConverterNice);
  ThreadPool pool(threads_);
  pool.run([](int thread, int) {
    if (thread > 0) lowerPriority(kConverterNice);
  });
  for (;;) {
    std::shared_ptr<WeightJob> job;
    {
      std::unique_lock lock(mutex_);
      current_.reset();
      if (!wake_.wait(lock, stop, [&] { return !queue_.empty(); })) return;
      job = current_ = std::move(queue_.front());
      queue_.pop_front();
    }
    Progress progress;
    progress.stop = job->stop_.get_token();
    progress.report = [&](double fraction, std::string_view) { job->fraction_.store(fraction, std::memory_order_relaxed); };
    Result<std::shared_ptr<const WeightSet>> built = Error{ErrorCode::cancelled, "Preparing the weights was cancelled.", ""};
    try {
      LayerPublishing publishing{std::exchange(job->before_, nullptr), [&](std::shared_ptr<const WeightSet> part) {
                                   std::scoped_lock lock(job->mutex_);
                                   job->part_ = std::move(part);
                                 }};
      built = store_.build(job->target, pool, measurements_, progress, std::move(publishing));
    } catch (const std::exception& e) {
      built = Error{ErrorCode::failed, std::string("Preparing the weights failed: ") + e.what(), ""};
    }
    std::scoped_lock lock(job->mutex_);
    job->finished_ = true;
    job->part_ = nullptr;
    if (built)
      job->set_ = *built;
    else
      job->error_ = built.error();
  }
}

}  // namespace winnow
