// SPDX-License-Identifier: GPL-3.0-or-later
// Clocks, power and energy against a stand-in of NVML.
#include "engine/cuda/nvml.h"

#include <atomic>

#include "tests/engine/fakes/settings.h"
#include "tests/support/check.h"

using namespace winnow::cuda;
using namespace winnow::test;

namespace {
FakeNvml& library() { return settingsOf<FakeNvml>(WINNOW_FAKE_NVML, "fakeNvml"); }
constexpr const char* kBus = "0000:3B:00.0";
constexpr int64_t kSecond = 1'000'000'000;

GpuSample counter(double joules) {
  GpuSample s;
  s.joules = joules;
  return s;
}
GpuSample power(double watts) {
  GpuSample s;
  s.watts = watts;
  return s;
}
}  // namespace

TEST(figures_are_read_in_their_units) {
  FakeNvml& fake = library();
  fake.reasons = 0x4 | 0x40 | 0x1;
  const auto nvml = Nvml::load(WINNOW_FAKE_NVML);
  EXPECT(nvml != nullptr);
  EXPECT_EQ(nvml->driverRelease(), std::string("580.00.1"));
  const auto s = nvml->sample(kBus);
  EXPECT(s.has_value());
  EXPECT_EQ(*s->smMhz, 1980);
  EXPECT_EQ(*s->memoryMhz, 3201);
  EXPECT_EQ(*s->celsius, 41);
  EXPECT_NEAR(*s->watts, 350, 1e-9);
  EXPECT_NEAR(*s->limitWatts, 700, 1e-9);
  EXPECT_NEAR(*s->joules, 1000, 1e-9);
  EXPECT_EQ(*s->slowedBy, std::string("power cap, heat (hardware)"));  // idle is no slowdown
  EXPECT(!nvml->sample("0000:FF:00.0"));
}

TEST(what_is_not_supported_is_absent) {
  FakeNvml& fake = library();
  fake.millijoules = fake.milliwatts = fake.reasons = -1;
  fake.smMhz = -1;
  const auto s = Nvml::load(WINNOW_FAKE_NVML)->sample(kBus);
  EXPECT(s && !s->joules && !s->watts && !s->slowedBy && !s->smMhz && s->celsius);
}

TEST(an_absent_library_is_no_error) {
  EXPECT(Nvml::load((scratch() / "libnvidia-ml.so.1").string()) == nullptr);
  FakeNvml& fake = library();
  fake.initResult = 9;  // no driver
  EXPECT(Nvml::load(WINNOW_FAKE_NVML) == nullptr);
  fake = {};
  { const auto nvml = Nvml::load(WINNOW_FAKE_NVML); }
  EXPECT_EQ(fake.started, 0);  // shut down as often as started
}

TEST(energy_from_the_counter) {
  EnergyMeter meter;
  EXPECT(!meter.joules() && !meter.watts());
  meter.add(counter(5000), 0);
  EXPECT_NEAR(*meter.joules(), 0, 0);
  meter.add(counter(5000), kSecond / 10);  // it has not moved yet: no power of zero
  EXPECT(!meter.watts());
  meter.add(counter(5040), kSecond / 5);
  EXPECT_NEAR(*meter.joules(), 40, 1e-9);
  EXPECT_NEAR(*meter.watts(), 200, 1e-9);
  meter.add(counter(10), kSecond);  // the driver was loaded again
  meter.add(counter(110), 2 * kSecond);
  EXPECT_NEAR(*meter.joules(), 140, 1e-9);
  EXPECT_NEAR(*meter.watts(), 100, 1e-9);
}

TEST(energy_from_power_where_there_is_no_counter) {
  EnergyMeter meter;
  meter.add(power(100), 0);
  EXPECT(!meter.joules());
  EXPECT_NEAR(*meter.watts(), 100, 0);
  meter.add(power(300), 2 * kSecond);
  meter.add(GpuSample(), 3 * kSecond);  // nothing was told
  meter.add(power(300), 4 * kSecond);
  EXPECT_NEAR(*meter.joules(), 400 + 600, 1e-9);
}

TEST(the_monitor_follows_the_device) {
  FakeNvml& fake = library();
  GpuMonitor monitor(Nvml::load(WINNOW_FAKE_NVML), kBus, 1);
  const GpuState first = monitor.state();
  EXPECT_EQ(first.latest.smMhz.value_or(0), 1980);  // from the start
  EXPECT_NEAR(first.joules.value_or(-1), 0, 0);
  std::atomic_ref(fake.millijoules) = 1007000;
  for (int i = 0; i < 20000 && *monitor.state().joules == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_NEAR(*monitor.state().joules, 7, 1e-9);
  EXPECT(*monitor.state().watts > 0);
}
