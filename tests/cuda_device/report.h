// SPDX-License-Identifier: GPL-3.0-or-later
// What a GPU machine found, row by row. Each section is a process of its own (a crash or a lost device ends that section alone) and
// writes its rows to a file as it goes; the parent collects them, prints a table and writes one JSON.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace winnow::device_run {

enum class Status { pass, fail, skip, measured };
const char* statusName(Status status);

using Figures = std::vector<std::pair<std::string, double>>;  // name with its unit: "ms", "share", "gb_s"
struct Row {
  std::string section, name;
  Status status = Status::measured;
  std::string text;
  Figures figures;
};

// One line of a rows file: status, name, text and figures, separated by tabs.
std::string encodeRow(const Row& row);
bool decodeRow(const std::string& line, Row& row);

struct RunOptions {
  bool quick = false;
  std::string rowsFile;  // where a section appends
  double seconds = 1e9;  // what it may take
};

// Inside a section.
class Recorder {
 public:
  explicit Recorder(const RunOptions& options);
  bool quick() const { return options_.quick; }
  double secondsLeft() const;

  void add(Status status, const std::string& name, const std::string& text, const Figures& figures = {});
  void check(bool good, const std::string& name, const std::string& text, const Figures& figures = {}) {
    add(good ? Status::pass : Status::fail, name, text, figures);
  }
  // Runs a case unless its estimate does not fit; whatever it throws is a row that failed.
  void run(const std::string& name, double estimatedSeconds, const std::function<void()>& body);

 private:
  RunOptions options_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

struct Section {
  const char* name;
  double seconds;      // budget
  bool correctness;    // every row must be green
  void (*run)(Recorder& recorder);
};
const std::vector<Section>& sections();

// sections, each in its file
void runOps(Recorder& recorder);
void runLogits(Recorder& recorder);
void runSwaps(Recorder& recorder);
void runMemory(Recorder& recorder);
void runRoofline(Recorder& recorder);
void runDecode(Recorder& recorder);
void runPrefill(Recorder& recorder);
void runKnobs(Recorder& recorder);
void runObservation(Recorder& recorder);
void runPeer(Recorder& recorder);

// --- the parent ----------------------------------------------------------------------------------------------------------

struct ReportHead {
  std::string date, commit, device, driver, runtime, architectures, processor;
  int64_t memoryBytes = 0;
  bool quick = false;
  double seconds = 0;
};
std::string jsonOf(const ReportHead& head, const std::vector<Row>& rows);
std::string tableOf(const ReportHead& head, const std::vector<Row>& rows);
bool allGreen(const std::vector<Row>& rows);  // of the sections that check

// Runs a program, its output in a log; the exit code, 128 + signal, or -1 when it had to be ended after `seconds`.
int runProgram(const std::vector<std::string>& command, const std::string& log, double seconds);
std::string lastLines(const std::string& file, int count);
std::string ownFolder();  // of this executable

}  // namespace winnow::device_run
