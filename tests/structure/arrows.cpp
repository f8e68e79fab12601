// SPDX-License-Identifier: GPL-3.0-or-later
// The arrows between the folders point one way: app -> panels -> experiments -> {engine, storage}. Every include is checked.
#include <map>
#include <regex>
#include <set>

#include "tests/structure/tree.h"

using namespace winnow::test;

namespace {

const std::vector<std::string> kFolders = {"engine", "storage", "experiments", "panels", "app"};

struct Rule {
  std::set<std::string> folders;      // whose headers may be included
  std::vector<std::string> also;      // single subfolders of others: vocabulary types only
  std::regex system;                  // <headers> that are forbidden
};

const std::map<std::string, Rule>& rules() {
  const std::string widgets = "Q(Widget|Application|MainWindow|Painter|Pixmap|Image|Icon|Font|Color|Brush|Pen|Dialog|Label|Action|Menu|Svg.*|Print.*|Gui.*)";
  static const std::map<std::string, Rule> all = {
      {"engine", {{"engine"}, {}, std::regex("Q[A-Z].*|Qt.*|sqlite3.*|qcustomplot.*")}},
      {"storage", {{"storage"}, {}, std::regex("Q[A-Z].*|Qt.*|qcustomplot.*")}},
      {"experiments", {{"experiments", "engine", "storage"}, {}, std::regex(widgets + "|sqlite3.*|qcustomplot.*|QtWidgets.*|QtGui.*")}},
      {"panels", {{"panels", "experiments"}, {"engine/core/"}, std::regex("sqlite3.*|QtSql.*|QSql.*")}},
      {"app", {{"app", "panels", "experiments", "engine", "storage"}, {}, std::regex("sqlite3.*|QtSql.*|QSql.*")}},
  };
  return all;
}

// Backends know what they share (plan, cache, weights, run), never one another.
const std::vector<std::pair<std::string, std::string>> kApart = {{"engine/cuda/", "engine/cpu/"}, {"engine/cpu/", "engine/cuda/"}, {"engine/cache/", "engine/cpu/"},
                                                                 {"engine/cache/", "engine/cuda/"}, {"engine/plan/", "engine/cpu/"}};

// "panels/x.cpp:12: includes engine/run/engine.h" for every include that the rules of its folder forbid.
std::vector<std::string> violations(const std::filesystem::path& root, size_t* includes = nullptr) {
  static const std::regex include(R"re(^\s*#\s*include\s*([<"])([^>"]+)[>"])re");
  std::vector<std::string> bad;
  for (const Source& source : sourcesUnder(root, kFolders, {".h", ".cpp", ".cu", ".cuh"})) {
    const Rule& rule = rules().at(source.folder());
    for (size_t i = 0; i < source.lines.size(); ++i) {
      std::smatch match;
      if (!std::regex_search(source.lines[i], match, include)) continue;
      if (includes) ++*includes;
      const std::string header = match[2];
      const std::string target = header.substr(0, header.find('/'));
      const bool ours = rules().count(target) > 0 && header.find('/') != std::string::npos;
      bool forbidden = header.find("../") != std::string::npos || target == "tests";
      if (ours) forbidden |= rule.folders.count(target) == 0 &&
                             std::none_of(rule.also.begin(), rule.also.end(), [&](const auto& a) { return header.rfind(a, 0) == 0; });
      else forbidden |= std::regex_match(header, rule.system);
      for (const auto& [folder, other] : kApart) forbidden |= source.path.rfind(folder, 0) == 0 && header.rfind(other, 0) == 0;
      if (forbidden) bad.push_back(source.path + ":" + std::to_string(i + 1) + ": includes " + header);
    }
  }
  return bad;
}

std::vector<std::string> planted(const std::string& path, const std::string& line) {
  namespace fs = std::filesystem;
  const fs::path root = scratch() / "planted";
  fs::remove_all(root);
  fs::create_directories((root / path).parent_path());
  std::ofstream(root / path) << "// a file\n" << line << "\n";
  return violations(root);
}

}  // namespace

TEST(noForbiddenArrow) {
  size_t includes = 0;
  for (const std::string& bad : violations(sourceRoot(), &includes)) EXPECT(false, bad);
  EXPECT(includes > 100, "only", includes, "includes were seen: is the source tree where it should be?");
}

TEST(aPlantedArrowIsCaught) {
  const std::pair<const char*, const char*> bad[] = {
      {"engine/run/x.cpp", "#include \"storage/session_file.h\""}, {"engine/core/x.h", "#include <QString>"},
      {"engine/core/x.h", "#include \"experiments/format.h\""},    {"storage/x.cpp", "#include \"engine/core/result.h\""},
      {"storage/x.h", "#include <QtCore/QString>"},                {"experiments/x.cpp", "#include \"panels/plot/plot_widget.h\""},
      {"experiments/x.cpp", "  #  include <QWidget>"},             {"experiments/x.cpp", "#include <sqlite3.h>"},
      {"panels/live/x.h", "#include \"engine/run/engine.h\""},     {"panels/runs/x.cpp", "#include \"storage/sqlite.h\""},
      {"panels/runs/x.cpp", "#include \"app/gui/main_window.h\""}, {"app/cli/x.cpp", "#include <sqlite3.h>"},
      {"app/cli/x.cpp", "#include \"../../engine/run/engine.h\""}, {"engine/cpu/x.cpp", "#include \"tests/support/check.h\""},
      {"engine/cuda/x.cu", "#include \"engine/cpu/ops.h\""},       {"engine/cache/x.h", "#include \"engine/cpu/ops.h\""},
  };
  for (const auto& [path, line] : bad) EXPECT_EQ(planted(path, line).size(), size_t{1});
  const std::pair<const char*, const char*> good[] = {
      {"app/gui/x.cpp", "#include \"panels/live/live_view.h\""}, {"panels/live/x.cpp", "#include \"experiments/workbench.h\""},
      {"panels/live/x.h", "#include \"engine/core/result.h\""},  {"experiments/x.h", "#include \"storage/session_file.h\""},
      {"storage/x.cpp", "#include <sqlite3.h>"},                 {"engine/cpu/x.cpp", "// #include <QString>"},
      {"experiments/x.h", "#include <QString>"},                 {"panels/live/x.h", "#include <QWidget>"},
      {"engine/cuda/x.cu", "#include \"engine/run/backend.h\""},
  };
  for (const auto& [path, line] : good) EXPECT_EQ(planted(path, line).size(), size_t{0});
}
