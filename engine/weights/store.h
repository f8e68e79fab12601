// SPDX-License-Identifier: GPL-3.0-or-later
// Immutable weight versions, made in one place from the untouched master and shared by all sessions that want the same. A set is everything one
// forward pass reads; it lives as long as a session or a step holds it.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/core/progress.h"
#include "engine/core/result.h"
#include "engine/core/threads.h"
#include "engine/model/model.h"
#include "engine/plan/plan.h"
#include "engine/share/fit.h"
#include "engine/weights/attention_left.h"
#include "engine/weights/block_gradients.h"
#include "engine/weights/channel_major.h"
#include "engine/weights/channels.h"
#include "engine/weights/place.h"

namespace winnow {

struct LayerWeights {  // null where the model has none
  const Matrix *q = nullptr, *k = nullptr, *v = nullptr, *o = nullptr, *gate = nullptr, *up = nullptr, *down = nullptr;
  const float *attnNorm = nullptr, *attnNormBias = nullptr, *ffnNorm = nullptr, *ffnNormBias = nullptr;  // [hidden]
  const float *qBias = nullptr, *kBias = nullptr, *vBias = nullptr, *oBias = nullptr;
  const float *gateBias = nullptr, *upBias = nullptr, *downBias = nullptr;
  const float *qNorm = nullptr, *kNorm = nullptr;  // [headDim]
  const std::vector<WeightCorrection>* downCorrections = nullptr;  // null where there are none
  // What the matrices lack; null where there is nothing.
  const ErrorFactors *qError = nullptr, *kError = nullptr, *vError = nullptr, *oError = nullptr, *gateError = nullptr, *upError = nullptr, *downError = nullptr;
  const Matrix *attnShortcut = nullptr, *ffnShortcut = nullptr;  // of the stream beside each part, [width, width]; null where it is not sliced
};

struct SparseWeights;  // engine/sparsify/step.h
class ActivationProfile;

struct WeightSet {
  std::shared_ptr<const Model> model;                         // keeps the mapping
  std::vector<std::shared_ptr<const WeightVersion>> versions;  // [tensors of the model]
  std::vector<LayerWeights> layers;
  std::vector<LayerSharing> sharing;                          // [layers] what heads and output projections were fitted for; empty: any sharing will do
  std::vector<LayerParts> parts;                              // [layers] what the recipes left of each; the rest has empty versions
  std::vector<Channels> channels;                             // [layers] of the feed-forwards; null where all stay
  std::vector<KeptAttention> attention;                       // [layers] of the attentions
  std::shared_ptr<const ModelConfig> narrowShape;             // of the attentions, where it is not the model's: what a backend is to be made for
  std::string attentionKey;                                   // WeightTarget::attentionKey
  int sliceWidth = 0;                                         // directions of the residual stream that are left, with shortcuts between the layers' own; 0: it is the model's
  std::vector<std::shared_ptr<const WeightVersion>> added;    // what a sliced stream asks for beside the model's tensors: shortcuts, the head of a tied model
  const Matrix *embedding = nullptr, *positions = nullptr, *head = nullptr;
  const float *outputNorm = nullptr, *outputNormBias = nullptr;  // [hidden]
  std::string key;                                            // WeightTarget::key
  std::string partOf;                                         // key of the set of which this one has the first layers alone; "" = it is whole
  int newLayers = 0;                                          // those it has
  uint64_t serial = 0;                                        // another for every set of a store
  bool anyPacked = false;
  bool takesInt8 = false;  // compute.activations=int8 acts on some matrix
  std::shared_ptr<const SparseWeights> sparse;  // null without a method of activation sparsity
  std::vector<Adjustment> adjustments;  // what had to be done in another way than the target says, and why

