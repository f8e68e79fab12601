// SPDX-License-Identifier: GPL-3.0-or-later
// Sections that are programs of their own: the op harness on the device (one program a test file) and PyTorch on the same shapes.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/cuda_device/report.h"

namespace winnow::device_run {

void runOps(Recorder& recorder) {
  constexpr double kOneProgram = 90;
  std::vector<std::string> programs;
  for (const auto& entry : std::filesystem::directory_iterator(ownFolder()))
    if (entry.path().filename().string().rfind("test_cuda_device_", 0) == 0 && entry.path().filename() != "test_cuda_device_report") programs.push_back(entry.path().string());
  std::sort(programs.begin(), programs.end());
  recorder.check(!programs.empty(), "programs", std::to_string(programs.size()) + " test programs beside this one");
  const std::string log = (std::filesystem::temp_directory_path() / ("winnow-ops-" + std::to_string(getpid()) + ".log")).string();
  for (const std::string& program : programs) {
    const std::string name = program.substr(program.find("test_cuda_device_") + 17);
    recorder.run(name, 3, [&] {
      const int code = runProgram({program}, log, std::min(kOneProgram, recorder.secondsLeft()));
      const std::string text = lastLines(log, code == 0 ? 1 : 6);
      if (code == 77) recorder.add(Status::skip, name, text);
      else recorder.check(code == 0, name, code == -1 ? "was ended: it took too long; last: " + text : text);
    });
  }
  std::filesystem::remove(log);
}

void runPeer(Recorder& recorder) {
  const std::string log = (std::filesystem::temp_directory_path() / ("winnow-peer-" + std::to_string(getpid()) + ".log")).string();
  std::vector<std::string> command = {"python3", std::string(WINNOW_TESTS_DIR) + "/cuda_device/peer_torch.py", std::to_string(recorder.secondsLeft() - 5)};
  if (recorder.quick()) command.push_back("--quick");
  const int code = runProgram(command, log, recorder.secondsLeft());
  std::ifstream in(log);
  int rows = 0;
  for (std::string line; std::getline(in, line);)
    if (Row row; decodeRow(line, row)) recorder.add(row.status, row.name, row.text, row.figures), ++rows;
  if (code == 77 || code == 127) recorder.add(Status::skip, "torch", "absent: " + lastLines(log, 1));
  else if (code != 0) recorder.add(Status::skip, "torch", "ended with " + std::to_string(code) + ": " + lastLines(log, 2));
  else if (rows == 0) recorder.add(Status::skip, "torch", "told nothing");
  std::filesystem::remove(log);
}

}  // namespace winnow::device_run
