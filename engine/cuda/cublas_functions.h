// SPDX-License-Identifier: GPL-3.0-or-later
// cuBLASLt's functions, found at run time. Only where nvcc finds the header of the library.
#pragma once
#include <cublasLt.h>

#include <string>

#include "engine/cuda/library.h"

namespace winnow::cuda {

struct CublasFunctions {
  static std::string file() { return "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR); }
  Library library{file()};
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
};

// A product and its matrices as the library knows them; given back in every case.
struct CublasProduct {
  explicit CublasProduct(const CublasFunctions& functions) : lt(functions) {}
  ~CublasProduct() {
    for (cublasLtMatrixLayout_t layout : {w, x, y})
      if (layout) lt.forgetLayout(layout);
    if (preference) lt.forgetPreference(preference);
    if (product) lt.forgetProduct(product);
  }
  CublasProduct(const CublasProduct&) = delete;
  CublasProduct& operator=(const CublasProduct&) = delete;
  // y[cols][stride] = W[rows][depth] . X[cols][depth], row-major: to a library of columns, the transposed W and X itself.
  cublasStatus_t make(cudaDataType_t type, cudaDataType_t result, int rows, int cols, int depth, int64_t stride, size_t workspace,
                      bool ordered) {
    const cublasOperation_t transposed = CUBLAS_OP_T;
    // ordered: no sums that meet in an order of their own, so that results don't vary from run to run.
    const uint32_t reductions = ordered ? CUBLASLT_REDUCTION_SCHEME_NONE : CUBLASLT_REDUCTION_SCHEME_MASK;
    const auto r = static_cast<uint64_t>(rows), c = static_cast<uint64_t>(cols), d = static_cast<uint64_t>(depth);
    for (const cublasStatus_t status :
         {lt.describe(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
          lt.setProduct(product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed), lt.layOut(&w, type, d, r, depth),
          lt.layOut(&x, type, d, c, depth), lt.layOut(&y, result, r, c, stride), lt.prefer(&preference),
          lt.setPreference(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace),
          lt.setPreference(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions)})
      if (status != CUBLAS_STATUS_SUCCESS) return status;
    return CUBLAS_STATUS_SUCCESS;
  }

  const CublasFunctions& lt;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
};

}  // namespace winnow::cuda