  // KeptAttention::pairs of a layer; null: its heads have all pairs.
  const int32_t* ropePairs(int layer) const {
    const auto at = static_cast<size_t>(layer);
    return at < attention.size() && !attention[at].pairs.empty() ? attention[at].pairs.data() : nullptr;
  }
  const ModelConfig& shape() const { return narrowShape ? *narrowShape : model->config(); }
  int streamWidth(const ModelConfig& shape) const { return sliceWidth > 0 ? sliceWidth : shape.hidden; }
  // The kernels divide the squares of a row by its width: so much larger is the epsilon where the model's norms divide by more (engine/prune/slice.h).
  float normEps(const ModelConfig& shape) const {
    return sliceWidth > 0 ? shape.normEps * static_cast<float>(shape.hidden) / static_cast<float>(sliceWidth) : shape.normEps;
  }
  // By tag, of what a plan reads: file-backed matrices that followers and borrowers of a cache skip aren't, allocated ones are memory all the same.
  MemoryByTag memory(const Plan& plan) const;
};

// Where a store gets what methods look at; both block.
struct Measurements {
  std::function<Result<std::shared_ptr<const Calibration>>(const CalibrationChoice&, const Progress&)> calibration;
  std::function<Result<std::shared_ptr<const std::vector<SuperWeight>>>(const Progress&)> superWeights;
  // Of the dense weights, in the model that the target describes.
  std::function<Result<std::shared_ptr<const BlockGradients>>(const WeightTarget&, const CalibrationChoice&, LayerRange, const Progress&)> gradients = {};
  // What a method that merges layers leaves of them.
  std::function<Result<LayersLeft>(const LayerDrop&, const CalibrationChoice&, const Progress&)> merged = {};
  // What a calibration text says of layers that share attention, in a model whose layers are left so.
  std::function<Result<std::shared_ptr<const SharingFit>>(const SharingFitChoice&, const LayersLeft&, const Progress&)> sharing = {};
  // What passes through the heads of the dense model.
  std::function<Result<std::shared_ptr<const HeadRelevance>>(const CalibrationChoice&, const Progress&)> relevance = {};
  // Of the activations of a set, which the target without a method of activation sparsity describes.
  std::function<Result<std::shared_ptr<const ActivationProfile>>(const WeightTarget&, const WeightSet&, const CalibrationChoice&, const Progress&)> profile = {};
  // Which directions of the residual stream stay.
  std::function<Result<Bases>(const SliceChoice&, const Progress&)> stream = {};
};

// What a background job makes, handed on layer by layer: the layers that are done, the others from the set before. Old layers are freed as new ones
// take their place. Only where both have all layers, heads and channels, so that any layer of one fits between those of the other.
struct LayerPublishing {
  std::shared_ptr<const WeightSet> from;
  std::function<void(std::shared_ptr<const WeightSet>)> publish;
};

class WeightStore {
 public:
  WeightStore(std::shared_ptr<const Model> model, Ledger& ledger) : WeightStore(std::move(model), std::make_unique<HostPlace>(ledger)) {}
  WeightStore(std::shared_ptr<const Model> model, std::unique_ptr<WeightPlace> place) : model_(std::move(model)), place_(std::move(place)) {}

  // Makes what is missing and returns the set. Thread-safe; the pool is the caller's. Errors: cancelled, no memory, no calibration.
  Result<std::shared_ptr<const WeightSet>> build(const WeightTarget& target, ThreadPool& pool, const Measurements& measurements,
                                                 const Progress& progress, LayerPublishing publishing = {});
  int64_t bytesToMake(const WeightTarget& target);  // of the versions nobody holds yet
  const ChannelScores& channelScores() const { return channelScores_; }
  const WeightPlace& place() const { return *place_; }

 private:
  class Build;  // of one set: store_build.cpp
  Result<std::shared_ptr<const SparseWeights>> makeSparse(const WeightTarget& target, const WeightSet& set, const std::vector<std::string>& keys, ThreadPool& pool,
                                                          const Measurements& measurements, const Progress& progress);
  // store_slice.cpp
  Result<Bases> streamBases(const WeightTarget& target, const Measurements& measurements, const Progress& progress) const;
  Status addShortcuts(const WeightTarget& target, const Bases& bases, WeightSet& set, ThreadPool& pool, ConvertProgress& progress);
  int64_t bytesOfSliced(const WeightTarget& target) const;
  Status convertInto(WeightVersion& version, const WeightWork& work) const;
  std::shared_ptr<const WeightVersion> keep(size_t tensor, const std::string& recipe, std::shared_ptr<const WeightVersion> version);
  std::shared_ptr<const WeightSet> withLayer(const WeightSet& before, const WeightSet& made, int layer);
  std::shared_ptr<const WeightVersion> find(size_t tensor, const std::string& recipe);
  std::shared_ptr<const PruneScores> findScores(size_t tensor, const Recipe& recipe);
  // `constants` [cols] are added to a bias whose recipe names the matrix they are of; else empty.
  Result<std::shared_ptr<const WeightVersion>> make(size_t tensor, const Recipe& recipe, InputPreparer& preparer, GradientsByLayer& gradients,
                                                    const std::vector<SuperWeight>& super, const SharingFit* fit, std::span<const float> constants, ThreadPool& pool,
                                                    ConvertProgress& progress);
  Status addBias(const MasterTensor& linear, WeightVersion& version, ThreadPool& pool, const Progress& progress) const;

  std::shared_ptr<const Model> model_;
  std::unique_ptr<WeightPlace> place_;
  std::mutex mutex_;
  uint64_t sets_ = 0;
  ChannelScores channelScores_;
  std::map<std::pair<size_t, std::string>, std::weak_ptr<const WeightVersion>> versions_;
  std::map<std::pair<size_t, std::string>, std::weak_ptr<const PruneScores>> scores_;
  std::map<std::pair<size_t, std::string>, std::weak_ptr<const ChannelMajor>> channelMajor_;
};

}  // namespace winnow
