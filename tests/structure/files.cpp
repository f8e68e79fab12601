// SPDX-License-Identifier: GPL-3.0-or-later
// Every source names its licence, stays short enough to read, and knows nothing of the machine it was written on.
#include <regex>

#include "tests/structure/tree.h"

using namespace winnow::test;

namespace {

constexpr size_t kMostLines = 600;

std::vector<std::string> faults(const std::filesystem::path& root, size_t* files = nullptr) {
  // Spelled in pieces, so that this file passes its own test.
  static const std::regex machine("(^|[^A-Za-z0-9_.])/" "(work|home|root|Users)/");
  static const std::regex unfinished("TO" "DO|FIX" "ME|XX" "X|not " "implemented");
  std::vector<std::string> bad;
  const auto check = [&](const Source& source) {
    if (files) ++*files;
    const auto at = [&](size_t line) { return source.path + ":" + std::to_string(line + 1) + ": "; };
    bool licence = false;
    for (size_t i = 0; i < std::min<size_t>(2, source.lines.size()); ++i)
      licence |= source.lines[i].find("SPDX-License-Identifier: GPL-3.0-or-later") != std::string::npos;
    if (!licence && !source.lines.empty()) bad.push_back(at(0) + "no SPDX line");
    if (source.lines.size() > kMostLines) bad.push_back(at(kMostLines) + "longer than " + std::to_string(kMostLines) + " lines");
    for (size_t i = 0; i < source.lines.size(); ++i) {
      const std::string& line = source.lines[i];
      if (line.find('\t') != std::string::npos || (!line.empty() && line.back() == '\r')) bad.push_back(at(i) + "tab or carriage return");
      if (std::regex_search(line, machine)) bad.push_back(at(i) + "path of a machine");
      if (source.folder() != "tests" && std::regex_search(line, unfinished)) bad.push_back(at(i) + "unfinished");
    }
  };
  for (const Source& source : sourcesUnder(root, {"engine", "storage", "experiments", "panels", "app", "tests", "cmake", "resources"},
                                           {".h", ".cpp", ".cu", ".cuh", ".cmake", "CMakeLists.txt", ".py", ".sh"}))
    check(source);
  for (const char* name : {"CMakeLists.txt", "winnow", ".ci/run"}) {
    if (!std::filesystem::exists(root / name)) continue;
    Source source{name, {}};
    std::ifstream in(root / name);
    for (std::string line; std::getline(in, line);) source.lines.push_back(line);
    check(source);
  }
  return bad;
}

size_t plantedFaults(const std::string& text) {
  namespace fs = std::filesystem;
  const fs::path root = scratch() / "files";
  fs::remove_all(root);
  fs::create_directories(root / "engine");
  std::ofstream(root / "engine/x.cpp") << text;
  return faults(root).size();
}

}  // namespace

TEST(everySource) {
  size_t files = 0;
  for (const std::string& bad : faults(sourceRoot(), &files)) EXPECT(false, bad);
  EXPECT(files > 50, "only", files, "files were seen");
}

TEST(plantedFaultsAreCaught) {
  const std::string licence = "// SPDX-License-Identifier: GPL-3.0-or-later\n";
  EXPECT_EQ(plantedFaults(licence + "int a;\n"), size_t{0});
  EXPECT_EQ(plantedFaults("int a;\n"), size_t{1});
  EXPECT_EQ(plantedFaults(licence + "const char* p = \"/ho" "me/me/model.gguf\";\n"), size_t{1});
  EXPECT_EQ(plantedFaults(licence + "int a;  // TO" "DO\n"), size_t{1});
  EXPECT_EQ(plantedFaults(licence + "\tint a;\n"), size_t{1});
  std::string many = licence;
  for (size_t i = 0; i < kMostLines; ++i) many += "\n";
  EXPECT_EQ(plantedFaults(many), size_t{1});
}
