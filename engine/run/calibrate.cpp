// SPDX-License-Identifier: GPL-3.0-or-later
// Passes over a calibration text, by windows from an empty cache: of the dense model, and of a pruned one.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <new>

#include "engine/cache/kv_cache.h"
#include "engine/core/device_failure.h"
#include "engine/run/core.h"

namespace winnow {
namespace {

constexpr int kWindow = 512, kShortestWindow = 32;
constexpr size_t kMostTextBytes = size_t{16} << 20, kExplained = 4096;  // the last in tokens

Result<std::string> readText(const std::string& path) {
  if (path.empty())
    return Error{ErrorCode::badInput, "This method measures a calibration text, and none was chosen.", "Set calibration.text to a text file."};
  std::ifstream in(path, std::ios::binary);
  std::string text(kMostTextBytes, '\0');
  if (in) in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in && in.gcount() == 0) return Error{ErrorCode::badInput, "The calibration text " + path + " is missing, empty or can't be read.", "Set calibration.text to a text file."};
  text.resize(static_cast<size_t>(in.gcount()));
  return text;
}

Error notEnoughMemory() {
  return {ErrorCode::resources, "Not enough memory to measure the calibration text.", "Choose a method that needs less of it (rtn, wanda), or a smaller model."};
}

}  // namespace

Result<CalibrationTokens> EngineCore::calibrationTokens(const CalibrationChoice& choice) const {
  const auto text = readText(choice.path);
  if (!text) return text.error();
  if (!tokenizer) return Error{ErrorCode::badInput, "A calibration text needs a tokenizer, and " + model->path() + " has no vocabulary.", ""};
  CalibrationTokens out{tokenizer->encode(*text, true), 0};
  if (static_cast<int>(out.ids.size()) > choice.tokens) out.ids.resize(static_cast<size_t>(choice.tokens));
  const int context = model->config().context;
  out.window = std::min(kWindow, context > 0 ? context : kWindow);
  if (static_cast<int>(out.ids.size()) < std::min(kShortestWindow, out.window))
    return Error{ErrorCode::badInput, "The calibration text " + choice.path + " has " + std::to_string(out.ids.size()) + " tokens; at least " +
                                          std::to_string(kShortestWindow) + " are needed.", "Choose a longer text."};
  return out;
}

Result<std::shared_ptr<const Calibration>> EngineCore::calibrate(const CalibrationChoice& choice, const Progress& progress) {
  std::scoped_lock lock(calibrationMutex);
  const std::string identity = choice.identity();
  if (const auto known = calibrations.find(identity); known != calibrations.end() && (known->second->hasMoments() || !choice.moments)) return known->second;
  const auto tokens = calibrationTokens(choice);
  if (!tokens) return tokens.error();
  try {
    // Second moments are large: those of one text are kept.
    if (choice.moments) std::erase_if(calibrations, [](const auto& known) { return known.second->hasMoments(); });
    auto statistics = measured(tokens->ids, tokens->window, choice, progress);
    if (statistics) calibrations[identity] = *statistics;
    return statistics;
  } catch (const std::bad_alloc&) {
    return notEnoughMemory();
  } catch (const DeviceFailure& failure) {
    return Error{ErrorCode::failed, failure.what(), "Use --device cpu."};
  }
}

Result<std::shared_ptr<const BlockGradients>> EngineCore::gradients(const WeightTarget& target, const CalibrationChoice& choice, LayerRange layers,
                                                                    const Progress& progress) {
  const auto tokens = calibrationTokens(choice);
  if (!tokens) return tokens.error();
  try {
    ThreadPool pool(threads);
    auto found = std::make_shared<BlockGradients>(*model, layers, ledger, pool, progress);
    if (Status seen = observe(target, measurements(), tokens->ids, tokens->window, pool, *found, progress); !seen) return seen.error();
    if (progress.stopped()) return Error{ErrorCode::cancelled, "Measuring the calibration text was cancelled.", ""};
    found->finish();
    if (Status sound = found->sound(); !sound) return sound.error();
    return std::shared_ptr<const BlockGradients>(std::move(found));
  } catch (const std::bad_alloc&) {
    return notEnoughMemory();
  } catch (const DeviceFailure& failure) {
    return Error{ErrorCode::failed, failure.what(), "Use --device cpu."};
  }
}

