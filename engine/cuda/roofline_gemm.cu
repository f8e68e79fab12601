// SPDX-License-Identifier: GPL-3.0-or-later
// Matrix products of the vendor's library, loaded at run time: what prefill is compared with.
#include "engine/cuda/roofline.h"

#if defined(__CUDACC__) && __has_include(<cublasLt.h>)
#include <cuda_runtime.h>

#include <algorithm>
#include <vector>

#include "engine/cuda/checked.h"
#include "engine/cuda/cublas_functions.h"
#include "engine/cuda/fp8.h"
#include "engine/cuda/graph.h"

namespace winnow::cuda {
namespace {

constexpr size_t kWorkspace = size_t{64} << 20;

struct Handle {
  const CublasFunctions& lt;
  cublasLtHandle_t handle = nullptr;
  ~Handle() {
    if (handle) lt.destroy(handle);
  }
};

// E4M3 codes of bf16 values, the scales of their rows behind them.
DeviceBuffer encoded(Stream stream, Ledger& ledger, const DeviceBuffer& values, int rows, int cols) {
  DeviceBuffer out(ledger, MemoryTag::activations, fp8Bytes(rows, cols));
  auto* const codes = out.as<uint8_t>();
  encodeWeights(stream, {{Storage::bf16, 16, 0, true}, rows, cols, values.as<void>()}, 0, rows, codes, reinterpret_cast<float*>(codes + int64_t{rows} * cols));
  return out;
}

std::optional<GemmTime> failed(std::string* why, const std::string& what) {
  if (why) *why = what;
  return std::nullopt;
}

}  // namespace

std::optional<GemmTime> measureGemm(Stream stream, const GemmShape& s, GemmType type, std::string* why) {
  constexpr int kRounds = 15, kWarmUp = 3;
  CublasFunctions lt;
  if (!lt.load()) return failed(why, CublasFunctions::file() + " can't be loaded");
  Handle h{lt};
  CublasProduct d(lt);
  const bool fp8 = type == GemmType::e4m3;
  const cudaDataType_t element = fp8 ? CUDA_R_8F_E4M3 : type == GemmType::bf16 ? CUDA_R_16BF : CUDA_R_16F, result = type == GemmType::f16 ? CUDA_R_16F : CUDA_R_16BF;
  if (lt.create(&h.handle) != CUBLAS_STATUS_SUCCESS ||
      d.make(element, result, s.rows, s.cols, s.depth, s.rows, kWorkspace, false) != CUBLAS_STATUS_SUCCESS)
    return failed(why, "cuBLASLt refused the shape");
  cublasLtMatmulHeuristicResult_t choice{};
  int found = 0;
  if (lt.choose(h.handle, d.product, d.w, d.x, d.y, d.y, d.preference, 1, &choice, &found) != CUBLAS_STATUS_SUCCESS || found == 0)
    return failed(why, "cuBLASLt has no algorithm for the shape");
  Ledger ledger;
  const auto buffer = [&](int64_t rows, int64_t cols) {
    return DeviceBuffer(ledger, MemoryTag::activations, static_cast<size_t>(rows * cols) * sizeof(uint16_t));
  };
  const DeviceBuffer w = buffer(s.rows, s.depth), x = buffer(s.cols, s.depth), y = buffer(s.cols, s.rows);
  const DeviceBuffer workspace(ledger, MemoryTag::activations, kWorkspace);
  const Storage storage = type == GemmType::f16 ? Storage::f16 : Storage::bf16;
  fillUniform(stream, w.as<void>(), storage, int64_t{s.rows} * s.depth, -0.05f, 0.05f, 1);
  fillUniform(stream, x.as<void>(), storage, int64_t{s.cols} * s.depth, -1.0f, 1.0f, 2);
  DeviceBuffer wCodes, xCodes;
  if (fp8) wCodes = encoded(stream, ledger, w, s.rows, s.depth), xCodes = encoded(stream, ledger, x, s.cols, s.depth);
  const void *wData = fp8 ? wCodes.as<void>() : w.as<void>(), *xData = fp8 ? xCodes.as<void>() : x.as<void>();
  const float one = 1, zero = 0;
  EventMarks marks(stream, 1);
  std::vector<double> times;
  for (int round = 0; round < kWarmUp + kRounds; ++round) {
    marks.begin(0);
    const cublasStatus_t status = lt.multiply(h.handle, d.product, &one, wData, d.w, xData, d.x, &zero, y.as<void>(), d.y,
                                              y.as<void>(), d.y, &choice.algo, workspace.as<void>(), kWorkspace, stream);
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
