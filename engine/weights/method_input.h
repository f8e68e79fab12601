// SPDX-License-Identifier: GPL-3.0-or-later
// What quantization and pruning methods may know of the inputs of one matrix over the calibration text: prepared once per layer and input,
// shared by the matrices that read it.
#pragma once
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/core/progress.h"
#include "engine/core/result.h"
#include "engine/core/threads.h"
#include "engine/prune/slice.h"
#include "engine/weights/calibration.h"
#include "engine/weights/inverse_factor.h"
#include "engine/weights/kept_channels.h"
#include "engine/weights/matrix.h"

namespace winnow {

// What a method asks for; a method that asks for nothing needs no calibration text.
struct InputNeeds {
  bool norms = false;    // ||X_j||_2 and its mean square
  bool moments = false;  // X^T X
  bool factor = false;   // the upper factor of the inverse of the moments
  bool gradients = false;  // squares of the gradients of the output of a block that another method pruned
  bool means = false;      // mean X_j
  bool centred = false;    // the moments, and the factor, about those
  bool any() const { return norms || moments || factor || gradients || means; }
  bool gram() const { return moments || factor; }
  InputNeeds operator|(const InputNeeds& other) const {
    return {norms || other.norms, moments || other.moments, factor || other.factor, gradients || other.gradients, means || other.means, centred || other.centred};
  }
};

// How a method is to go about it, of what a person chose.
struct MethodOptions {
  bool ordered = false;       // columns by falling second moment (the factor's order)
  bool staticGroups = false;  // grids from the original weights
  bool clip = false;          // groups are clipped where that lowers the error
  bool operator==(const MethodOptions&) const = default;
};

// Scaling that a method searched: columns of weights are multiplied by `columns`, what makes an input is divided by `divisors`.
struct InputScaling {
  std::span<const float> columns;   // [cols], of the input that is read; empty: none
  std::span<const float> divisors;  // of the input that is made: one per row of a matrix, one per value of a vector; empty: none
};

struct MethodInput {
  std::span<const float> columnNorms;      // [cols], empty unless asked for
  std::span<const float> meanSquares;      // [cols], the same; both of scaled inputs where columns are scaled
  std::span<const double> means;           // [cols], empty unless asked for; of scaled inputs where columns are scaled
  const SecondMoments* moments = nullptr;  // null unless asked for
  const InverseFactor* factor = nullptr;   // null unless asked for
  std::span<const float> gradientSquares;  // [rows, cols] of the matrix, empty unless asked for
  int64_t tokens = 0;                      // that were measured
  MethodOptions options;
};

// One scaling is searched per layer and input; `method` is one that scales, format that of the matrices that read it.
struct ScalingChoice {
  std::string method;
  WeightFormat format;
  double strength = 0;  // of a method that has one, 0..1
  bool operator==(const ScalingChoice&) const = default;
};

// Makes and keeps what the matrices of one layer and input ask for; the next layer or input replaces it.
class InputPreparer {
 public:
  InputPreparer(const Model& model, const Calibration* calibration, ThreadPool& pool, const Progress& progress)
      : model_(model), calibration_(calibration), pool_(pool), progress_(progress) {}

  // From here on projections read and make the channels `kept` alone, [layers]. What was handed out is gone.
  void narrow(std::vector<KeptOfLayer> kept);
  // Matrices read and make these directions of the stream; the statistics are of a model that does.
  void slice(Bases bases) { bases_ = std::move(bases); }
  // Errors: cancelled, moments that can't be factored. Throws std::bad_alloc. Good until the next layer or input.
  Result<MethodInput> prepare(int layer, LinearInput input, const InputNeeds& needs, const FactorOptions& options, std::span<const float> scales = {});
  // [cols] of the input. Errors: cancelled. Kept as long as the preparer.
  Result<std::span<const float>> scales(int layer, LinearInput input, const ScalingChoice& choice);
  // Of unscaled inputs, about zero or about their means; CHECKs that they were measured. Good until the next layer or input.
  const SecondMoments& moments(int layer, LinearInput input, bool centred = false);
  const SecondMoments& wholeMoments(int layer, LinearInput input, bool centred = false);  // the same of all channels
  std::vector<double> means(int layer, LinearInput input) const;  // of unscaled inputs
  std::vector<double> wholeMeans(int layer, LinearInput input) const;

 private:
  struct Factor {
    FactorOptions options;
    bool centred;
    std::unique_ptr<InverseFactor> factor;
  };
  struct MomentsOfInput {
    int layer = -1;
    LinearInput input = LinearInput::count;
    SecondMoments moments;
  };
  // Those kept, made anew where they are of another layer or input.
  template <class Make>
  const SecondMoments& kept(MomentsOfInput& kept, int layer, LinearInput input, Make&& make);
  const Model& model_;
  const Calibration* calibration_;
  ThreadPool& pool_;
  const Progress& progress_;
  // What of an input is read; null: all of it.
  const std::vector<int>* keptOf(int layer, LinearInput input) const;
  template <class T>
  std::vector<T> gathered(int layer, LinearInput input, std::vector<T> values) const;

  std::vector<KeptOfLayer> kept_;
  Bases bases_;
  MomentsOfInput narrowed_, centred_, narrowedCentred_;
  int layer_ = -1;
  LinearInput input_ = LinearInput::count;
  std::vector<float> norms_, squares_;
  std::vector<double> means_;
  std::span<const float> scaledBy_;
  std::map<std::pair<int, LinearInput>, std::vector<float>> scales_;
  std::vector<Factor> factors_;  // of layer_ and input_, one per options
};

}  // namespace winnow
