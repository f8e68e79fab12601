// SPDX-License-Identifier: GPL-3.0-or-later
// Layers that share attention, fitted on a calibration text: one pass of the dense model says which heads are alike and what each follower's
// attention was; then the followers in the order of the network, each in a pass that ends with it and has the projections fitted before, so
// that what is fitted is what will run.
#include <algorithm>
#include <new>

#include "engine/core/device_failure.h"
#include "engine/run/core.h"
#include "engine/share/align.h"
#include "engine/share/refit.h"
#include "engine/weights/summed_tensor.h"

namespace winnow {
namespace {

constexpr int kMostUnseen = 256;  // tokens that check a fit

Error cancelled() { return {ErrorCode::cancelled, "Fitting layers that share attention was cancelled.", ""}; }

// What the output projections of some layers read, token after token, [tokens, cols].
class OutputInputs final : public LinearInputTap {
 public:
  OutputInputs(Ledger& ledger, int layers, const std::vector<int>& wanted, size_t tokens, int cols) : rows_(static_cast<size_t>(layers)), fed_(rows_.size(), 0), cols_(cols) {
    for (const int layer : wanted) rows_[static_cast<size_t>(layer)] = Buffer(ledger, MemoryTag::calibration, tokens * static_cast<size_t>(cols) * sizeof(float));
  }
  void take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) override {
    const auto at = static_cast<size_t>(layer);
    if (input != LinearInput::output || rows_[at].bytes() == 0) return;
    for (int t = 0; t < tokens; ++t) std::copy_n(x + t * stride, cols, rows_[at].as<float>() + (fed_[at] + t) * cols_);
    fed_[at] += tokens;
  }
  const float* rows(int layer) const { return rows_[static_cast<size_t>(layer)].as<float>(); }
  void release(int layer) { rows_[static_cast<size_t>(layer)] = Buffer(); }

 private:
  std::vector<Buffer> rows_;  // [layers]
  std::vector<int64_t> fed_;  // [layers] tokens
  int64_t cols_;
};

// A plan up to the output projection of a layer.
Plan upTo(const Plan& whole, int layer) {
  Plan plan = whole;
  const auto last = std::ranges::find_if(plan.ops, [&](const Op& op) { return op.kind == OpKind::linear && op.layer == layer && !op.down; });
  plan.ops.erase(last + 1, plan.ops.end());
  return plan;
}

class SharingFitter {
 public:
  SharingFitter(EngineCore& core, const SharingFitChoice& choice, const LayersLeft& left, const Progress& progress)
      : core_(core), model_(core.model->config()), choice_(choice), left_(left), progress_(progress), pool_(core.threads), fit_(std::make_shared<SharingFit>()) {
    fit_->key = SharingFit::keyOf(choice, left);
    fit_->sharing = sharingWithout(choice.sharing, left.parts);
    fit_->output.resize(fit_->sharing.size());
    for (int layer = 0; layer < model_.layers; ++layer) {
      if (fit_->sharing[static_cast<size_t>(layer)].attnSource == layer) continue;
      FollowerFit follower;
      follower.layer = layer;
      fit_->followers.push_back(follower);
      layers_.push_back(layer);
    }
  }

  Result<std::shared_ptr<const SharingFit>> run() {
    if (layers_.empty()) return std::shared_ptr<const SharingFit>(fit_);
    auto tokens = core_.calibrationTokens(choice_.calibration);
    if (!tokens) return tokens.error();
    ids_ = std::move(tokens->ids);
    window_ = tokens->window;
    target_ = weightTarget(*core_.model, Config(), "");
    target_.left = left_;
    auto dense = core_.store.build(target_, pool_, {}, {});
    if (!dense) return dense.error();
    dense_ = *dense;
    target_.sharing = choice_;
    OutputInputs own(core_.ledger, model_.layers, choice_.refit ? layers_ : std::vector<int>(), ids_.size(), model_.qRows());
    if (Status seen = look(own); !seen) return seen.error();
    for (size_t i = 0; i < layers_.size() && choice_.refit; ++i) {
      if (Status done = refit(i, own); !done) return done.error();
      own.release(layers_[i]);
    }
    return std::shared_ptr<const SharingFit>(fit_);
  }

 private:
  // The report of pass `index` of all.
  Progress part(size_t index) const {
    const double passes = 1.0 + (choice_.refit ? static_cast<double>(layers_.size()) : 0.0);
    return {[this, index, passes](double fraction, std::string_view) { progress_((static_cast<double>(index) + fraction) / passes, "fitting layers that share attention"); },
            progress_.stop};
  }

  Status look(OutputInputs& own) {
    HeadLikeness likeness(fit_->sharing, model_.heads, pool_);
    const Plan plan = buildPlan(model_, noSharing(model_.layers), dense_->parts);
    const PassTaps taps{choice_.refit ? &own : nullptr, choice_.align ? &likeness : nullptr};
    if (Status seen = core_.observe(*dense_, upTo(plan, layers_.back()), ids_, window_, pool_, taps, part(0)); !seen) return seen;
    for (FollowerFit& follower : fit_->followers) {
      if (!choice_.align) break;
      std::vector<int> heads = likeness.heads(follower.layer);
      for (int head = 0; head < model_.heads; ++head) {
        follower.likeness += likeness.at(follower.layer, head, head) / model_.heads;
        follower.aligned += likeness.at(follower.layer, head, heads[static_cast<size_t>(head)]) / model_.heads;
      }
      fit_->sharing[static_cast<size_t>(follower.layer)].heads = std::move(heads);
    }
    return Done{};
  }

