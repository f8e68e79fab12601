// SPDX-License-Identifier: GPL-3.0-or-later
// Matrix products as the ops of a plan ask for them, and the road each takes.
#pragma once
#include "engine/cuda/cublas.h"
#include "engine/cuda/memory.h"
#include "engine/cuda/ops.h"
#include "engine/cuda/twins.h"
#include "engine/plan/numerics.h"

namespace winnow::cuda {

enum class ProductRoad : uint8_t {
  streamed,   // up to kMostTokens: the weights pass by once (multiply.cu)
  fragments,  // own tiles on the tensor cores, packed weights decoded in registers (gemm.cuh)
  fma,        // own tiles in f32 (gemm_fma.cuh)
  library,    // cuBLASLt on weights of 16 bits
  decoded,    // slices decoded to f16, or those of a twin, each multiplied by cuBLASLt (or, without it, own tiles)
  fp8,        // weights, by slices or once to a twin, and activations encoded as E4M3, multiplied by cuBLASLt
};
enum class RoadPreference : uint8_t { automatic, own, decoded };  // so that the choice can be measured

struct RoadChoice {
  ProductRoad road;
  const char* reason;
};
// The one place where the road is chosen. `library`: cuBLASLt is there; `fp8`: long prompts are asked for in FP8, which a device was found to have.
RoadChoice roadOf(const MatrixArgs& w, ActivationMode mode, int tokens, bool library, RoadPreference preference, bool fp8 = false);

// y[t] += left (right x[t]); without rows: nothing.
struct FactorArgs {
  MatrixArgs left, right;
};

class Products {
 public:
  static constexpr int64_t kSliceBytes = int64_t{16} << 20;  // of decoded weights: they stay in the second-level cache
  // For up to `tokens` rows of up to `cols` columns.
  Products(Ledger& ledger, int tokens, int cols, Stream stream, int64_t sliceBytes = kSliceBytes);
  // Room for what right factors make of a source, `ranks` floats for each of so many tokens; returns whether addresses changed.
  bool reserveRanks(int64_t ranks, int tokens);
  // Room for rows of matrices that leave their zeros out, of which the largest takes so many bytes with them; returns as the one above does.
  bool reserveExpanded(int64_t bytes);
  static int64_t paddedRank(int rank) { return (rank + 7) / 8 * 8; }
  // Targets with one source, each in the mode that its weights have under `activations`: a file may mix types.
  // Factors hold what their target's matrix lacks; either none or one for each target.
  void multiply(std::span<const Target> targets, const Source& source, int tokens, int cols, Activations activations, std::span<const FactorArgs> factors = {});
  // What the factors hold alone, for targets that came about otherwise.
  void addErrors(std::span<const Target> targets, std::span<const FactorArgs> factors, const Source& source, int tokens, int cols, Activations activations) {
    addErrors(targets, factors, source, tokens, cols, activationMode(activations, Storage::f16));
  }
  // Memory for the twin of a matrix that so many tokens will have decoded, or encoded.
  void makeTwin(const Matrix& matrix, int tokens, Activations activations, const std::function<int64_t()>& room);
  Twins& twins() { return twins_; }
  const Twins& twins() const { return twins_; }
  void prefer(RoadPreference preference) { preference_ = preference; }
  const Cublas& library() const { return library_; }

 private:
  ProductRoad roadFor(const MatrixArgs& w, Activations activations, int tokens) const;
  void multiplyExpanded(const Target& target, const Source& source, int tokens, int cols, Activations activations);
  void multiplyModes(std::span<const Target> targets, const Source& source, int tokens, int cols, Activations activations);
  void multiplyMode(std::span<const Target> targets, const Source& source, int tokens, int cols, ActivationMode mode);
  void addErrors(std::span<const Target> targets, std::span<const FactorArgs> factors, const Source& source, int tokens, int cols, ActivationMode mode);
  void multiplyDecoded(const Target& target, const Input& input);
  void multiplyFp8(std::span<const Target> targets, const Source& source, int tokens, int cols);
  void reserveSlice(size_t bytes);
  void multiply16(const Target& target, const Input& input);

  Ledger& ledger_;
  Stream stream_;
  int64_t sliceBytes_;
  DeviceBuffer scratch_;
  DeviceBuffer slice_;  // decoded or encoded weights that have no twin
  DeviceBuffer ranks_;  // [tokens, ranks]
  DeviceBuffer expanded_;  // rows that lie without their zeros
  Twins twins_;
  Cublas library_;
  RoadPreference preference_ = RoadPreference::automatic;
};

}  // namespace winnow::cuda
