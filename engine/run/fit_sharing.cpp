// SPDX-License-Identifier: GPL-3.0-or-later
// Layers that share, fitted on a calibration text: one pass of the dense model says which heads are alike and what each follower's attention, keys and
// values were; then the followers in the order of the network, each in a pass that ends with it and has the projections fitted before, so
// that what is fitted is what will run. One that borrows keys and values has a second pass, with the queries that map the keys.
#include <algorithm>
#include <new>

#include "engine/core/device_failure.h"
#include "engine/run/core.h"
#include "engine/share/align.h"
#include "engine/share/borrow.h"
#include "engine/share/dot.h"
#include "engine/share/refit.h"
#include "engine/weights/summed_tensor.h"

namespace winnow {
namespace {

constexpr int kMostUnseen = 256;  // tokens that check a fit

Error cancelled() { return {ErrorCode::cancelled, "Fitting layers that share attention was cancelled.", ""}; }

// A projection with its bias, as f32.
struct Projection {
  Buffer weights;  // [rows, cols]
  Buffer bias;     // [rows]; empty: none
  int64_t rows = 0, cols = 0;

  void apply(const float* x /* [tokens, stride] */, int64_t stride, int64_t tokens, float* out /* [tokens, rows] */, ThreadPool& pool) const {
    pool.run([&](int thread, int threads) {
      const auto range = ThreadPool::split(rows, 1, thread, threads);
      for (int64_t row = range.begin; row < range.end; ++row)
        for (int64_t t = 0; t < tokens; ++t)
          out[t * rows + row] = static_cast<float>(dot(weights.as<float>() + row * cols, x + t * stride, cols)) + (bias.bytes() > 0 ? bias.as<float>()[row] : 0.0f);
    });
  }
};

// Of some layers: what their output projections read, and their keys before rotation and values, made of what those are projected from.
class AttentionInputs final : public LinearInputTap {
 public:
  AttentionInputs(Ledger& ledger, int layers, size_t tokens, ThreadPool& pool) : ledger_(ledger), tokens_(tokens), pool_(pool), layers_(static_cast<size_t>(layers)) {}
  void keepOutputs(int layer, int64_t cols) { of(layer).outputs = rows(cols); }
  void keepKeys(int layer, Projection keys) {
    of(layer).keys = rows(keys.rows);
    of(layer).toKeys = std::move(keys);
  }
  void keepValues(int layer, Projection values) {
    of(layer).values = rows(values.rows);
    of(layer).toValues = std::move(values);
  }
  void take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) override {
    Rows& at = of(layer);
    if (input == LinearInput::output && at.outputs.bytes() > 0) {
      for (int t = 0; t < tokens; ++t) std::copy_n(x + t * stride, cols, at.outputs.as<float>() + (at.outputsFed + t) * cols);
      at.outputsFed += tokens;
    } else if (input == LinearInput::attention) {
      if (at.keys.bytes() > 0) at.toKeys.apply(x, stride, tokens, at.keys.as<float>() + at.fed * at.toKeys.rows, pool_);
      if (at.values.bytes() > 0) at.toValues.apply(x, stride, tokens, at.values.as<float>() + at.fed * at.toValues.rows, pool_);
      at.fed += tokens;
    }
  }
  float* outputs(int layer) { return of(layer).outputs.as<float>(); }
  const float* keys(int layer) { return of(layer).keys.as<float>(); }
  const float* values(int layer) { return of(layer).values.as<float>(); }
  void release(int layer) { of(layer) = Rows(); }

 private:
  struct Rows {
    Buffer outputs, keys, values;  // [tokens, rows of the projection]
    Projection toKeys, toValues;
    int64_t outputsFed = 0, fed = 0;  // tokens
  };
  Rows& of(int layer) { return layers_[static_cast<size_t>(layer)]; }
  Buffer rows(int64_t cols) { return Buffer(ledger_, MemoryTag::calibration, tokens_ * static_cast<size_t>(cols) * sizeof(float)); }
  Ledger& ledger_;
  size_t tokens_;
  ThreadPool& pool_;
  std::vector<Rows> layers_;  // [layers]
};

// An output projection that was fitted, and the differences it leaves (FollowerFit).
struct OutputTrial {
  Buffer weights;
  double before = 0, after = 0, unseenBefore = 0, unseenAfter = 0;
  bool better() const { return weights.bytes() > 0 && unseenAfter < unseenBefore && after <= before; }
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
    for (auto* matrices : {&fit_->output, &fit_->queries, &fit_->queryBiases}) matrices->resize(fit_->sharing.size());
    for (int layer = 0; layer < model_.layers; ++layer) {
      if (fit_->sharing[static_cast<size_t>(layer)].attnSource == layer && ownerOf(layer) == layer) continue;
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
    AttentionInputs own(core_.ledger, model_.layers, ids_.size(), pool_);
    for (const int layer : choice_.refit ? layers_ : std::vector<int>()) keep(own, layer, layer);
    if (Status seen = look(own); !seen) return seen.error();
    for (size_t i = 0; i < layers_.size() && choice_.refit; ++i) {
      if (Status done = ownerOf(layers_[i]) == layers_[i] ? refit(i, own) : refitBorrower(i, own); !done) return done.error();
      own.release(layers_[i]);
    }
    return std::shared_ptr<const SharingFit>(fit_);
  }

