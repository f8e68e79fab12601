// SPDX-License-Identifier: GPL-3.0-or-later
// doctor: what this machine and this build can do, what is missing, and what that means.
#include <QFile>
#include <QJsonArray>
#include <cstdio>

#include "app/cli/command.h"
#include "engine/cpu/ops.h"
#include "engine/cuda/nvml.h"
#include "engine/cuda/probe.h"
#include "experiments/model_source.h"
#include "experiments/recorder.h"
#include "winnow_build_info.h"

namespace winnow::cli {
namespace {

// The instruction sets that matter here, as Linux names them.
QStringList processorFeatures() {
  QFile file(QStringLiteral("/proc/cpuinfo"));
  QStringList present;
  if (!file.open(QIODevice::ReadOnly)) return present;
  for (const QByteArray& line : file.readAll().split('\n')) {
    if (!line.startsWith("flags")) continue;
    const QList<QByteArray> flags = line.mid(line.indexOf(':') + 1).split(' ');
    for (const char* flag : {"sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"})
      if (flags.contains(flag)) present << QLatin1String(flag);
    break;
  }
  return present;
}

// What NVML tells; a slice of a device is not told apart from the whole.
std::optional<cuda::GpuSample> sampleOf(const cuda::DeviceInfo& device, const cuda::Nvml* nvml) {
  return nvml && !device.mig && !device.busId.empty() ? nvml->sample(device.busId) : std::nullopt;
}

QJsonObject deviceJson(const cuda::DeviceInfo& d, const cuda::Nvml* nvml) {
  QJsonObject out{{"index", d.index}, {"name", text(d.name)}, {"compute_capability", text(std::to_string(d.major) + "." + std::to_string(d.minor))},
                  {"multiprocessors", d.multiprocessors}, {"total_bytes", static_cast<qint64>(d.totalBytes)}, {"mig", d.mig},
                  {"supported", d.supported}, {"bus_id", text(d.busId)}};
  if (d.freeBytes) out["free_bytes"] = static_cast<qint64>(*d.freeBytes);
  if (const auto s = sampleOf(d, nvml)) {
    if (s->smMhz) out["sm_mhz"] = *s->smMhz;
    if (s->memoryMhz) out["memory_mhz"] = *s->memoryMhz;
    if (s->watts) out["watts"] = *s->watts;
    if (s->limitWatts) out["limit_watts"] = *s->limitWatts;
    if (s->celsius) out["celsius"] = *s->celsius;
    if (s->slowedBy) out["slowed_by"] = text(*s->slowedBy);
    out["energy_counter"] = s->joules.has_value();
  }
  return out;
}

QJsonObject cudaJson(const cuda::DeviceReport& report, const std::string& meaning, const cuda::Nvml* nvml) {
  const cuda::BuildInfo build = cuda::buildInfo();
  QJsonArray devices;
  for (const cuda::DeviceInfo& d : report.devices) devices.append(deviceJson(d, nvml));
  QJsonObject out{{"built", build.built}, {"status", QString::fromUtf8(cuda::deviceStatusName(report.status))}, {"meaning", text(meaning)},
                  {"driver", report.driverVersion > 0}, {"nvml", nvml != nullptr}, {"devices", devices}};
  if (build.built) {
    out["runtime"] = text(cuda::cudaVersionText(build.runtimeVersion));
    out["architectures"] = text(build.architectures);
  }
  const std::string release = nvml ? nvml->driverRelease() : report.driverRelease;
  if (!release.empty()) out["driver_release"] = text(release);
  if (report.driverVersion > 0) out["driver_cuda"] = text(cuda::cudaVersionText(report.driverVersion));
  return out;
}

std::string deviceText(const cuda::DeviceInfo& d, const cuda::Nvml* nvml) {
  std::string out = d.name + ", compute capability " + std::to_string(d.major) + "." + std::to_string(d.minor) + ", ";
  out += d.freeBytes ? bytesText(*d.freeBytes) + " of " + bytesText(d.totalBytes) + " free" : bytesText(d.totalBytes);
  if (d.mig) out += ", a MIG slice";
  const auto s = sampleOf(d, nvml);
  if (!s) return out + "; clocks and power: not told (" + (d.mig ? "MIG" : "no NVML") + ")";
  if (s->smMhz && s->memoryMhz) out += "; " + std::to_string(*s->smMhz) + " MHz, memory " + std::to_string(*s->memoryMhz) + " MHz";
  if (s->watts) out += ", " + fixed(*s->watts, 0) + " W" + (s->limitWatts ? " of " + fixed(*s->limitWatts, 0) + " W" : "");
  if (s->celsius) out += ", " + std::to_string(*s->celsius) + " °C";
  if (s->slowedBy && !s->slowedBy->empty()) out += ", slowed by " + *s->slowedBy;
  return out;
}

}  // namespace

int runDoctor(const Invocation& invocation) {
  const storage::EnvironmentRecord machine = environmentRecord();
  const QStringList features = processorFeatures();
  cuda::ProbeOptions probe;
  probe.measureFree = true;
  const cuda::DeviceReport devices = cuda::probeDevices(cuda::buildInfo(), probe);
  const std::string meaning = devices.sentence + (devices.ready() ? "" : " Models run on the CPU.");
  const auto nvml = cuda::Nvml::load();
  const std::string starter = findResource("starter/starter.gguf");
  const std::string model = starter.empty() ? "no starter model: resources/starter/starter.gguf is not there" : starter;
  QJsonObject missing;
  if (!devices.ready()) missing["cuda"] = text(meaning);
  if (starter.empty()) missing["starter"] = text(model);
  if (cpu::bestIsa() == cpu::Isa::scalar) missing["avx2"] = QStringLiteral("the processor has no AVX2: models run on plain code, several times slower");
  const QJsonObject libraries{{"qt", qVersion()}, {"sqlite", text(storage::sqliteVersion())}, {"pcre2", WINNOW_PCRE2_VERSION}};
  if (invocation.json())
    return invocation.print({{"version", WINNOW_VERSION}, {"revision", WINNOW_SOURCE_REVISION}, {"compiler", WINNOW_COMPILER},
                             {"build", QStringLiteral(WINNOW_BUILD_FLAGS).trimmed()}, {"os", text(machine.os)}, {"kernel", text(machine.kernel)}, {"cpu", text(machine.cpuModel)},
                             {"cpu_features", QJsonArray::fromStringList(features)}, {"cpu_kernels", text(machine.cpuFeatures)}, {"cores", machine.coresLogical},
                             {"memory_bytes", static_cast<qint64>(machine.ramBytes)}, {"libraries", libraries},
                             {"cuda", cudaJson(devices, meaning, nvml.get())}, {"starter", text(model)}, {"missing", missing}});
  std::string versions;
  for (auto it = libraries.begin(); it != libraries.end(); ++it) versions += (versions.empty() ? "" : ", ") + it.key().toStdString() + " " + it.value().toString().toStdString();
  std::vector<std::vector<std::string>> rows{
              {"Winnow", std::string(WINNOW_VERSION) + " (" + WINNOW_SOURCE_REVISION + ", " + WINNOW_COMPILER + ")"},
              {"System", machine.os + ", " + machine.kernel},
              {"Processor", machine.cpuModel},
              {"CPU features", features.join(QLatin1Char(' ')).toStdString()},
              {"CPU kernels", machine.cpuFeatures},
              {"Threads", std::to_string(machine.coresLogical)},
              {"Memory", bytesText(machine.ramBytes)},
              {"Libraries", versions},
              {"CUDA", meaning},
              {"Starter", model}};
  for (const cuda::DeviceInfo& d : devices.devices) rows.push_back({"GPU " + std::to_string(d.index), deviceText(d, nvml.get())});
  printTable(rows);
  return 0;
}

}  // namespace winnow::cli