  // The model's own projection, f32 [hidden, qRows].
  std::vector<float> projection(int layer) {
    const MasterTensor* tensor = core_.model->find(TensorRole::o, layer);
    std::vector<float> out(static_cast<size_t>(tensor->rows * tensor->cols));
    if (!left_.sums.empty() && !left_.sums[static_cast<size_t>(layer)].empty()) {
      const SummedTensor sum(*core_.model, *tensor, left_.sums[static_cast<size_t>(layer)], pool_);
      Model::decodeRows(sum.tensor(), 0, tensor->rows, out.data());
    } else {
      Model::decodeRows(*tensor, 0, tensor->rows, out.data());
    }
    return out;
  }

  Status refit(size_t index, OutputInputs& own) {
    FollowerFit& follower = fit_->followers[index];
    const int layer = follower.layer, cols = model_.qRows();
    const Measurements known{{}, {}, {}, {}, [this](const SharingFitChoice&, const LayersLeft&, const Progress&) { return Result<std::shared_ptr<const SharingFit>>(fit_); }};
    const auto set = core_.store.build(target_, pool_, known, {});
    if (!set) return set.error();
    OutputInputs shared(core_.ledger, model_.layers, {layer}, ids_.size(), cols);
    const Plan plan = upTo(buildPlan(model_, fit_->sharing, (*set)->parts), layer);
    if (Status seen = core_.observe(**set, plan, ids_, window_, pool_, {&shared, nullptr}, part(index + 1)); !seen) return seen;
    const auto tokens = static_cast<int64_t>(ids_.size()), fitted = tokens - tokens / 5;
    const SecondMoments joint = moments(own.rows(layer), shared.rows(layer), fitted);
    const std::vector<float> weights = projection(layer);
    Buffer& out = fit_->output[static_cast<size_t>(layer)];
    out = Buffer(core_.ledger, MemoryTag::calibration, weights.size() * sizeof(float));
    const Refit made = refitOutput(joint, weights.data(), model_.hidden, choice_.damping, pool_, progress_, out.as<float>());
    if (made == Refit::cancelled) return cancelled();
    follower.before = follower.after = outputDifference(joint, weights.data(), weights.data(), model_.hidden, pool_);
    if (made == Refit::notPositive) return Done{};
    follower.after = outputDifference(joint, weights.data(), out.as<float>(), model_.hidden, pool_);
    const int unseen = static_cast<int>(std::min<int64_t>(tokens - fitted, kMostUnseen));
    const auto difference = [&](const float* to) {
      return outputDifference(own.rows(layer) + fitted * cols, weights.data(), shared.rows(layer) + fitted * cols, to, unseen, model_.hidden, cols, pool_);
    };
    follower.unseenBefore = difference(weights.data());
    follower.unseenAfter = difference(out.as<float>());
    follower.refitted = follower.unseenAfter < follower.unseenBefore;
    if (!follower.refitted) out = Buffer();
    return Done{};
  }

  // Of rows (own, shared) side by side.
  SecondMoments moments(const float* own, const float* shared, int64_t tokens) {
    const auto cols = static_cast<int64_t>(model_.qRows());
    SecondMoments joint(core_.ledger, static_cast<int>(2 * cols));
    std::vector<float> rows;
    for (int64_t first = 0; first < tokens; first += window_) {
      const int64_t count = std::min<int64_t>(window_, tokens - first);
      rows.resize(static_cast<size_t>(count * 2 * cols));
      for (int64_t t = 0; t < count; ++t) {
        std::copy_n(own + (first + t) * cols, cols, rows.data() + 2 * t * cols);
        std::copy_n(shared + (first + t) * cols, cols, rows.data() + (2 * t + 1) * cols);
      }
      joint.add(rows.data(), 2 * cols, static_cast<int>(count), pool_);
    }
    return joint;
  }

  EngineCore& core_;
  const ModelConfig& model_;
  const SharingFitChoice& choice_;
  const LayersLeft& left_;
  const Progress& progress_;
  ThreadPool pool_;
  std::shared_ptr<SharingFit> fit_;
  std::vector<int> layers_;  // followers
  std::vector<int32_t> ids_;
  int window_ = 0;
  WeightTarget target_;
  std::shared_ptr<const WeightSet> dense_;
};

}  // namespace

Result<std::shared_ptr<const SharingFit>> EngineCore::fitSharing(const SharingFitChoice& choice, const LayersLeft& left, const Progress& progress) {
  const std::scoped_lock lock(sharingMutex);
  const std::string key = SharingFit::keyOf(choice, left);
  if (sharingFit && sharingFitted == key) return sharingFit;
  try {
    auto fit = SharingFitter(*this, choice, left, progress).run();
    if (!fit) return fit;
    sharingFitted = key;
    sharingFit = *fit;
    return fit;
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::resources, "Not enough memory to fit layers that share attention.", "Choose fewer calibration.tokens, or share.refit=false."};
  } catch (const DeviceFailure& failure) {
    return Error{ErrorCode::failed, failure.what(), "Use --device cpu."};
  }
}

}  // namespace winnow
