// SPDX-License-Identifier: GPL-3.0-or-later
// A session file with runs of every kind, made of simple formulas, for tests of charts.
#pragma once
#include <QTemporaryDir>
#include <algorithm>
#include <cmath>
#include <iterator>
#include <memory>
#include <random>

#include "experiments/depth_lines.h"
#include "storage/session_file.h"

namespace winnow::test {

struct ChartSession {
  QTemporaryDir folder;
  std::shared_ptr<storage::SessionFile> file;
  std::vector<storage::Id> generates, evaluations, benches;
  storage::Id attribution = -1;

  explicit ChartSession(const std::string& name = "charts.winnow") {
    auto opened = storage::SessionFile::open((folder.path() + u'/').toStdString() + name, storage::SessionFile::Mode::create);
    if (!opened) throw std::runtime_error(opened.error().message);
    file = *opened;
  }

  static storage::NewRun describe(storage::RunKind kind, const std::string& name, int bits) {
    storage::NewRun run;
    run.kind = kind;
    run.name = name;
    run.model.name = "tinystories-3m";
    run.model.path = "/models/tinystories-3m.gguf";
    run.model.sha256 = std::string(64, 'a');
    run.model.architecture = "llama";
    run.device.name = "CPU: 2 threads, avx512";
    run.device.threads = 2;
    run.environment.cpuModel = "Test CPU";
    run.environment.os = "Linux";
    run.environment.appVersion = "0.1.0";
    if (bits < 16) {
      run.requested.canonicalJson = "{\"weights.bits\":" + std::to_string(bits) + ",\"weights.method\":\"rtn\"}";
      run.requested.settings = {{"weights.bits", "integer", "bit", double(bits)}, {"weights.method", "enumeration", "", std::string("rtn")}};
    } else {
      run.requested.canonicalJson = "{}";
    }
    run.effective = run.requested;
    return run;
  }