 private:
  int ownerOf(int layer) const { return fit_->sharing[static_cast<size_t>(layer)].source; }

  // The report of one of the passes of follower `index`, or of the one before all.
  Progress part(size_t index, double pass = 0) const {
    const double all = 1.0 + (choice_.refit ? static_cast<double>(layers_.size()) : 0.0);
    const bool two = index > 0 && ownerOf(layers_[index - 1]) != layers_[index - 1];
    return {[this, index, pass, all, two](double fraction, std::string_view) {
              progress_((static_cast<double>(index) + (two ? (pass + fraction) / 2 : fraction)) / all, "fitting layers that share attention");
            },
            progress_.stop};
  }

  // What a fit of `layer` compares, of it and of the layer `source` whose keys and values it reads or, in the dense model, has of its own.
  void keep(AttentionInputs& into, int layer, int source) {
    into.keepOutputs(layer, model_.qRows());
    if (ownerOf(layer) == layer) return;
    if (mapsKeys(model_)) into.keepKeys(source, projection(TensorRole::k, source));
    into.keepValues(source, projection(TensorRole::v, source));
  }

  Status look(AttentionInputs& own) {
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

  // The model's own.
  Projection projection(TensorRole role, int layer) {
    const MasterTensor* weights = core_.model->find(role, layer);
    Projection out{decoded(weights), {}, weights->rows, weights->cols};
    if (role != TensorRole::o) out.bias = decoded(core_.model->find(role == TensorRole::q ? TensorRole::qBias : role == TensorRole::k ? TensorRole::kBias : TensorRole::vBias, layer));
    return out;
  }
  Buffer decoded(const MasterTensor* tensor) {
    if (!tensor) return {};
    Buffer out(core_.ledger, MemoryTag::calibration, static_cast<size_t>(tensor->rows * tensor->cols) * sizeof(float));
    const auto layer = static_cast<size_t>(tensor->layer);
    if (!left_.sums.empty() && !left_.sums[layer].empty()) {
      const SummedTensor sum(*core_.model, *tensor, left_.sums[layer], pool_);
      Model::decodeRows(sum.tensor(), 0, tensor->rows, out.as<float>());
    } else {
      Model::decodeRows(*tensor, 0, tensor->rows, out.as<float>());
    }
    return out;
  }

  // A pass that ends with the layer of follower `index` and has all that was fitted so far.
  Status pass(size_t index, double number, AttentionInputs& shared) {
    const Measurements known{{}, {}, {}, {}, [this](const SharingFitChoice&, const LayersLeft&, const Progress&) { return Result<std::shared_ptr<const SharingFit>>(fit_); }};
    const auto set = core_.store.build(target_, pool_, known, {});
    if (!set) return set.error();
    const Plan plan = upTo(buildPlan(model_, fit_->sharing, (*set)->parts), layers_[index]);
    return core_.observe(**set, plan, ids_, window_, pool_, {&shared, nullptr}, part(index + 1, number));
  }

  // z, s: what the layer's projection reads of its own attention, and of what it has instead. `maps`: of values, into the projection as well.
  Refit fitOutput(const float* z, float* s, const Buffer& weights, const HeadMaps* maps, OutputTrial& trial) {
    const int cols = model_.qRows();
    const float* w = weights.as<float>();  // [hidden, qRows]
    const int64_t tokens = static_cast<int64_t>(ids_.size()), fitted = tokens - tokens / 5;
    const int unseen = static_cast<int>(std::min<int64_t>(tokens - fitted, kMostUnseen));
    const auto ofUnseen = [&](const float* to) {
      return outputDifference(z + fitted * cols, w, s + fitted * cols, to, unseen, model_.hidden, cols, pool_);
    };
    SecondMoments joint = moments(z, s, fitted);
    trial.before = trial.after = outputDifference(joint, w, w, model_.hidden, pool_);
    trial.unseenBefore = trial.unseenAfter = ofUnseen(w);
    if (maps) {
      mapHeads(model_, *maps, s, tokens);
      joint = moments(z, s, fitted);
    }
    Buffer made(core_.ledger, MemoryTag::calibration, weights.bytes());
    const Refit how = refitOutput(joint, w, model_.hidden, choice_.damping, pool_, progress_, made.as<float>());
    if (how != Refit::done) return how;
    trial.after = outputDifference(joint, w, made.as<float>(), model_.hidden, pool_);
    trial.unseenAfter = ofUnseen(made.as<float>());
    trial.weights = std::move(made);
    if (!maps) return how;
    Buffer folded(core_.ledger, MemoryTag::calibration, weights.bytes());
    foldIntoOutput(model_, *maps, trial.weights.as<float>(), model_.hidden, folded.as<float>());
    trial.weights = std::move(folded);
    return how;
  }

  void take(FollowerFit& follower, OutputTrial& trial) {
    follower.before = trial.before;
    follower.after = trial.after;
    follower.unseenBefore = trial.unseenBefore;
    follower.unseenAfter = trial.unseenAfter;
    follower.refitted = trial.better();
    if (follower.refitted) fit_->output[static_cast<size_t>(follower.layer)] = std::move(trial.weights);
  }

  Status refit(size_t index, AttentionInputs& own) {
    const int layer = layers_[index];
    AttentionInputs shared(core_.ledger, model_.layers, ids_.size(), pool_);
    keep(shared, layer, layer);
    if (Status seen = pass(index, 0, shared); !seen) return seen;
    OutputTrial trial;
    if (fitOutput(own.outputs(layer), shared.outputs(layer), projection(TensorRole::o, layer).weights, nullptr, trial) == Refit::cancelled) return cancelled();
    take(fit_->followers[index], trial);
    return Done{};
  }

  // Values' maps and the output projection, with the layer's own queries and with those that map the keys: what comes closer on unseen tokens.
  Status refitBorrower(size_t index, AttentionInputs& own) {
    FollowerFit& follower = fit_->followers[index];
    const int layer = follower.layer, owner = ownerOf(layer);
    const int64_t fitted = static_cast<int64_t>(ids_.size() - ids_.size() / 5);
    const Buffer weights = projection(TensorRole::o, layer).weights;
    HeadMaps keys, values;
    OutputTrial plain;
    {
      AttentionInputs shared(core_.ledger, model_.layers, ids_.size(), pool_);
      keep(shared, layer, owner);
      if (Status seen = pass(index, 0, shared); !seen) return seen;
      if (fitValueMaps(model_, {own.values(layer), shared.values(owner), fitted}, choice_.damping, core_.ledger, pool_, progress_, values) == Refit::cancelled) return cancelled();
      if (mapsKeys(model_) && fitKeyMaps(model_, {own.keys(layer), shared.keys(owner), fitted}, choice_.damping, core_.ledger, pool_, progress_, keys) == Refit::cancelled) return cancelled();
      if (fitOutput(own.outputs(layer), shared.outputs(layer), weights, &values, plain) == Refit::cancelled) return cancelled();
    }
    if (keys.empty()) {
      take(follower, plain);
      return Done{};
    }
    mapQueries(follower, keys);
    AttentionInputs shared(core_.ledger, model_.layers, ids_.size(), pool_);
    shared.keepOutputs(layer, model_.qRows());
    if (Status seen = pass(index, 1, shared); !seen) return seen;
    OutputTrial mapped;
    if (fitOutput(own.outputs(layer), shared.outputs(layer), weights, &values, mapped) == Refit::cancelled) return cancelled();
    mapped.before = plain.before;  // as it is borrowed
    mapped.unseenBefore = plain.unseenBefore;
    follower.mapped = mapped.better() && (!plain.better() || mapped.unseenAfter < plain.unseenAfter);
    take(follower, follower.mapped ? mapped : plain);
    if (!follower.mapped)
      for (auto* matrices : {&fit_->queries, &fit_->queryBiases}) (*matrices)[static_cast<size_t>(layer)] = Buffer();
    return Done{};
  }

  void mapQueries(FollowerFit& follower, const HeadMaps& maps) {
    const Projection own = projection(TensorRole::q, follower.layer);
    const auto fold = [&](const Buffer& from, int64_t cols, std::vector<Buffer>& into) {
      if (from.bytes() == 0) return;
      Buffer& out = into[static_cast<size_t>(follower.layer)];
      out = Buffer(core_.ledger, MemoryTag::calibration, from.bytes());
      foldIntoQueries(model_, maps, from.as<float>(), cols, out.as<float>());
    };
    fold(own.weights, own.cols, fit_->queries);
    fold(own.bias, 1, fit_->queryBiases);
    follower.mapped = true;
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
