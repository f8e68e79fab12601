// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/nvml.h"

#include <array>
#include <chrono>
#include <utility>

#include "engine/cuda/library.h"

namespace winnow::cuda {

// NVML's interface as its manual gives it: results are ints, 0 = success; a device is a pointer.
struct Nvml::Functions {
  Library library;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*driver)(char*, unsigned) = nullptr;
  int (*device)(const char*, void**) = nullptr;
  int (*clock)(void*, int, unsigned*) = nullptr;
  int (*power)(void*, unsigned*) = nullptr;
  int (*powerLimit)(void*, unsigned*) = nullptr;
  int (*temperature)(void*, int, unsigned*) = nullptr;
  int (*reasons)(void*, unsigned long long*) = nullptr;
  int (*energy)(void*, unsigned long long*) = nullptr;

  explicit Functions(const std::string& path) : library(path) {
    library.find("nvmlInit_v2", init);
    library.find("nvmlShutdown", shutdown);
    library.find("nvmlSystemGetDriverVersion", driver);
    library.find("nvmlDeviceGetHandleByPciBusId_v2", device);
    library.find("nvmlDeviceGetClockInfo", clock);
    library.find("nvmlDeviceGetPowerUsage", power);
    library.find("nvmlDeviceGetEnforcedPowerLimit", powerLimit);
    library.find("nvmlDeviceGetTemperature", temperature);
    library.find("nvmlDeviceGetCurrentClocksEventReasons", reasons);
    if (!reasons) library.find("nvmlDeviceGetCurrentClocksThrottleReasons", reasons);  // its name before driver 535
    library.find("nvmlDeviceGetTotalEnergyConsumption", energy);
  }
};

namespace {

constexpr int kSuccess = 0, kClockSm = 1, kClockMemory = 2, kTemperatureGpu = 0;

struct Reason {
  unsigned long long bit;
  const char* name;
};
constexpr Reason kReasons[] = {{0x4, "power cap"},     {0x8, "hardware slowdown"}, {0x10, "sync boost"},         {0x20, "heat"},
                               {0x40, "heat (hardware)"}, {0x80, "power brake"},   {0x2, "clocks set by a user"}, {0x100, "display clocks"}};

std::string reasonsText(unsigned long long bits) {
  std::string out;
  for (const Reason& r : kReasons)
    if (bits & r.bit) out += (out.empty() ? "" : ", ") + std::string(r.name);
  return out;
}

int64_t steadyNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

std::shared_ptr<Nvml> Nvml::load(const std::string& library) {
  auto functions = std::make_unique<Functions>(library);
  if (!functions->init || !functions->device || functions->init() != kSuccess) return nullptr;
  return std::shared_ptr<Nvml>(new Nvml(std::move(functions)));
}

Nvml::Nvml(std::unique_ptr<Functions> functions) : f_(std::move(functions)) {}

Nvml::~Nvml() {
  if (f_->shutdown) f_->shutdown();
}

std::string Nvml::driverRelease() const {
  std::array<char, 96> text{};
  return f_->driver && f_->driver(text.data(), text.size() - 1) == kSuccess ? text.data() : "";
}

std::optional<GpuSample> Nvml::sample(const std::string& busId) const {
  void* device = nullptr;
  if (f_->device(busId.c_str(), &device) != kSuccess) return std::nullopt;
  GpuSample s;
  unsigned value = 0;
  unsigned long long wide = 0;
  if (f_->clock && f_->clock(device, kClockSm, &value) == kSuccess) s.smMhz = static_cast<int>(value);
  if (f_->clock && f_->clock(device, kClockMemory, &value) == kSuccess) s.memoryMhz = static_cast<int>(value);
  if (f_->temperature && f_->temperature(device, kTemperatureGpu, &value) == kSuccess) s.celsius = static_cast<int>(value);
  if (f_->power && f_->power(device, &value) == kSuccess) s.watts = value / 1e3;
  if (f_->powerLimit && f_->powerLimit(device, &value) == kSuccess) s.limitWatts = value / 1e3;
  if (f_->energy && f_->energy(device, &wide) == kSuccess) s.joules = static_cast<double>(wide) / 1e3;
  if (f_->reasons && f_->reasons(device, &wide) == kSuccess) s.slowedBy = reasonsText(wide);
  return s;
}

void EnergyMeter::add(const GpuSample& sample, int64_t ns) {
  if (sample.joules) {
    const double now = *sample.joules;
    if (!counter_ || now < *counter_) {  // the first, or the driver was loaded again
      counter_ = now;
      counterNs_ = ns;
      if (sample.watts) watts_ = sample.watts;
      if (!joules_) joules_ = 0.0;
    } else if (now > *counter_ && ns > counterNs_) {
      joules_ = joules_.value_or(0) + now - *counter_;
      watts_ = (now - *counter_) / (static_cast<double>(ns - counterNs_) * 1e-9);
      counter_ = now;
      counterNs_ = ns;
    }
    return;
  }
  if (!sample.watts) return;
  if (power_ && ns > powerNs_) joules_ = joules_.value_or(0) + (*power_ + *sample.watts) / 2 * static_cast<double>(ns - powerNs_) * 1e-9;
  power_ = watts_ = sample.watts;
  powerNs_ = ns;
}

GpuMonitor::GpuMonitor(std::shared_ptr<const Nvml> nvml, std::string busId, int intervalMs)
    : nvml_(std::move(nvml)), busId_(std::move(busId)), intervalMs_(intervalMs) {
  take();
  thread_ = std::thread([this] { run(); });
}

GpuMonitor::~GpuMonitor() {
  {
    std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void GpuMonitor::run() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, std::chrono::milliseconds(intervalMs_), [this] { return stop_; })) {
    lock.unlock();
    take();
    lock.lock();
  }
}

void GpuMonitor::take() {
  const auto sample = nvml_->sample(busId_);
  const int64_t ns = steadyNs();
  std::scoped_lock lock(mutex_);
  if (!sample) return;
  meter_.add(*sample, ns);
  state_ = {*sample, meter_.joules(), meter_.watts()};
}

GpuState GpuMonitor::state() const {
  std::scoped_lock lock(mutex_);
  return state_;
}

}  // namespace winnow::cuda
