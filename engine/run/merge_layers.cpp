// SPDX-License-Identifier: GPL-3.0-or-later
// How alike the last hidden states of a model with merged layers and of the whole one are: LaCo's question (engine/prune/laco.h).
#include <algorithm>
#include <cmath>
#include <new>

#include "engine/core/device_failure.h"
#include "engine/prune/laco.h"
#include "engine/run/core.h"

namespace winnow {
namespace {

constexpr int kWindow = 128, kWindows = 4;  // tokens, texts: the paper takes a few sentences

// What the head reads, [tokens, hidden] of each window.
class LastStates final : public LinearInputTap {
 public:
  explicit LastStates(const Model& model) : model_(model.config()), gain_(decoded(model, TensorRole::outputNorm)), shift_(decoded(model, TensorRole::outputNormBias)) {}
  void take(int, LinearInput, const float*, int64_t, int, int) override {}
  void takeStream(int point, const float* x, int cols, int tokens) override {
    if (point != 2 * model_.layers) return;
    std::vector<float> window(x, x + int64_t{tokens} * cols);
    for (int t = 0; t < tokens; ++t) normalize(window.data() + int64_t{t} * cols, cols);
    windows.push_back(std::move(window));
  }
  std::vector<std::vector<float>> windows;

 private:
  static std::vector<float> decoded(const Model& model, TensorRole role) {
    const MasterTensor* tensor = model.find(role);
    std::vector<float> out(tensor ? static_cast<size_t>(tensor->cols) : 0);
    if (tensor) Model::decodeRows(*tensor, 0, 1, out.data());
    return out;
  }
  void normalize(float* x, int cols) const {
    double mean = 0, square = 0;
    for (int c = 0; c < cols && model_.norm == NormKind::layer; ++c) mean += double{x[c]} / cols;
    for (int c = 0; c < cols; ++c) square += (double{x[c]} - mean) * (double{x[c]} - mean) / cols;
    const double factor = 1 / std::sqrt(square + double{model_.normEps});
    for (int c = 0; c < cols; ++c) {
      const auto at = static_cast<size_t>(c);
      x[c] = static_cast<float>((double{x[c]} - mean) * factor) * gain_[at] + (shift_.empty() ? 0.0f : shift_[at]);
    }
  }
  const ModelConfig& model_;
  const std::vector<float> gain_, shift_;  // [hidden]; empty where there is none
};

double cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double product = 0, first = 0, second = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    product += double{a[i]} * double{b[i]};
    first += double{a[i]} * double{a[i]};
    second += double{b[i]} * double{b[i]};
  }
  return first > 0 && second > 0 ? product / std::sqrt(first * second) : 0;
}

}  // namespace

Result<LayersLeft> EngineCore::merged(const LayerDrop& drop, const CalibrationChoice& choice, const Progress& progress) {
  const std::scoped_lock lock(mergeMutex);
  const std::string key = layerDropKey(drop) + " [" + choice.identity() + "]";
  if (const auto known = merges.find(key); known != merges.end()) return known->second;
  auto tokens = calibrationTokens(choice);
  if (!tokens) return tokens.error();
  const int window = std::min(kWindow, tokens->window);
  std::vector<int32_t>& ids = tokens->ids;
  ids.resize(std::min(ids.size(), static_cast<size_t>(kWindows * window)));
  try {
    ThreadPool pool(threads);
    WeightTarget target = weightTarget(*model, Config(), "");
    const auto dense = store.build(target, pool, {}, progress);  // held: what does not change is made once
    if (!dense) return dense.error();
    LastStates whole(*model);
    if (Status seen = observe(target, {}, ids, window, pool, whole, progress); !seen) return seen.error();
    auto found = mergeLayers(drop, model->config().layers, [&](const LayersLeft& left) -> Result<double> {
      target.left = left;
      LastStates states(*model);
      if (Status seen = observe(target, {}, ids, window, pool, states, progress); !seen) return seen.error();
      double sum = 0;
      for (size_t i = 0; i < states.windows.size(); ++i) sum += cosine(states.windows[i], whole.windows[i]);
      return sum / static_cast<double>(std::max<size_t>(states.windows.size(), 1));
    });
    if (found) merges[key] = *found;
    return found;
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::resources, "Not enough memory to try merged layers.", "Choose prune.layers_method=shortgpt, or a smaller model."};
  } catch (const DeviceFailure& failure) {
    return Error{ErrorCode::failed, failure.what(), "Use --device cpu."};
  }
}

}  // namespace winnow
