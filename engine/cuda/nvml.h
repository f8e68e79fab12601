// SPDX-License-Identifier: GPL-3.0-or-later
// What the driver tells about a GPU while it works: clocks, power, temperature, why it is slowed down, energy. NVML is loaded at run
// time; what it does not give is absent, never an error.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace winnow::cuda {

struct GpuSample {
  std::optional<int> smMhz, memoryMhz, celsius;
  std::optional<double> watts, limitWatts;
  std::optional<double> joules;            // since the driver started; its counter moves every 20 to 100 ms
  std::optional<std::string> slowedBy;     // "power cap, heat"; empty = nothing
};

class Nvml {
 public:
  // Null where the library is absent or does not start.
  static std::shared_ptr<Nvml> load(const std::string& library = "libnvidia-ml.so.1");
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  std::optional<GpuSample> sample(const std::string& busId) const;  // none: no such device
  std::string driverRelease() const;                                // "580.159.03"

 private:
  struct Functions;
  explicit Nvml(std::unique_ptr<Functions> functions);
  std::unique_ptr<Functions> f_;
};

// Energy from samples: the driver's counter where there is one, else power summed over time (trapezoids).
class EnergyMeter {
 public:
  void add(const GpuSample& sample, int64_t ns);
  std::optional<double> joules() const { return joules_; }  // since the first sample; none until there are two that tell
  std::optional<double> watts() const { return watts_; }    // over the last interval in which the counter moved, else the last reading

 private:
  std::optional<double> joules_, watts_;
  std::optional<double> counter_, power_;  // of the last sample, or the last move of the counter
  int64_t counterNs_ = 0, powerNs_ = 0;
};

struct GpuState {
  GpuSample latest;
  std::optional<double> joules;  // since the monitor began
  std::optional<double> watts;   // mean of the last interval
};

// Asks NVML at an interval on a thread of its own: a reading takes up to milliseconds, which no token should wait for.
class GpuMonitor {
 public:
  GpuMonitor(std::shared_ptr<const Nvml> nvml, std::string busId, int intervalMs = 100);
  ~GpuMonitor();
  GpuMonitor(const GpuMonitor&) = delete;
  GpuMonitor& operator=(const GpuMonitor&) = delete;

  GpuState state() const;  // any thread

 private:
  void run();
  void take();
  std::shared_ptr<const Nvml> nvml_;
  std::string busId_;
  int intervalMs_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  EnergyMeter meter_;
  GpuState state_;
  std::thread thread_;
};

}  // namespace winnow::cuda
