// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/model_export.h"

#include <filesystem>

#include "engine/run/host_weights.h"

namespace winnow {

Result<ExportSummary> exportModel(const Engine& engine, const Config& config, const std::string& path, const Progress& progress) {
  ThreadPool pool(engine.threads());
  Progress first = progress, second = progress;
  first.report = [&progress](double fraction, std::string_view what) { progress(0.5 * fraction, what); };
  second.report = [&progress](double fraction, std::string_view what) { progress(0.5 + 0.5 * fraction, what); };
  // What is fitted to attention that layers share would be wrong where they do not.
  const auto weights = hostWeights(engine, config.with("share.align", false).with("share.refit", false), pool, first);
  if (!weights) return weights.error();
  Config kept;
  std::string left;
  for (const auto& [knob, value] : engine.resolved(config).config.changed()) {
    if (isWeightKnob(knob)) kept = kept.with(knob, value);
    else left += (left.empty() ? "" : ", ") + knob;
  }
  auto summary = (std::filesystem::path(path).extension() == ".gguf" ? exportGguf : exportSafetensors)(*weights->set, weights->target, kept.canonical(), path, pool, second);
  if (!summary) return summary.error();
  if (!left.empty()) summary->notes.push_back(left + ": a setting of the run, which a model file does not carry.");
  for (const Adjustment& each : weights->effective.adjustments) summary->notes.push_back(each.knob + ": " + each.reason);
  return summary;
}

}  // namespace winnow
