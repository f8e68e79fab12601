// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/method_input.h"

#include <cmath>
#include <deque>

#include "engine/core/check.h"
#include "engine/quantize/method.h"
#include "engine/weights/narrowed_tensor.h"

namespace winnow {

Result<MethodInput> InputPreparer::prepare(int layer, LinearInput input, const InputNeeds& needs, const FactorOptions& options,
                                           std::span<const float> scales) {
  MethodInput out;
  if (!needs.any()) return out;
  CHECK(calibration_, layer, static_cast<int>(input));
  if (layer != layer_ || input != input_ || scales.data() != scaledBy_.data()) {
    layer_ = layer;
    input_ = input;
    scaledBy_ = scales;
    norms_ = gathered(layer, input, calibration_->columnNorms(layer, input));
    for (size_t c = 0; c < scales.size(); ++c) norms_[c] /= scales[c];
    squares_.resize(norms_.size());
    for (size_t c = 0; c < norms_.size(); ++c) squares_[c] = norms_[c] * norms_[c] / static_cast<float>(calibration_->tokens());
    means_ = means(layer, input);
    for (size_t c = 0; c < scales.size(); ++c) means_[c] /= static_cast<double>(scales[c]);
    factors_.clear();
  }
  out.tokens = calibration_->tokens();
  if (needs.norms) {
    out.columnNorms = norms_;
    out.meanSquares = squares_;
  }
  if (needs.means) out.means = means_;
  CHECK(!needs.gram() || scales.empty(), layer, static_cast<int>(input));  // the moments are those of the inputs as they come
  if (needs.gram()) out.moments = &moments(layer, input, needs.centred);
  if (!needs.factor) return out;
  for (const Factor& known : factors_)
    if (known.options == options && known.centred == needs.centred) out.factor = known.factor.get();
  if (out.factor) return out;
  auto made = std::make_unique<InverseFactor>();
  switch (made->make(calibration_->ledger(), *out.moments, options, pool_, progress_)) {
    case InverseFactor::Outcome::done: break;
    case InverseFactor::Outcome::cancelled: return Error{ErrorCode::cancelled, "Preparing the weights was cancelled.", ""};
    case InverseFactor::Outcome::notPositive:
      return Error{ErrorCode::failed, model_.path() + ": the inputs of layer " + std::to_string(layer) + " (" + std::string(linearInputName(input)) +
                                          ") over the calibration text can't be factored, even damped.",
                   "Choose a longer calibration text."};
  }
  factors_.push_back({options, needs.centred, std::move(made)});
  out.factor = factors_.back().factor.get();
  return out;
}

Result<std::span<const float>> InputPreparer::scales(int layer, LinearInput input, const ScalingChoice& choice) {
  CHECK(calibration_, layer, choice.method);
  const auto known = scales_.find({layer, input});
  if (known != scales_.end()) return std::span<const float>(known->second);
  const std::vector<float> norms = gathered(layer, input, calibration_->columnNorms(layer, input)), magnitudes = gathered(layer, input, calibration_->meanMagnitudes(layer, input));
  std::vector<float> squares(norms.size());
  for (size_t c = 0; c < norms.size(); ++c) squares[c] = norms[c] * norms[c] / static_cast<float>(calibration_->tokens());
  const std::vector<float> largest = gathered(layer, input, calibration_->largestMagnitudes(layer, input));
  ScaleSearch search{{}, magnitudes, squares, largest, choice.format, choice.strength};
  std::deque<NarrowedTensor> narrowed;
  std::deque<SlicedTensor> turned;
  for (const MasterTensor& master : model_.tensors()) {
    if (master.layer != layer || !isMatrix(master.role) || linearInputOf(master.role) != input) continue;
    const auto at = static_cast<size_t>(layer);
    const Channels kept = at < kept_.size() ? winnow::keptOf(kept_[at], master.role) : nullptr;
    const MasterTensor& wide = kept ? narrowed.emplace_back(master, kept->list, pool_).tensor() : master;
    const MasterTensor& tensor = bases_ ? turned.emplace_back(model_, wide, *bases_, pool_).tensor() : wide;
    search.matrices.push_back({static_cast<int>(tensor.rows), [&tensor](int row, int count, float* out) { Model::decodeRows(tensor, row, count, out); }});
  }
  const QuantizeMethod* method = findQuantizeMethod(choice.method);
  CHECK(method && method->searchScales, choice.method);
  std::vector<float> found = method->searchScales(search, pool_, progress_);
  if (progress_.stopped()) return Error{ErrorCode::cancelled, "Preparing the weights was cancelled.", ""};
  return std::span<const float>(scales_.emplace(std::pair{layer, input}, std::move(found)).first->second);
}

template <class Make>
const SecondMoments& InputPreparer::kept(MomentsOfInput& kept, int layer, LinearInput input, Make&& make) {
  if (kept.layer != layer || kept.input != input) {
    kept = {};  // before the next ones take their memory
    kept = {layer, input, make()};
  }
  return kept.moments;
}

const SecondMoments& InputPreparer::wholeMoments(int layer, LinearInput input, bool centred) {
  CHECK(calibration_, layer, static_cast<int>(input));
  const SecondMoments& measured = calibration_->moments(layer, input);
  if (!centred) return measured;
  return kept(centred_, layer, input, [&] { return measured.centred(calibration_->ledger(), wholeMeans(layer, input)); });
}

const SecondMoments& InputPreparer::moments(int layer, LinearInput input, bool centred) {
  const std::vector<int>* left = keptOf(layer, input);
  if (!left) return wholeMoments(layer, input, centred);
  return kept(centred ? narrowedCentred_ : narrowed_, layer, input, [&] { return wholeMoments(layer, input, centred).of(calibration_->ledger(), *left); });
}

std::vector<double> InputPreparer::means(int layer, LinearInput input) const { return gathered(layer, input, wholeMeans(layer, input)); }
std::vector<double> InputPreparer::wholeMeans(int layer, LinearInput input) const {
  CHECK(calibration_, layer, static_cast<int>(input));
  return calibration_->means(layer, input);
}

void InputPreparer::narrow(std::vector<KeptOfLayer> kept) {
  kept_ = std::move(kept);
  layer_ = -1;
  narrowed_ = {};
  narrowedCentred_ = {};
  factors_.clear();
  scales_.clear();
}

const std::vector<int>* InputPreparer::keptOf(int layer, LinearInput input) const {
  const auto at = static_cast<size_t>(layer);
  if (at >= kept_.size() || (input != LinearInput::down && input != LinearInput::output)) return nullptr;
  const Channels& kept = input == LinearInput::down ? kept_[at].ffn : kept_[at].attention.outputs;
  return kept ? &kept->list : nullptr;
}

template <class T>
std::vector<T> InputPreparer::gathered(int layer, LinearInput input, std::vector<T> values) const {
  const std::vector<int>* kept = keptOf(layer, input);
  if (!kept) return values;
  for (size_t i = 0; i < kept->size(); ++i) values[i] = values[static_cast<size_t>((*kept)[i])];  // ascending: none is overwritten before it is read
  values.resize(kept->size());
  return values;
}

}  // namespace winnow
