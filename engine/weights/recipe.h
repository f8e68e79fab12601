// SPDX-License-Identifier: GPL-3.0-or-later
// What is made of each master tensor. A recipe and a tensor are the identity of a weight version; a target is one recipe per tensor.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/knobs/knobs.h"
#include "engine/model/model.h"
#include "engine/prune/head_dims.h"
#include "engine/prune/heads.h"
#include "engine/prune/layer_drop.h"
#include "engine/prune/slice.h"
#include "engine/prune/width.h"
#include "engine/weights/matrix.h"
#include "engine/weights/method_input.h"
#include "engine/weights/super_weights.h"

namespace winnow {

// Scales of one input of a layer, as a method searched them; none by default.
struct Scaling {
  LinearInput input = LinearInput::count;
  ScalingChoice choice;
  explicit operator bool() const { return input != LinearInput::count; }
};

struct Recipe {
  WeightFormat format;        // how the result is stored
  std::string method;         // quantization method; "" = the file's own values
  std::string prune;          // pruning method; "" = dense
  double pruneRatio = 0;
  std::string prunePattern;   // one of prunePatterns()
  std::string pruneScope;     // row or matrix
  std::string pruneInitial;   // method of the first mask, where the method corrects one; else ""
  double swapShare = 0;       // of it, in the same case
  std::string masked;         // identity of the model that gradients are measured in, in the same case
  std::string recovery;       // of the weights that pruning leaves; "" = none
  std::string constantsOf;    // key of the matrix whose constants a bias has in it; "" = none
  std::string calibration;    // identity of the statistics the methods look at; "" = none
  double damping = 0;         // of the second moments, where a method factors them; else 0
  InputNeeds pruneNeeds, recoveryNeeds, methodNeeds;  // what the three ask for; follows from their names
  MethodOptions options;               // of the quantization method
  SuperWeights super = SuperWeights::asOthers;  // of a down projection
  int superCount = kMostSuperWeights;           // the first so many that were found
  std::vector<LayerShare> sum;         // the layers whose tensors of this role make it; empty: its own
  std::string outputFit;               // identity of the fit of an output projection to attention that is another layer's; "" = its own values
  Channels kept;                       // of the block, where the tensor has those alone; null: all
  std::shared_ptr<const HeadFolds> folds;  // of values and outputs, where the tensor is theirs; null: it is not
  float queryScale = 1;                // of queries of narrowed heads, whose scores are divided by the root of fewer components than they had
  std::string refit;                   // the recovery that fits the columns left of an o or down projection to those that went; "" = none
  double refitDamping = 0;             // of the second moments, for that
  Bases slice;                         // whose directions of the residual stream the tensor reads or makes; null: the file's
  int errorRank = 0;                   // of the factors that hold what the stored matrix lacks (error_factors.h); 0 = none
  Scaling multiplied;                  // the input whose scales multiply the columns
  Scaling divided;                     // the input this tensor makes, divided by its scales
  bool addsConstants() const;  // to the outputs of the matrix it makes (constants.h)
  bool scaled() const { return multiplied || divided; }
  std::string key() const;
  std::string scoresKey() const;  // of what pruning knows at every ratio and pattern
  std::string scalingKey() const;
  std::string sumKey() const;  // of the master it starts from, where that is not the file's
};

struct CalibrationChoice {
  std::string path;  // text file
  int tokens = 0;
  bool moments = false;          // second moments too
  double sliced = 0;             // share of the stream's directions that the measured model lacks; 0: the model as it is
  std::string identity() const;  // path, size, time of change, tokens, share; the same with and without moments
};

// What a calibration text is asked of layers that share attention (engine/share/fit.h).
struct SharingFitChoice {
  std::vector<LayerSharing> sharing;  // [layers] before layers are dropped
  int heads = 0;                      // of a layer
  bool align = false, refit = false;
  double damping = 0;
  CalibrationChoice calibration;
  std::string key() const;
};

// What SliceGPT removes of the residual stream.
struct SliceChoice {
  double removed = 0;  // share of the directions; 0 turns the stream and removes nothing
  CalibrationChoice calibration;
  std::string key() const;
};

struct WeightTarget {
  std::vector<Recipe> recipes;  // one per tensor of Model::tensors()
  std::string key;              // identity of the whole
  std::optional<CalibrationChoice> calibration;
  LayerDrop layers;                     // which layers have no weights is known once the calibration text was measured
  std::optional<LayersLeft> left;       // or it is given
  std::optional<SharingFitChoice> sharing;  // none: whatever attention is shared, weights and heads stay as they are
  std::optional<WidthChoice> width;     // which channels of feed-forwards go is known then, too
  std::optional<HeadChoice> heads;      // and which heads
  std::optional<HeadDimChoice> headDims;  // or components of heads
  std::string attentionKey;             // identity of what of the attentions is left: caches hold other keys and values under another; "": all
  std::optional<SliceChoice> slice;     // the directions, too
  std::vector<Adjustment> adjustments;  // what of the configuration can't be done, and why
  std::string activation;       // method of activation sparsity; "" = none
  std::optional<CalibrationChoice> profiled;  // where it reads the distributions of a text
  std::shared_ptr<const WeightTarget> masked;  // the model whose gradients a pruning method asks for; null: none does
  bool anyPacked = false;
  bool takesInt8 = false;  // compute.activations=int8 acts on some matrix
  bool superWeights = false;  // some recipe treats them apart
};

// How a type is stored when no knob says otherwise: plain types as they are, blocks that a packed format holds exactly as that,
// the others as f16.
WeightFormat ownFormat(const MasterTensor& tensor);
bool isWeightKnob(std::string_view name);  // weights.*, prune.*, calibration.*

// A recipe whose tensor is a sum, and one whose tensor was fitted anew.
Recipe summed(Recipe recipe, std::vector<LayerShare> sum);
Recipe refitted(Recipe recipe, std::string fit);

// A recipe whose tensor has some channels alone, columns fitted anew by a recovery where one is named, to a calibration text. The columns of a quantized file's o and down
// projections lie in other blocks than before: they are rounded anew, to 8 bits.
Recipe narrowed(Recipe recipe, TensorRole role, Channels kept, const std::string& recovery, double damping, const std::string& calibration);
// A recipe whose tensor is folded into fewer components of heads: other values than the file's.
Recipe folded(Recipe recipe, std::shared_ptr<const HeadFolds> folds);

// A recipe whose tensor reads or makes the directions of a sliced stream; codes of the file hold its own values alone.
Recipe sliced(Recipe recipe, Bases bases);

// `config` is one that resolve() made. `sampleText` is the calibration text when the configuration names none.
WeightTarget weightTarget(const Model& model, const Config& config, const std::string& sampleText);

}  // namespace winnow
