// SPDX-License-Identifier: GPL-3.0-or-later
// Matrix products of the vendor's library, loaded at run time: what prefill is compared with.
#include "engine/cuda/roofline.h"

#if defined(__CUDACC__) && __has_include(<cublasLt.h>)
#include <cublasLt.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <vector>

#include "engine/cuda/checked.h"
#include "engine/cuda/library.h"
#include "engine/cuda/graph.h"

namespace winnow::cuda {
namespace {

constexpr size_t kWorkspace = size_t{64} << 20;

// The functions of the library, and what has to be given back in the end.
struct Lt {
  Library library{"libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR)};
  decltype(cublasLtCreate)* create = nullptr;
  decltype(cublasLtDestroy)* destroy = nullptr;
  decltype(cublasLtMatmulDescCreate)* describe = nullptr;
  decltype(cublasLtMatmulDescDestroy)* forgetProduct = nullptr;
  decltype(cublasLtMatmulDescSetAttribute)* setProduct = nullptr;
  decltype(cublasLtMatrixLayoutCreate)* layOut = nullptr;
  decltype(cublasLtMatrixLayoutDestroy)* forgetLayout = nullptr;
  decltype(cublasLtMatmulPreferenceCreate)* prefer = nullptr;
  decltype(cublasLtMatmulPreferenceDestroy)* forgetPreference = nullptr;
  decltype(cublasLtMatmulPreferenceSetAttribute)* setPreference = nullptr;
  decltype(cublasLtMatmulAlgoGetHeuristic)* choose = nullptr;
  decltype(cublasLtMatmul)* multiply = nullptr;
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;

  bool load() {
    library.find("cublasLtCreate", create);
    library.find("cublasLtDestroy", destroy);
    library.find("cublasLtMatmulDescCreate", describe);
    library.find("cublasLtMatmulDescDestroy", forgetProduct);
    library.find("cublasLtMatmulDescSetAttribute", setProduct);
    library.find("cublasLtMatrixLayoutCreate", layOut);
    library.find("cublasLtMatrixLayoutDestroy", forgetLayout);
    library.find("cublasLtMatmulPreferenceCreate", prefer);
    library.find("cublasLtMatmulPreferenceDestroy", forgetPreference);
    library.find("cublasLtMatmulPreferenceSetAttribute", setPreference);
    library.find("cublasLtMatmulAlgoGetHeuristic", choose);
    library.find("cublasLtMatmul", multiply);
    return create && destroy && describe && forgetProduct && setProduct && layOut && forgetLayout && prefer && forgetPreference &&
           setPreference && choose && multiply;
  }
  ~Lt() {
    for (cublasLtMatrixLayout_t layout : {w, x, y})
      if (layout) forgetLayout(layout);
    if (preference) forgetPreference(preference);
    if (product) forgetProduct(product);
    if (handle) destroy(handle);
  }
};

std::optional<GemmTime> failed(std::string* why, const std::string& what) {
  if (why) *why = what;
  return std::nullopt;
}

// Row-major W [rows][depth] and X [cols][depth] are, to a library of columns, the transposed W and X itself.
bool describeProduct(Lt& lt, const GemmShape& s, cudaDataType_t type) {
  const cublasOperation_t transposed = CUBLAS_OP_T;
  const auto rows = static_cast<uint64_t>(s.rows), cols = static_cast<uint64_t>(s.cols), depth = static_cast<uint64_t>(s.depth);
  return lt.create(&lt.handle) == CUBLAS_STATUS_SUCCESS && lt.describe(&lt.product, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
         lt.setProduct(lt.product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed) == CUBLAS_STATUS_SUCCESS &&
         lt.layOut(&lt.w, type, depth, rows, s.depth) == CUBLAS_STATUS_SUCCESS &&
         lt.layOut(&lt.x, type, depth, cols, s.depth) == CUBLAS_STATUS_SUCCESS &&
         lt.layOut(&lt.y, type, rows, cols, s.rows) == CUBLAS_STATUS_SUCCESS && lt.prefer(&lt.preference) == CUBLAS_STATUS_SUCCESS &&
         lt.setPreference(lt.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace, sizeof kWorkspace) == CUBLAS_STATUS_SUCCESS;
}

}  // namespace

std::optional<GemmTime> measureGemm(Stream stream, const GemmShape& s, GemmType type, std::string* why) {
  constexpr int kRounds = 15, kWarmUp = 3;
  Lt lt;
  if (!lt.load()) return failed(why, "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR) + " can't be loaded");
  const bool bf16 = type == GemmType::bf16;
  if (!describeProduct(lt, s, bf16 ? CUDA_R_16BF : CUDA_R_16F)) return failed(why, "cuBLASLt refused the shape");
  cublasLtMatmulHeuristicResult_t choice{};
  int found = 0;
  if (lt.choose(lt.handle, lt.product, lt.w, lt.x, lt.y, lt.y, lt.preference, 1, &choice, &found) != CUBLAS_STATUS_SUCCESS || found == 0)
    return failed(why, "cuBLASLt has no algorithm for the shape");
  Ledger ledger;
  const auto buffer = [&](int64_t rows, int64_t cols) {
    return DeviceBuffer(ledger, MemoryTag::activations, static_cast<size_t>(rows * cols) * sizeof(uint16_t));
  };
  const DeviceBuffer w = buffer(s.rows, s.depth), x = buffer(s.cols, s.depth), y = buffer(s.cols, s.rows);
  const DeviceBuffer workspace(ledger, MemoryTag::activations, kWorkspace);
  const Storage storage = bf16 ? Storage::bf16 : Storage::f16;
  fillUniform(stream, w.as<void>(), storage, int64_t{s.rows} * s.depth, -0.05f, 0.05f, 1);
  fillUniform(stream, x.as<void>(), storage, int64_t{s.cols} * s.depth, -1.0f, 1.0f, 2);
  const float one = 1, zero = 0;
  EventMarks marks(stream, 1);
  std::vector<double> times;
  for (int round = 0; round < kWarmUp + kRounds; ++round) {
    marks.begin(0);
    const cublasStatus_t status = lt.multiply(lt.handle, lt.product, &one, w.as<void>(), lt.w, x.as<void>(), lt.x, &zero, y.as<void>(), lt.y,
                                              y.as<void>(), lt.y, &choice.algo, workspace.as<void>(), kWorkspace, stream);
    if (status != CUBLAS_STATUS_SUCCESS) return failed(why, "cuBLASLt failed (status " + std::to_string(status) + ")");
    marks.end();
    wait(stream);
    const auto ns = static_cast<double>(marks.ns(0));
    if (round >= kWarmUp) times.push_back(ns * 1e-6);
  }
  std::sort(times.begin(), times.end());
  return GemmTime{times[times.size() / 2], 2.0 * s.rows * s.cols * s.depth};
}

}  // namespace winnow::cuda

#else

namespace winnow::cuda {

std::optional<GemmTime> measureGemm(Stream, const GemmShape&, GemmType, std::string* why) {
  if (why) *why = "built without cublasLt.h";
  return std::nullopt;
}

}  // namespace winnow::cuda
#endif