  // ms per token about `ms`; every 50th token is slow.
  storage::Id addGenerate(const std::string& name, int bits, double ms, int tokens = 400, int prompt = 40) {
    const storage::Id id = *file->beginRun(describe(storage::RunKind::generate, name, bits));
    std::mt19937 random(static_cast<unsigned>(bits));
    std::vector<storage::TokenSample> samples;
    std::vector<storage::MemorySample> memory;
    int64_t t = 0;
    for (int i = 0; i < prompt + tokens; ++i) {
      storage::TokenSample s;
      s.index = i;
      s.prefill = i < prompt;
      s.durationNs = s.prefill ? (i == 0 ? 120'000'000 : 0) : static_cast<int64_t>(1e6 * (ms + (random() % 1000) / 1000.0 + (i % 50 == 49 ? ms * 0.6 : 0)));
      t += s.durationNs;
      s.tNs = t;
      s.nll = 1.0;
      s.kvLive = std::min(i + 1, i < prompt + tokens / 2 ? 100000 : 200);
      s.kvEvicted = i + 1 - s.kvLive;
      s.kvBytes = s.kvLive * 2048;
      samples.push_back(s);
      if (i % 20 == 0)
        for (const auto& [tag, bytes] : std::vector<std::pair<std::string, int64_t>>{{"weights", int64_t{bits} * 900'000}, {"kv", s.kvBytes}, {"activations", 3 << 20}})
          memory.push_back({i, tag, bytes});
    }
    file->addTokens(id, samples);
    file->addMemory(id, memory);
    file->addKnobEvents(id, {{prompt + tokens / 2, 0, "kv.budget", "1", "200", "user", "", 1}, {prompt + tokens / 2 + 3, 0, "kv.k_bits", "16", "8", "user", "", 2}});
    finish(id, {{"memory_peak", "B", "lower", 1, bits * 9e5 + 4e6}});
    generates.push_back(id);
    return id;
  }

  storage::Id addEvaluate(const std::string& name, int bits, double nllMean, int windows = 16) {
    storage::NewRun run = describe(storage::RunKind::evaluate, name, bits);
    run.protocol = "llama c=256";
    run.corpusName = "tinystories_val";
    run.corpusSha256 = std::string(64, 'b');
    run.corpusBytes = 1000;
    const storage::Id id = *file->beginRun(run);
    std::vector<storage::WindowSample> samples;
    for (int w = 0; w < windows; ++w) {
      const double mean = nllMean + 0.05 * std::sin(w);
      samples.push_back({w, w * 256, 128, mean * 128, (mean * mean + 1.5) * 128, 0.01 * 128, 120});
    }
    file->addWindows(id, samples);
    finish(id, {});
    evaluations.push_back(id);
    return id;
  }

  storage::Id addBench(const std::string& name, int bits, double ms) {
    storage::NewRun run = describe(storage::RunKind::bench, name, bits);
    run.protocol = "llama-bench random";
    const storage::Id id = *file->beginRun(run);
    std::vector<storage::BenchSample> samples;
    for (int r = 0; r < 12; ++r) {
      const double seconds = 128 * (ms + 0.05 * (r % 5)) / 1000;
      samples.push_back({"pp512", r, 512, 0, 0.4, 1280});
      samples.push_back({"tg128", r, 128, 0, seconds, 128 / seconds});
    }
    file->addBench(id, samples);
    finish(id, {{"memory_peak", "B", "lower", 1, bits * 9e5 + 4e6}});
    benches.push_back(id);
    return id;
  }

  storage::Id addAttribution(int sources = 7, int responseTokens = 12) {
    const storage::Id id = *file->beginRun(describe(storage::RunKind::attribute, "who has the ball", 16));
    storage::AttributionRecord a;
    a.method = "loo";
    a.unit = "sentence";
    a.question = "Who has the ball?";
    a.response = "Tim has the red ball.";
    a.noiseFloor = 0.06;
    a.complete = true;
    for (int t = 0; t < responseTokens; ++t) a.responseTokens.push_back(t);
    a.parameterTokens = 4e9;
    a.wallNs = 2'000'000'000;
    const char* texts[] = {"Once there was a boy named Tim who liked to play in the park with his friends.", "It was a sunny day.", "Tim had a red ball.",
                           "His sister Sue had a blue kite that flew very high.", "The dog ran after the ball.", "Then the ball rolled into the pond, and everybody was sad for a while.",
                           "At last Tim got the ball back."};
    const double scores[] = {0.41, 0.02, 4.87, -0.63, 0.58, 0.33, 2.95};
    for (int i = 0; i < sources; ++i) {
      storage::AttributionSource s;
      s.id = i;
      s.text = texts[i % 7];
      s.start = i * 40;
      s.end = i * 40 + 39;
      s.score = scores[i % 7] * (i < 7 ? 1 : 0.3);
      for (int t = 0; t < responseTokens; ++t) s.perToken.push_back(static_cast<float>(*s.score / responseTokens * (1 + std::sin(i * 3 + t))));
      a.sources.push_back(s);
    }
    file->setAttribution(id, a);
    finish(id, {});
    attribution = id;
    return id;
  }

  // The attribution again by a cheaper method that finds the best source and mistakes the rest.
  storage::Id addApproximation() {
    auto a = **file->attribution(attribution);
    storage::NewRun run = describe(storage::RunKind::attribute, "who has the ball, about", 16);
    run.protocol = "attribot sentence reuse replace proxy small.gguf";
    const storage::Id id = *file->beginRun(run);
    a.method = "attribot";
    a.tricks = "reuse,replace";
    a.proxy = "small.gguf";
    a.parameterTokens /= 20;
    a.wallNs /= 5;
    for (storage::AttributionSource& s : a.sources) s.score = s.id == 2 ? 3.0 : 0.1 * s.id;
    file->setAttribution(id, a);
    finish(id, {});
    return id;
  }

  void finish(storage::Id id, std::vector<storage::Metric> metrics) {
    if (!metrics.empty()) file->setMetrics(id, std::move(metrics));
    file->finishRun(id, storage::RunStatus::done);
    if (auto done = file->flush(); !done) throw std::runtime_error(done.error().message);
  }

  // Found wherever the depth is at least `from`, of three trials each; the defaults find all.
  storage::Id addRetrieval(const std::string& name, int bits, double from) {
    storage::NewRun run = describe(storage::RunKind::evaluate, name, bits);
    run.protocol = "retrieval needle lengths=128,256 depths=0,0.5,1 trials=3 seed=0, compressed before the question";
    const storage::Id id = *file->beginRun(run);
    std::vector<storage::RetrievalSample> samples;
    for (const int length : {128, 256})
      for (const double depth : {0.0, 0.5, 1.0})
        for (int trial = 0; trial < 3; ++trial) {
          const bool found = depth >= from && trial < 2;
          samples.push_back({static_cast<int>(samples.size()), length, depth, length + 20, 4, found, found ? 0.5 : 12.0, true, 0.4, found ? 0.01 : 9.0, found ? 4 : 1});
        }
    file->addRetrieval(id, samples);
    finish(id, {});
    return id;
  }
  storage::Id addDepths(const std::string& name, int bits, double kld) {
    storage::NewRun run = describe(storage::RunKind::evaluate, name, bits);
    run.protocol = "depths 128,1024 n=64 chunks=2 stepwise";
    const storage::Id id = *file->beginRun(run);
    DepthLine line, defaults;
    for (const int depth : {128, 1024}) {
      const double longer = depth > 128 ? 2 : 1;
      line.points.push_back({depth, 9, 8.5, 9.5, kld * longer, 0.9, 1.5, 1000});
      defaults.points.push_back({depth, 7, NAN, NAN, NAN, NAN, 2 * longer, 4000 * longer});
    }
    std::vector<storage::Metric> metrics = depthMetrics(line, false);
    std::ranges::move(depthMetrics(defaults, true), std::back_inserter(metrics));
    finish(id, std::move(metrics));
    return id;
  }
  void fill() {
    const int bits[] = {16, 8, 4, 3, 2};
    const double ms[] = {6.2, 3.9, 2.6, 2.9, 2.2}, nll[] = {1.62, 1.622, 1.66, 1.86, 2.9};
    for (int i = 0; i < 5; ++i) {
      const std::string name;  // unnamed: the knobs name the rows
      addEvaluate(name, bits[i], nll[i]);
      addBench(name, bits[i], ms[i]);
    }
    addGenerate("story, 16 bit", 16, 6.2);
    addGenerate("story, 4 bit", 4, 2.7);
    addAttribution();
    addRetrieval("streaming", 16, 0.5);
    addRetrieval("random", 4, 1);
    addDepths("window", 16, 0.5);
    file->setBaseline(evaluations.front());
    (void)file->flush();
  }
};

}  // namespace winnow::test
