// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/check.h"

namespace winnow::test {

struct Source {
  std::string path;  // relative to the root, with forward slashes
  std::vector<std::string> lines;
  std::string folder() const { return path.substr(0, path.find('/')); }
};

inline std::filesystem::path sourceRoot() { return std::filesystem::path(WINNOW_TESTS_DIR).parent_path(); }

inline bool endsWith(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The files of these folders whose name ends so, in a fixed order.
inline std::vector<Source> sourcesUnder(const std::filesystem::path& root, const std::vector<std::string>& folders,
                                        const std::vector<std::string>& endings) {
  namespace fs = std::filesystem;
  std::vector<Source> found;
  for (const std::string& folder : folders) {
    if (!fs::is_directory(root / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string path = fs::relative(entry.path(), root).generic_string();
      if (!entry.is_regular_file() || std::none_of(endings.begin(), endings.end(), [&](const auto& e) { return endsWith(path, e); })) continue;
      Source& source = found.emplace_back();
      source.path = path;
      std::ifstream in(entry.path());
      for (std::string line; std::getline(in, line);) source.lines.push_back(line);
    }
  }
  std::sort(found.begin(), found.end(), [](const Source& a, const Source& b) { return a.path < b.path; });
  return found;
}

}  // namespace winnow::test
