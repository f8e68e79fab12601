// SPDX-License-Identifier: GPL-3.0-or-later
// What this machine can do, in one line and in several.
#pragma once
#include <QString>

namespace winnow {

struct MachineInfo {
  int threads = 0;
  QString instructions;   // "avx512+vnni+bf16"
  qint64 memoryBytes = 0;
  QString cuda;           // the device, or why there is none and what to do
  bool cudaReady = false;
  QString line() const;
  QString details() const;
};
MachineInfo machineInfo(int threads);  // 0: as many as the process may use

}  // namespace winnow
