// SPDX-License-Identifier: GPL-3.0-or-later
// The values that jobs report and panels draw.
#pragma once
#include <QString>
#include <QStringList>
#include <utility>
#include <vector>

#include "engine/core/memory.h"
#include "engine/model/config.h"
#include "engine/run/sampler.h"
#include "storage/records.h"

namespace winnow {

struct ModelInfo {
  QString source;  // as asked for: a path, starter or starter-proxy
  QString path, name, format, architecture, types, device, tokenizer, chatFormat;
  ModelConfig config;
  qint64 fileBytes = 0;
  QStringList notes;
};

struct GenerateRequest {
  QString prompt;
  int tokens = 128;
  bool chat = false;
  bool ignoreEos = false;
  SamplerSettings sampler;
  QString name;
};

// One generated (or prompt) token as panels draw it.
struct TokenPoint {
  qint64 index = 0;              // in the sequence, prompt included
  qint32 id = 0;
  bool prompt = false;
  QString text;                  // whole characters; may be empty while a character is incomplete
  double ms = 0;                 // 0 for prompt tokens but the first, which carries the whole prefill
  double seconds = 0;            // since the run began
  double nll = -1;               // nats; < 0 = unknown (first token)
  double entropy = -1;
  double joules = -1;            // of the device, mean power times the time; < 0 = unknown
  QString gpu;                   // "350 W · SM 1980 MHz · 41 °C", empty without a GPU
  int epoch = 0;
  qint64 kvLive = 0, kvEvicted = 0;
  MemoryByTag memory{};
  std::vector<std::pair<QString, double>> opMs;  // category -> ms, when ops are observed
};

struct EpochPoint {              // a marker on every time axis
  int epoch = 0;
  qint64 token = 0;
  QString label;                 // "weights.bits 16 → 4"
  QString cause;
  bool clamped = false;          // effective differs from requested
  QString reason;
};

// Live quality: the probe text under the present configuration, and the divergence from the 16-bit baseline.
struct QualityPoint {
  int epoch = 0;
  qint64 token = 0;
  double perplexity = 0, stderror = 0;
  double kld = 0, top1 = 1;
  int windows = 0;
  QString protocol;
  bool running = false;
};

struct JobState {
  enum class Kind { none, load, generate, evaluate, bench, attribute, plan, rebuild, exportModel, similarity, attention, keptMass, retrieve } kind = Kind::none;
  bool running = false;
  double fraction = -1;          // < 0 = unknown
  double secondsLeft = -1;
  QString what;
  storage::Id run = -1;          // in the session file
};

struct LogLine {
  qint64 utcMs = 0;
  QString level, code, text;     // info notice warning error
};

}  // namespace winnow
