// SPDX-License-Identifier: GPL-3.0-or-later
// Text for the methods that measure one, written once.
#pragma once
#include <fstream>
#include <map>
#include <string>

#include "tests/support/engine.h"

namespace winnow::test {

inline const char* calibrationText(const char* name = "calibration.txt", const char* sentence = "One day a little girl named Lily went to the park with her dog.\n") {
  static std::map<std::string, std::string> written;
  std::string& path = written[name];
  if (!path.empty()) return path.c_str();
  path = (scratch() / name).string();
  std::ofstream out(path);
  for (int i = 0; i < 60; ++i) out << sentence << i;
  return path.c_str();
}

inline Settings measured(Settings settings) {
  settings.emplace_back("calibration.text", calibrationText());
  settings.emplace_back("calibration.tokens", "256");
  return settings;
}

}  // namespace winnow::test
