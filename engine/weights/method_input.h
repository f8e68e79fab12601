// SPDX-License-Identifier: GPL-3.0-or-later
// What quantization and pruning methods may know of the inputs of one matrix over the calibration text: prepared once per layer and input,
// shared by the matrices that read it.
#pragma once
#include <array>
#include <memory>
#include <span>
#include <vector>

#include "engine/core/progress.h"
#include "engine/core/result.h"
#include "engine/core/threads.h"
#include "engine/weights/calibration.h"
#include "engine/weights/inverse_factor.h"

namespace winnow {

// What a method asks for; a method that asks for nothing needs no calibration text.
struct InputNeeds {
  bool norms = false;    // ||X_j||_2
  bool moments = false;  // X^T X
  bool factor = false;   // the upper factor of the inverse of the moments
  bool any() const { return norms || moments || factor; }
  bool gram() const { return moments || factor; }
};

struct MethodInput {
  std::span<const float> columnNorms;      // [cols], empty unless asked for
  const SecondMoments* moments = nullptr;  // null unless asked for
  const InverseFactor* factor = nullptr;   // null unless asked for
  int64_t tokens = 0;                      // that were measured
};

// Makes and keeps what the matrices of one layer and input ask for; the next layer or input replaces it.
class InputPreparer {
 public:
  InputPreparer(const Model& model, const Calibration* calibration, ThreadPool& pool, const Progress& progress)
      : model_(model), calibration_(calibration), pool_(pool), progress_(progress) {}

  // Errors: cancelled, moments that can't be factored. Throws std::bad_alloc. Good until the next layer or input.
  Result<MethodInput> prepare(int layer, LinearInput input, const InputNeeds& needs, const FactorOptions& options);

 private:
  struct Factor {
    FactorOptions options;
    std::unique_ptr<InverseFactor> factor;
  };
  const Model& model_;
  const Calibration* calibration_;
  ThreadPool& pool_;
  const Progress& progress_;
  int layer_ = -1;
  LinearInput input_ = LinearInput::count;
  std::vector<float> norms_;
  std::vector<Factor> factors_;  // of layer_ and input_, one per options
};

}  // namespace winnow
