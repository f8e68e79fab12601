// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/cublas.h"

#include "engine/core/check.h"
#include "engine/cuda/checked.h"

#if defined(__CUDACC__) && __has_include(<cublasLt.h>)
#include <cublasLt.h>
#include <dlfcn.h>

#include <functional>
#include <map>
#include <tuple>
#endif

namespace winnow::cuda {

#if defined(__CUDACC__) && __has_include(<cublasLt.h>)

namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw DeviceError(std::string("cuBLASLt failed (") + what + "): status " + std::to_string(static_cast<int>(status)) + ".");
}

}  // namespace

struct Cublas::Library {
  void* file = nullptr;
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&cublasLtMatmulDescCreate) descCreate = nullptr;
  decltype(&cublasLtMatmulDescDestroy) descDestroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) descSet = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layoutCreate = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layoutDestroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preferenceCreate = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preferenceDestroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preferenceSet = nullptr;
  cublasLtHandle_t handle = nullptr;
  using Shape = std::tuple<Storage, int, int, int, int64_t, bool>;  // type, rows, cols, tokens, stride, accumulate
  std::map<Shape, cublasLtMatmulAlgo_t> algorithms;

  ~Library() {
    if (handle) destroy(handle);
    if (file) dlclose(file);
  }
  std::string open() {
    const std::string name = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
    file = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!file) return name + " was not found; it comes with the CUDA toolkit";
    bool all = true;
    const auto find = [&](auto& function, const char* symbol) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(file, symbol));
      all = all && function;
    };
    find(create, "cublasLtCreate");
    find(destroy, "cublasLtDestroy");
    find(matmul, "cublasLtMatmul");
    find(heuristic, "cublasLtMatmulAlgoGetHeuristic");
    find(descCreate, "cublasLtMatmulDescCreate");
    find(descDestroy, "cublasLtMatmulDescDestroy");
    find(descSet, "cublasLtMatmulDescSetAttribute");
    find(layoutCreate, "cublasLtMatrixLayoutCreate");
    find(layoutDestroy, "cublasLtMatrixLayoutDestroy");
    find(preferenceCreate, "cublasLtMatmulPreferenceCreate");
    find(preferenceDestroy, "cublasLtMatmulPreferenceDestroy");
    find(preferenceSet, "cublasLtMatmulPreferenceSetAttribute");
    if (!all) return name + " lacks a function; it is of another version than the program was built for";
    if (create(&handle) != CUBLAS_STATUS_SUCCESS) return name + " could not be started on this device";
    return "";
  }
};

Cublas::Cublas(Ledger& ledger, bool wanted) {
  if (!wanted) return;
  auto library = std::make_unique<Library>();
  reason_ = library->open();
  if (!reason_.empty()) return;
  library_ = std::move(library);
  workspace_ = DeviceBuffer(ledger, MemoryTag::activations, kWorkspaceBytes);
}

namespace {

// What describes a product to the library, freed in every case.
struct Description {
  template <class Library>
  Description(const Library& lt, const Cublas::Product& p) {
    const cudaDataType_t type = p.type == Storage::f16 ? CUDA_R_16F : CUDA_R_16BF;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    destroy = [&lt](Description& d) {
      if (d.y) lt.layoutDestroy(d.y);
      if (d.x) lt.layoutDestroy(d.x);
      if (d.w) lt.layoutDestroy(d.w);
      if (d.operation) lt.descDestroy(d.operation);
    };
    // The library's matrices are column-major: ours of [rows, cols] is one of cols x rows.
    check(lt.descCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "description");
    check(lt.descSet(operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed), "description");
    const auto cols = static_cast<uint64_t>(p.cols), rows = static_cast<uint64_t>(p.rows), tokens = static_cast<uint64_t>(p.tokens);
    check(lt.layoutCreate(&w, type, cols, rows, p.cols), "layout");
    check(lt.layoutCreate(&x, type, cols, tokens, p.cols), "layout");
    check(lt.layoutCreate(&y, CUDA_R_32F, rows, tokens, p.yStride), "layout");
  }
  ~Description() {
    if (destroy) destroy(*this);
  }
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
  std::function<void(Description&)> destroy;
};

}  // namespace

void Cublas::multiply(Stream stream, const Product& p) {
  CHECK(library_);
  Library& lt = *library_;
  const Description d(lt, p);
  const Library::Shape shape{p.type, p.rows, p.cols, p.tokens, p.yStride, p.accumulate};
  auto found = lt.algorithms.find(shape);
  if (found == lt.algorithms.end()) {
    cublasLtMatmulPreference_t preference = nullptr;
    check(lt.preferenceCreate(&preference), "preference");
    const size_t workspace = kWorkspaceBytes;
    cublasLtMatmulHeuristicResult_t result{};
    int count = 0;
    lt.preferenceSet(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    // No sums that meet in an order of their own: results must not vary from run to run.
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE;
    lt.preferenceSet(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions);
    const cublasStatus_t status = lt.heuristic(lt.handle, d.operation, d.w, d.x, d.y, d.y, preference, 1, &result, &count);
    lt.preferenceDestroy(preference);
    check(status, "choice of an algorithm");
    if (count == 0) throw DeviceError("cuBLASLt has no algorithm for a product of the model's shape.");
    found = lt.algorithms.emplace(shape, result.algo).first;
  }
  const float one = 1, beta = p.accumulate ? 1 : 0;
  check(lt.matmul(lt.handle, d.operation, &one, p.w, d.w, p.x, d.x, &beta, p.y, d.y, p.y, d.y, &found->second, workspace_.as<void>(),
                  kWorkspaceBytes, stream), "product");
}

#else

struct Cublas::Library {};
Cublas::Cublas(Ledger&, bool) : reason_("the program was built without cuBLASLt") {}
void Cublas::multiply(Stream, const Product&) { CHECK(library_, reason_); }

#endif

Cublas::~Cublas() = default;

}  // namespace winnow::cuda
