// SPDX-License-Identifier: GPL-3.0-or-later
// What the stand-ins of NVIDIA's libraries answer. A test loads a stand-in, finds these by name and changes them; the product's code then
// loads the same library and calls it.
#pragma once
#include <dlfcn.h>

#include <cstddef>
#include <stdexcept>
#include <string>

namespace winnow::test {

struct FakeCuda {  // exported as fakeCuda
  int initResult = 0, countResult = 0, version = 13000;
  int devices = 1;
  const char* name[4] = {"NVIDIA Test 1", "NVIDIA Test 2", "NVIDIA Test 3", "NVIDIA Test 4"};
  int major[4] = {9, 9, 9, 9}, minor[4] = {};
  size_t total[4] = {size_t{16} << 30, size_t{16} << 30, size_t{16} << 30, size_t{16} << 30};
  size_t free[4] = {size_t{15} << 30, size_t{15} << 30, size_t{15} << 30, size_t{15} << 30};
  int contexts = 0;  // retained and not released
  int pushed = -1;   // whose context is current
};

struct FakeNvml {  // exported as fakeNvml; a negative figure: not supported
  int initResult = 0, started = 0;
  const char* busId = "0000:3B:00.0";
  int smMhz = 1980, memoryMhz = 3201, celsius = 41;
  long long milliwatts = 350000, millijoules = 1000000, reasons = 0;
};

template <class Settings>
Settings& settingsOf(const char* library, const char* symbol) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!handle) throw std::runtime_error(dlerror());
  void* found = dlsym(handle, symbol);
  if (!found) throw std::runtime_error(std::string("no ") + symbol);
  auto& settings = *static_cast<Settings*>(found);
  settings = Settings();
  return settings;
}

}  // namespace winnow::test
