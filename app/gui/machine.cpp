// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/machine.h"

#include <sched.h>
#include <unistd.h>

#include <QCoreApplication>
#include <QFile>
#include <QSysInfo>

#include "engine/cuda/probe.h"
#include "experiments/format.h"
#include "experiments/workbench.h"

namespace winnow {
namespace {

int usableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
}

QString cpuName() {
  QFile file(QStringLiteral("/proc/cpuinfo"));
  if (!file.open(QIODevice::ReadOnly | QIODevice::Text)) return {};
  while (!file.atEnd()) {
    const QByteArray line = file.readLine();
    if (line.startsWith("model name")) return QString::fromUtf8(line.mid(line.indexOf(':') + 1)).trimmed();
    if (line.isEmpty()) break;
  }
  return {};
}

QString say(const char* text) { return QCoreApplication::translate("MachineInfo", text); }

}  // namespace

QString MachineInfo::line() const {
  const QString cpu = say("This machine: CPU with %1 threads, %2, %3 memory.").arg(threads).arg(instructions, Format().bytes(static_cast<double>(memoryBytes)));
  if (cudaReady) return cpu + u' ' + say("CUDA device: %1.").arg(cuda);
  if (cuda.isEmpty()) return cpu + u' ' + say("No CUDA device is in use: everything runs on the CPU.");
  return cpu + u' ' + cuda + u' ' + say("Everything runs on the CPU.");
}

QString MachineInfo::details() const {
  const QString build = cuda::buildInfo().built ? say("This build has the CPU and the CUDA backend.") : say("This build has the CPU backend.");
  return say("%1\n%2, kernel %3\n%4").arg(cpuName(), QSysInfo::prettyProductName(), QSysInfo::kernelVersion(), build);
}

MachineInfo machineInfo(int threads) {
  MachineInfo info;
  info.threads = threads > 0 ? threads : usableCores();
  info.instructions = QString::fromStdString(cpu::isaName(cpu::bestIsa()));
  info.memoryBytes = static_cast<qint64>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  const cuda::DeviceReport report = cuda::probeDevices(cuda::buildInfo());
  info.cuda = QString::fromStdString(report.sentence);
  info.cudaReady = report.ready();
  return info;
}

}  // namespace winnow
