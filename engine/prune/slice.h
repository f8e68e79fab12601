// SPDX-License-Identifier: GPL-3.0-or-later
// SliceGPT (Ashkboos et al., ICLR 2024 (arXiv 2401.15024), section 3; pruning_sharing_attribution.md, D8): the residual stream is turned into the
// principal directions of a calibration text, each point of it into its own, and those with the least energy are left out. Norms without a mean
// commute with rotations once their gains are in the matrices behind them, so that every matrix of the model gets smaller and stays dense; between
// two points the stream goes through a matrix of its own, x <- S x + f(norm(x)).
//
// Points are numbered as in engine/weights/residuals.h: 2 l where layer l begins, 2 l + 1 between its parts, 2 layers where the last one ends.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/core/memory.h"
#include "engine/core/progress.h"
#include "engine/core/result.h"
#include "engine/core/threads.h"
#include "engine/model/model.h"

namespace winnow {

// Why the stream of such a model can't be sliced; nullopt when it can.
std::optional<std::string> cannotSlice(const ModelConfig& model);
// Directions that stay: a multiple of 32, of 8 in streams below 512; a step less than all at least where a share above 0 is removed.
int slicedWidth(int hidden, double removed);

ModelConfig slicedShape(ModelConfig model, double removed);  // with as many in the place of its hidden width

class StreamBases {
 public:
  StreamBases(Ledger& ledger, const ModelConfig& model, int width, std::string key);
  int hidden() const { return hidden_; }
  int width() const { return width_; }
  int points() const { return 2 * layers_ + 1; }
  const std::string& key() const { return key_; }
  // The directions that stay at a point, by falling energy: f32 [width, hidden], orthonormal rows.
  const float* directions(int point) const { return directions_.as<float>() + static_cast<size_t>(point) * static_cast<size_t>(width_) * static_cast<size_t>(hidden_); }
  // Sums over the text of the squares along each direction, those that went too, falling [hidden]; empty in a plan.
  std::span<const double> energies(int point) const { return energies_[static_cast<size_t>(point)]; }
  // What the stream lost at a point, as the projection found it.
  double lost(int point) const { return lost_[static_cast<size_t>(point)]; }

 private:
  friend class StreamMeter;
  int layers_, hidden_, width_;
  std::string key_;
  Buffer directions_;  // [points, width, hidden]
  std::vector<std::vector<double>> energies_;
  std::vector<double> lost_;
};
using Bases = std::shared_ptr<const StreamBases>;

// The points in network order, each as the model that is sliced before it makes it; texts are windows from an empty cache. `key` is the identity of
// the result. Errors: cancelled, a stream that is not finite. Throws std::bad_alloc. The result does not depend on threads.
Result<Bases> measureStream(const Model& model, int width, std::string key, std::span<const int32_t> ids, int window, Ledger& ledger, ThreadPool& pool,
                            const Progress& progress);

// Tensors that read the stream or make it; norms become constants.
bool slices(TensorRole role);
MasterTensor slicedShape(MasterTensor whole, int width);  // its extents alone: nothing to decode

// A tensor in the directions that stay, in f32: a master of its own, from which pruning and quantization go on as from any other.
class SlicedTensor {
 public:
  // Throws std::bad_alloc.
  SlicedTensor(const Model& model, const MasterTensor& whole, const StreamBases& bases, ThreadPool& pool);
  // The shortcut behind a point below the last, [width, width]: from its directions to those of the next.
  static std::unique_ptr<SlicedTensor> shortcut(const StreamBases& bases, int point, ThreadPool& pool);
  SlicedTensor(const SlicedTensor&) = delete;
  SlicedTensor& operator=(const SlicedTensor&) = delete;
  const MasterTensor& tensor() const { return tensor_; }

 private:
  SlicedTensor() = default;
  void turnInputs(const MasterTensor& whole, std::span<const float> gain, const StreamBases& bases, int point, ThreadPool& pool);
  void turnOutputs(const MasterTensor& whole, const StreamBases& bases, int point, ThreadPool& pool);
  void own(const MasterTensor& like);

  MasterTensor tensor_;
  std::vector<float> values_;  // [rows, cols]
};
MasterTensor shortcutShape(const StreamBases& bases, int point);

}  // namespace winnow
