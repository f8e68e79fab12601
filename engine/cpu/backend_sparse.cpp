// SPDX-License-Identifier: GPL-3.0-or-later
// Ops of a decoded token some of whose activations count as zero. What they would meet is not read; prompts never come here.
#include <algorithm>
#include <array>
#include <cmath>

#include "engine/core/check.h"
#include "engine/cpu/backend_step.h"
#include "engine/sparsify/skipped.h"

namespace winnow::cpu {
namespace {

constexpr size_t kMostLinears = 3;

}  // namespace

void CpuBackend::skipped(const Step& step, const Op& op, int row, size_t place, std::span<const Linear> linears, int64_t kept, int64_t of) {
  SparseUse& use = step.use(row);
  SparseCount& count = use.at(op.layer, place);
  count.kept += kept;
  count.of += of;
  for (const Linear& l : linears) {
    const Skipped skipped = skippedOf(*l.w, l.channels, kept, of, row > 0);
    skippedBytes_ += skipped.bytes;
    use.bytes += skipped.bytes;
    skippedFlops_ += skipped.flops;
  }
}

void CpuBackend::rowErrors(const Step& step, std::span<const Linear> linears, const float* x) {
  std::array<ErrorTarget, kMostLinears> errors;
  for (size_t i = 0; i < linears.size(); ++i) errors[i] = {linears[i].error, linears[i].y, linears[i].w->rows};
  cpu::addErrors(context_, {errors.data(), linears.size()}, x, linears[0].w->cols, 1, activationMode(step.in.activations, kFactorFormat.storage) == ActivationMode::f32);
}

void CpuBackend::denseRow(const Step& step, std::span<const Linear> linears, const float* x) {
  std::array<MatmulTarget, kMostLinears> targets;
  for (size_t i = 0; i < linears.size(); ++i) targets[i] = {linears[i].w, linears[i].y, linears[i].w->rows, linears[i].bias, linears[i].accumulate};
  matmul({targets.data(), linears.size()}, x, linears[0].w->cols, 1, step.in.activations);
  rowErrors(step, linears, x);
}

namespace {

SparseTarget sparseTarget(const Matrix& w, const ChannelMajor* channels, float* y, const float* bias, bool accumulate, Activations activations) {
  return {&w, channels, y, bias, accumulate, activationMode(activations, w.format)};
}

}  // namespace

void CpuBackend::linearRow(const Step& step, const Op& op, int row, LinearInput input, std::span<const Linear> linears, float* x) {
  CHECK(linears.size() <= kMostLinears, linears.size());
  std::array<Linear, kMostLinears> own;
  for (size_t i = 0; i < linears.size(); ++i) {
    own[i] = linears[i];
    own[i].y += int64_t{row} * linears[i].w->rows;
  }
  const std::span<const Linear> rows{own.data(), linears.size()};
  const SparseLayer* sparse = step.sparseLayer(row, op.layer);
  const auto place = static_cast<size_t>(input);
  if (!sparse || sparse->input[place] < 0) return denseRow(step, rows, x);
  const int cols = rows[0].w->cols;
  keepAbove(x, cols, sparse->input[place], kept_);
  std::array<SparseTarget, kMostLinears> targets;
  for (size_t i = 0; i < rows.size(); ++i) {
    CHECK(rows[i].channels && rows[i].channels->columns, op.layer);
    targets[i] = sparseTarget(*rows[i].w, rows[i].channels, rows[i].y, rows[i].bias, rows[i].accumulate, step.in.activations);
  }
  multiplyColumns(context_, {targets.data(), rows.size()}, kept_, x);
  rowErrors(step, rows, x);
  skipped(step, op, row, place, rows, static_cast<int64_t>(kept_.size()), cols);
}

void CpuBackend::gateUpRow(const Step& step, const Op& op, int row) {
  const LayerWeights& w = step.layer(op);
  const ChannelMajorLayer& channels = step.channels(op.layer);
  const SparseLayer* sparse = step.sparseLayer(row, op.layer);
  if (Step::choosesNeurons(sparse)) return chosenNeurons(step, op, row, *sparse);
  const int ffn = w.up->rows;
  float *x = buffers_.normed.as<float>() + int64_t{row} * step.width, *gate = buffers_.gate.as<float>(), *up = buffers_.up.as<float>();
  const Linear upLinear{w.up, w.upError, channels.up.get(), up, w.upBias};
  if (!model_.gatedFfn) {
    linearRow(step, op, row, LinearInput::ffn, {&upLinear, 1}, x);
    return cpu::activate(context_, model_.activation, up + int64_t{row} * ffn, nullptr, ffn);
  }
  const std::array<Linear, 2> linears = {{{w.gate, w.gateError, channels.gate.get(), gate, w.gateBias}, upLinear}};
  linearRow(step, op, row, LinearInput::ffn, linears, x);
  cpu::activate(context_, model_.activation, gate + int64_t{row} * ffn, up + int64_t{row} * ffn, ffn);
}

// What the neurons that take part hand to down goes where all of them would; the others are zero there.
void CpuBackend::chosenNeurons(const Step& step, const Op& op, int row, const SparseLayer& sparse) {
  const LayerWeights& w = step.layer(op);
  const ChannelMajorLayer& channels = step.channels(op.layer);
  const int64_t ffn = w.up->rows;
  const float* x = buffers_.normed.as<float>() + int64_t{row} * step.width;
  float* up = buffers_.up.as<float>() + row * ffn;
  float* gate = model_.gatedFfn ? buffers_.gate.as<float>() + row * ffn : nullptr;
  const Linear upLinear{w.up, w.upError, channels.up.get(), up, w.upBias}, gateLinear{w.gate, w.gateError, channels.gate.get(), gate, w.gateBias};
  const auto target = [&](const Linear& l) { return sparseTarget(*l.w, l.channels, l.y, l.bias, false, step.in.activations); };
  std::vector<Linear> read;  // those of which some rows are read
  if (!sparse.chosen) {  // the gate says which
    denseRow(step, {&gateLinear, 1}, x);
    cpu::activate(context_, model_.activation, gate, nullptr, ffn);
    keepAbove(gate, static_cast<int>(ffn), sparse.gate, kept_);
    read = {upLinear};
  } else {
    kept_ = sparse.neurons;
    read = gate ? std::vector<Linear>{gateLinear, upLinear} : std::vector<Linear>{upLinear};
  }
  std::array<SparseTarget, kMostLinears> targets;
  for (size_t i = 0; i < read.size(); ++i) targets[i] = target(read[i]);
  multiplyRows(context_, {targets.data(), read.size()}, kept_, x);
  rowErrors(step, read, x);
  if (sparse.chosen) {  // others hold what was there before
    float* first = gate ? gate : up;
    int64_t next = 0;
    for (const int32_t neuron : kept_) {
      std::fill(first + next, first + neuron, 0.0f);
      next = neuron + 1;
    }
    std::fill(first + next, first + ffn, 0.0f);
    cpu::activate(context_, model_.activation, first, nullptr, ffn);
  }
  if (gate)
    for (const int32_t neuron : kept_) gate[neuron] *= up[neuron];
  skipped(step, op, row, SparseUse::kNeurons, read, static_cast<int64_t>(kept_.size()), ffn);
}

}  // namespace winnow::cpu