// A pass back through every block is slower than a pass of the model: it sees the first windows of the text.
Result<std::shared_ptr<const HeadRelevance>> EngineCore::relevance(const CalibrationChoice& choice, const Progress& progress) {
  std::scoped_lock lock(relevanceMutex);
  if (headRelevance && relevanceOf == choice.identity()) return headRelevance;
  auto tokens = calibrationTokens(choice);
  if (!tokens) return tokens.error();
  if (tokens->ids.size() > kExplained) tokens->ids.resize(kExplained);
  try {
    ThreadPool pool(threads);
    auto found = std::make_shared<HeadRelevance>(*model, tokens->ids, tokens->window, pool, progress);
    if (Status seen = observe(targetOf(Config()), {}, tokens->ids, tokens->window, pool, *found, progress); !seen) return seen.error();
    if (progress.stopped()) return Error{ErrorCode::cancelled, "Measuring the calibration text was cancelled.", ""};
    found->finish();
    if (!found->sound()) return Error{ErrorCode::badInput, "On the calibration text the relevance of some head is NaN or infinite.", "Choose another calibration text, or prune.heads_method=minitron."};
    headRelevance = std::move(found);
    relevanceOf = choice.identity();
    return headRelevance;
  } catch (const std::bad_alloc&) {
    return notEnoughMemory();
  } catch (const DeviceFailure& failure) {
    return Error{ErrorCode::failed, failure.what(), "Use --device cpu."};
  }
}

Result<Bases> EngineCore::streamBases(const SliceChoice& choice, const Progress& progress) {
  std::scoped_lock lock(streamMutex);
  if (stream && stream->key() == choice.key()) return stream;
  const auto tokens = calibrationTokens(choice.calibration);
  if (!tokens) return tokens.error();
  try {
    ThreadPool pool(threads);
    stream.reset();
    auto found = measureStream(*model, slicedWidth(model->config().hidden, choice.removed), choice.key(), tokens->ids, tokens->window, ledger, pool, progress);
    if (found) stream = *found;
    return found;
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::resources, "Not enough memory to measure the residual stream.", "Choose fewer calibration.tokens, or a smaller model."};
  }
}

Result<std::shared_ptr<const Calibration>> EngineCore::measured(std::span<const int32_t> ids, int window, const CalibrationChoice& choice, const Progress& progress) {
  ThreadPool pool(threads);
  auto statistics = std::make_shared<Calibration>(slicedShape(model->config(), choice.sliced), ledger, choice.moments ? &pool : nullptr);
  Config config;
  if (choice.sliced > 0) config = config.with("prune.slice", choice.sliced).with("calibration.text", choice.path).with("calibration.tokens", int64_t{choice.tokens});
  if (Status seen = observe(targetOf(config), measurements(), ids, window, pool, *statistics, progress); !seen) return seen.error();
  statistics->finish();
  if (Status sound = statistics->sound(); !sound) return sound.error();
  return std::shared_ptr<const Calibration>(std::move(statistics));
}

Status EngineCore::observe(const WeightTarget& target, const Measurements& sources, std::span<const int32_t> ids, int window, ThreadPool& pool,
                           LinearInputTap& tap, const Progress& progress) {
  auto weights = store.build(target, pool, sources, {});
  if (!weights) return weights.error();
  const Plan plan = buildPlan(model->config(), noSharing(model->config().layers), (*weights)->parts, (*weights)->sliceWidth > 0);
  return observe(**weights, plan, ids, window, pool, {&tap, nullptr}, progress);
}

Status EngineCore::observe(const WeightSet& weights, const Plan& plan, std::span<const int32_t> ids, int window, ThreadPool& pool, const PassTaps& taps,
                           const Progress& progress) {
  const auto backend = device->makeBackend(ledger, pool, {window, window, SessionOptions().probabilityBytes, weights.narrowShape});
  const auto cache = backend->makeCache(window);
  for (size_t at = 0; at < ids.size(); at += static_cast<size_t>(window)) {
    if (progress.stopped()) return Error{ErrorCode::cancelled, "Measuring the calibration text was cancelled.", ""};
    const size_t count = std::min(static_cast<size_t>(window), ids.size() - at);
    cache->clear();
    for (int layer = 0; layer < model->config().layers; ++layer)
      if (plan.follower(layer)) cache->dropKeys(layer);
    cache->reserve(static_cast<int>(count));
    const SequenceRows rows{cache.get(), 0, static_cast<int>(count)};
    backend->run({plan, weights, {&rows, 1}, ids.subspan(at, count), Activations::automatic, false, nullptr, 0, 0, taps.inputs, nullptr, taps.attention});
    progress(static_cast<double>(at + count) / static_cast<double>(ids.size()), "measuring the calibration text");
  }
  return Done{};
}

}  // namespace winnow
