// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/recorder.h"

#include <unistd.h>

#include <QFile>
#include <QFileInfo>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <QSysInfo>
#include <chrono>
#include <thread>
#include <utility>

#include "engine/cpu/ops.h"
#include "winnow_build_info.h"

namespace winnow {
namespace {

constexpr size_t kTokenBatch = 64;

int64_t steadyNs() { return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

QJsonValue json(const KnobValue& value) {
  if (const bool* b = std::get_if<bool>(&value)) return *b;
  if (const int64_t* i = std::get_if<int64_t>(&value)) return static_cast<qint64>(*i);
  if (const double* d = std::get_if<double>(&value)) return *d;
  return QString::fromStdString(std::get<std::string>(value));
}

// A value of /proc/cpuinfo, of the first processor.
std::string processorField(const QByteArray& key) {
  QFile file(QStringLiteral("/proc/cpuinfo"));
  if (file.open(QIODevice::ReadOnly))
    for (const QByteArray& line : file.readAll().split('\n'))
      if (line.startsWith(key)) return line.mid(line.indexOf(':') + 1).trimmed().toStdString();
  return {};
}

}  // namespace

storage::ConfigRecord configRecord(const Config& config) {
  storage::ConfigRecord record;
  QJsonObject canonical;
  for (const auto& [name, value] : config.changed()) {
    const Knob& knob = *Schema::instance().find(name);
    storage::KnobSetting setting{name, std::string(knobTypeName(knob.type)), knob.unit, {}};
    if (const bool* b = std::get_if<bool>(&value))
      setting.value = *b ? 1.0 : 0.0;
    else if (const int64_t* i = std::get_if<int64_t>(&value))
      setting.value = static_cast<double>(*i);
    else if (const double* d = std::get_if<double>(&value))
      setting.value = *d;
    else
      setting.value = std::get<std::string>(value);
    record.settings.push_back(std::move(setting));
    canonical[QString::fromStdString(name)] = json(value);
  }
  record.canonicalJson = QJsonDocument(canonical).toJson(QJsonDocument::Compact).toStdString();
  return record;
}

std::string divergenceJson(const Effective& effective) {
  QJsonArray array;
  for (const Adjustment& a : effective.adjustments)
    array.append(QJsonObject{{QStringLiteral("knob"), QString::fromStdString(a.knob)}, {QStringLiteral("requested"), json(a.requested)},
                             {QStringLiteral("effective"), json(a.effective)}, {QStringLiteral("reason"), QString::fromStdString(a.reason)}});
  return QJsonDocument(array).toJson(QJsonDocument::Compact).toStdString();
}

storage::EnvironmentRecord environmentRecord() {
  storage::EnvironmentRecord e;
  e.os = QSysInfo::prettyProductName().toStdString();
  e.kernel = (QSysInfo::kernelType() + QLatin1Char(' ') + QSysInfo::kernelVersion()).toStdString();
  e.cpuModel = processorField("model name");
  e.cpuFeatures = cpu::isaName(cpu::bestIsa());
  e.appVersion = WINNOW_VERSION;
  e.sourceRevision = WINNOW_SOURCE_REVISION;
  e.compiler = WINNOW_COMPILER;
  e.buildFlags = WINNOW_BUILD_FLAGS;
  e.coresLogical = static_cast<int>(std::thread::hardware_concurrency());
  const int cores = QByteArray::fromStdString(processorField("cpu cores")).toInt();
  e.coresPhysical = cores > 0 ? cores : e.coresLogical;
  e.ramBytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  return e;
}

storage::DeviceRecord deviceRecord(const Engine& engine) {
  storage::DeviceRecord d;
  d.kind = "cpu";
  d.name = processorField("model name");
  d.memoryBytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  d.threads = engine.threads();
  d.detail = engine.deviceDescription();
  if (const auto memory = engine.deviceMemory()) {
    const QString name = QString::fromStdString(d.detail).section(QStringLiteral(": "), 1).section(QLatin1Char(','), 0, 0);  // "CUDA: NAME, ..."
    d.kind = "cuda";
    d.name = name.toStdString();
    d.memoryBytes = memory->totalBytes;
  }
  return d;
}

storage::ModelRecord modelRecord(const Model& model) {
  const ModelConfig& c = model.config();
  storage::ModelRecord m;
  const QFileInfo file(QString::fromStdString(model.path()));
  m.path = file.absoluteFilePath().toStdString();
  m.name = c.name.empty() ? file.fileName().toStdString() : c.name;
  m.format = model.format();
  m.architecture = c.architecture;
  m.typeSummary = model.typeSummary();
  m.fileBytes = model.fileBytes();
  m.mtimeUs = file.lastModified().toMSecsSinceEpoch() * 1000;
  m.parameters = c.parameters;
  m.layers = c.layers;
  m.heads = c.heads;
  m.kvHeads = c.kvHeads;
  m.headDim = c.headDim;
  m.context = c.context;
  m.vocab = c.vocab;
  return m;
}

RunRecorder::RunRecorder(std::shared_ptr<storage::SessionFile> file, const Engine& engine, const Effective& effective, storage::NewRun run)
    : file_(std::move(file)), startNs_(steadyNs()) {
  if (!file_ || file_->readOnly()) return;
  run.model = modelRecord(engine.model());
  run.device = deviceRecord(engine);
  run.environment = environmentRecord();
  run.requested = configRecord(effective.requested);
  run.effective = configRecord(effective.config);
  run.divergenceJson = divergenceJson(effective);
  if (const auto id = file_->beginRun(run)) id_ = *id;
}

RunRecorder::~RunRecorder() {
  if (active() && !finished_) finish(storage::RunStatus::failed, "the run ended without a result");
}

int64_t RunRecorder::nowNs() const { return steadyNs() - startNs_; }

void RunRecorder::token(storage::TokenSample sample) {
  if (!active()) return;
  tokens_.push_back(std::move(sample));
  if (tokens_.size() >= kTokenBatch) flushTokens();
}

void RunRecorder::flushTokens() {
  if (active() && !tokens_.empty()) file_->addTokens(id_, std::exchange(tokens_, {}));
}

void RunRecorder::memory(int64_t atToken, const MemoryByTag& memory) {
  int64_t total = 0;
  std::vector<storage::MemorySample> changed;
  for (size_t i = 0; i < memory.size(); ++i) {
    total += memory[i];
    if (memory[i] != lastMemory_[i]) changed.push_back({atToken, std::string(memoryTagName(static_cast<MemoryTag>(i))), memory[i]});
  }
  lastMemory_ = memory;
  peakMemory_ = std::max(peakMemory_, total);
  if (active() && !changed.empty()) file_->addMemory(id_, std::move(changed));
}

void RunRecorder::metric(const std::string& name, const std::string& unit, const std::string& better, double value, int64_t n) {
  storage::Metric m;
  m.name = name;
  m.unit = unit;
  m.better = better;
  m.value = value;
  m.n = n;
  metrics_.push_back(std::move(m));
}

void RunRecorder::event(const std::string& level, const std::string& code, const std::string& text) {
  if (active()) file_->addEvents(id_, {{nowNs(), level, code, text}});
}

void RunRecorder::epoch(int number, int64_t atToken, const EngineEvent& event) {
  if (!active()) return;
  std::vector<storage::KnobEvent> events;
  for (const Adjustment& change : event.changes)
    events.push_back({atToken, nowNs(), change.knob, toText(change.requested), toText(change.effective), event.cause.empty() ? "user" : event.cause, change.reason, number});
  if (!events.empty()) file_->addKnobEvents(id_, std::move(events));
}

void RunRecorder::effective(const Effective& effective) {
  if (active()) file_->updateEffective(id_, configRecord(effective.config), divergenceJson(effective));
}

void RunRecorder::finish(storage::RunStatus status, const std::string& error) {
  if (!active() || finished_) return;
  finished_ = true;
  flushTokens();
  if (peakMemory_ > 0) metric("memory_peak", "B", "lower", static_cast<double>(peakMemory_));
  if (!metrics_.empty()) file_->setMetrics(id_, std::move(metrics_));
  file_->finishRun(id_, status, error);
}

}  // namespace winnow
