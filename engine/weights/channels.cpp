// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/channels.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "engine/core/check.h"
#include "engine/knobs/knobs.h"
#include "engine/weights/summed_tensor.h"

namespace winnow {
namespace {

const std::vector<LayerShare>& sumOf(const LayersLeft& left, int layer) {
  static const std::vector<LayerShare> none;
  return left.sums.empty() ? none : left.sums[static_cast<size_t>(layer)];
}

Result<std::vector<double>> scoresOf(const Model& model, const WidthMethod& method, const WidthChoice& choice, int layer, const std::vector<LayerShare>& sum,
                                     const Calibration* statistics, InputPreparer& preparer, ThreadPool& pool) {
  WidthInput input;
  input.layer = layer;
  input.hidden = model.config().hidden;
  input.ffn = model.config().ffn;
  input.pool = &pool;
  auto prepared = preparer.prepare(layer, LinearInput::down, method.needs, {choice.damping, false});
  if (!prepared) return prepared.error();
  input.statistics = *prepared;
  const std::vector<float> magnitudes = method.needs.any() ? statistics->windowMagnitudes(layer, LinearInput::down) : std::vector<float>();
  input.windowMagnitudes = magnitudes;
  std::optional<SummedTensor> sums[3];
  const auto decode = [&](TensorRole role, std::optional<SummedTensor>& made) -> WidthInput::Decode {
    const MasterTensor* tensor = model.find(role, layer);
    if (!tensor) return {};
    if (!sum.empty()) tensor = &made.emplace(model, *tensor, sum, pool).tensor();
    return [tensor](int row, int count, float* out) { Model::decodeRows(*tensor, row, count, out); };
  };
  input.gate = decode(TensorRole::gate, sums[0]);
  input.up = decode(TensorRole::up, sums[1]);
  input.down = decode(TensorRole::down, sums[2]);
  return method.score(input);
}

}  // namespace

std::vector<double> ChannelScores::known(const std::string& of, const std::string& layer) {
  const std::scoped_lock lock(mutex_);
  const auto found = scores_.find(layer);
  return of == of_ && found != scores_.end() ? found->second : std::vector<double>();
}

void ChannelScores::learn(const std::string& of, const std::string& layer, const std::vector<double>& scores) {
  const std::scoped_lock lock(mutex_);
  if (of != of_) scores_.clear();
  of_ = of;
  scores_[layer] = scores;
  ++measured_;
}

int ChannelScores::measured() const {
  const std::scoped_lock lock(mutex_);
  return measured_;
}

Result<std::vector<Channels>> ChannelScores::keep(const Model& model, const WidthChoice& choice, const LayersLeft& left, const Calibration* statistics,
                                                  const std::string& identity, InputPreparer& preparer, ThreadPool& pool, const Progress& progress) {
  const WidthMethod* method = findWidthMethod(choice.method);
  CHECK(method && (statistics || (!method->needs.any() && !method->shares)), choice.method);
  const int layers = model.config().layers, ffn = model.config().ffn;
  std::vector<LayerInfluence> influences;
  for (int layer = 0; method->shares && layer < layers; ++layer) influences.push_back(statistics->stream().influence(layer));
  const std::vector<int> widths = widthsLeft(choice, ffn, left.parts, influences);
  const std::string of = choice.method + (method->needs.gram() ? " " + toText(KnobValue{choice.damping}) : "") + " [" + identity + "]";
  std::vector<Channels> out(static_cast<size_t>(layers));
  for (int layer = 0; layer < layers; ++layer) {
    const int width = widths[static_cast<size_t>(layer)];
    if (width == 0 || width == ffn) continue;
    std::string key = std::to_string(layer);
    for (const LayerShare& share : sumOf(left, layer)) key += " + " + toText(KnobValue{double{share.weight}}) + " of " + std::to_string(share.layer);
    std::vector<double> scores = known(of, key);
    if (scores.empty()) {
      if (progress.stopped()) return Error{ErrorCode::cancelled, "Preparing the weights was cancelled.", ""};
      progress(static_cast<double>(layer) / layers, "judging the channels");
      auto made = scoresOf(model, *method, choice, layer, sumOf(left, layer), statistics, preparer, pool);
      if (!made) return made.error();
      scores = std::move(*made);
      learn(of, key, scores);
    }
    out[static_cast<size_t>(layer)] = bestChannels(scores, width);
  }
  return out;
}

std::vector<Channels> ChannelScores::planned(const Model& model, const WidthChoice& choice, const LayersLeft& left) {
  std::vector<Channels> out;
  for (const int width : widthsLeft(choice, model.config().ffn, left.parts, {})) {
    std::vector<int> list(static_cast<size_t>(width));
    std::iota(list.begin(), list.end(), 0);
    out.push_back(width == 0 || width == model.config().ffn ? nullptr : keptChannels(std::move(list)));
  }
  return out;
}

}  // namespace winnow
