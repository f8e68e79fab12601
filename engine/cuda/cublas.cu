// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/cublas.h"

#include "engine/core/check.h"

#if defined(__CUDACC__) && __has_include(<cublasLt.h>)
#include <map>
#include <tuple>

#include "engine/cuda/cublas_functions.h"
#endif

namespace winnow::cuda {

#if defined(__CUDACC__) && __has_include(<cublasLt.h>)

namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw DeviceFailure(std::string("cuBLASLt failed (") + what + "): status " + std::to_string(static_cast<int>(status)) + ".");
}

}  // namespace

struct Cublas::Functions : CublasFunctions {
  cublasLtHandle_t handle = nullptr;
  using Shape = std::tuple<cudaDataType_t, int, int, int, int64_t, bool>;  // type, rows, cols, tokens, stride, accumulate
  std::map<Shape, cublasLtMatmulAlgo_t> algorithms;
  ~Functions() {
    if (handle) destroy(handle);
  }
};

// Under a planning ledger the library is looked for, and not started.
Cublas::Cublas(Ledger& ledger, bool wanted) {
  if (!wanted) return;
  auto functions = std::make_unique<Functions>();
  if (!functions->load()) {
    reason_ = CublasFunctions::file() + " was not found; it comes with the CUDA toolkit";
    return;
  }
  if (!ledger.planning() && functions->create(&functions->handle) != CUBLAS_STATUS_SUCCESS) {
    reason_ = CublasFunctions::file() + " could not be started on this device";
    return;
  }
  workspace_ = DeviceBuffer(ledger, MemoryTag::activations, kWorkspaceBytes);
  functions_ = std::move(functions);
}

void Cublas::multiply(Stream stream, const Product& p) {
  CHECK(functions_);
  Functions& lt = *functions_;
  CublasProduct d(lt);
  const cudaDataType_t type = p.fp8 ? CUDA_R_8F_E4M3 : p.type == Storage::f16 ? CUDA_R_16F : CUDA_R_16BF;
  check(d.make(type, CUDA_R_32F, p.rows, p.tokens, p.cols, p.yStride, kWorkspaceBytes, true), "description");
  const Functions::Shape shape{type, p.rows, p.cols, p.tokens, p.yStride, p.accumulate};
  auto found = lt.algorithms.find(shape);
  if (found == lt.algorithms.end()) {
    cublasLtMatmulHeuristicResult_t choice{};
    int count = 0;
    const cublasStatus_t status = lt.choose(lt.handle, d.product, d.w, d.x, d.y, d.y, d.preference, 1, &choice, &count);
    if (p.fp8 && (status != CUBLAS_STATUS_SUCCESS || count == 0))
      throw DeviceFailure("cuBLASLt has no FP8 product of " + std::to_string(p.rows) + " x " + std::to_string(p.cols) +
                          " weights on this GPU: choose another value of compute.activations.");
    check(status, "choice of an algorithm");
    if (count == 0) throw DeviceFailure("cuBLASLt has no algorithm for a product of the model's shape.");
    found = lt.algorithms.emplace(shape, choice.algo).first;
  }
  const float one = 1, beta = p.accumulate ? 1 : 0;
  const cublasStatus_t status = static_cast<CublasFunctions&>(lt).multiply(
      lt.handle, d.product, &one, p.w, d.w, p.x, d.x, &beta, p.y, d.y, p.y, d.y, &found->second, workspace_.as<void>(),
      kWorkspaceBytes, stream);
  check(status, "product");
}

#else

struct Cublas::Functions {};
Cublas::Cublas(Ledger&, bool) : reason_("the program was built without cuBLASLt") {}
void Cublas::multiply(Stream, const Product&) { CHECK(functions_, reason_); }

#endif

Cublas::~Cublas() = default;

}  // namespace winnow::cuda
