// SPDX-License-Identifier: GPL-3.0-or-later
// Ops of decoded tokens some of whose activations count as zero: what they would meet is not read. Counterpart of engine/cpu/backend_sparse.cpp; rows
// are computed one by one, as each leaves out something else.
#include <algorithm>
#include <array>

#include "engine/core/check.h"
#include "engine/cuda/forward.h"
#include "engine/sparsify/method.h"
#include "engine/sparsify/prompt.h"

namespace winnow::cuda {
namespace {

constexpr size_t kPlaces = SparseUse::kNeurons + 1;
size_t floats(int64_t n) { return static_cast<size_t>(n) * sizeof(float); }
size_t maskBytes(int64_t n) { return static_cast<size_t>(WeightFormat::chunks(static_cast<int>(n))) * sizeof(uint32_t); }
const ActivationMethod* methodOf(const ForwardInput& input) { return input.weights.sparse ? findActivationMethod(input.weights.sparse->method) : nullptr; }
Source rowOf(Source source, int row) {
  source.x += row * source.stride;
  if (source.up) source.up += row * source.stride;
  return source;
}

}  // namespace

Forward::RowLinears::RowLinears(std::span<const SparseLinear> all, int row) : count_(all.size()) {
  CHECK(count_ <= linears_.size(), count_);
  for (size_t i = 0; i < count_; ++i) {
    linears_[i] = all[i];
    linears_[i].target.y += row * linears_[i].target.yStride;
    targets_[i] = linears_[i].target;
    factors_[i] = linears_[i].factors;
  }
}

bool Forward::anySparse() const {
  return std::ranges::any_of(sparse_, [](const SparseStep* step) { return step != nullptr; });
}
const SparseLayer* Forward::sparseLayer(int row, int layer) const {
  const SparseStep* step = sparse_[static_cast<size_t>(row)];
  return step ? &step->layers[static_cast<size_t>(layer)] : nullptr;
}
const ChannelMajorLayer& Forward::channelsOf(const ForwardInput& input, const Op& op) {
  static const ChannelMajorLayer none;
  return input.weights.sparse ? input.weights.sparse->layers[static_cast<size_t>(op.layer)] : none;
}

// Whatever has channels may leave some out at the next token: room for it is taken with the rest.
void Forward::makeSparseRoom(const ForwardInput& input) {
  const ActivationMethod* method = methodOf(input);
  if (!method) return;
  const auto rows = static_cast<int64_t>(std::max<size_t>(sparse_.size(), 1));
  const int64_t widest = (std::max({model_.hidden, model_.qRows(), model_.ffn}) + ChannelMajor::kUnit - 1) / ChannelMajor::kUnit * ChannelMajor::kUnit;
  for (DeviceBuffer* buffer : {&kept_.masked, &kept_.rounded, &kept_.values}) need(*buffer, MemoryTag::activations, floats(widest));
  need(kept_.list, MemoryTag::activations, static_cast<size_t>(widest) * sizeof(int32_t));
  need(kept_.masks, MemoryTag::activations, maskBytes(widest));
  need(kept_.neurons, MemoryTag::activations, static_cast<size_t>(rows) * maskBytes(model_.ffn));
  needZeros(kept_.counts, MemoryTag::activations, static_cast<size_t>(rows) * static_cast<size_t>(model_.layers) * kPlaces * sizeof(int32_t));
  const int parts = std::max({columnParts(model_.qRows()) + 2 * columnParts(model_.kvRows()), 2 * columnParts(model_.ffn), columnParts(model_.hidden)});
  need(kept_.partial, MemoryTag::activations, floats(static_cast<int64_t>(columnScratchFloats(parts))));
  needZeros(kept_.tickets, MemoryTag::metadata, (static_cast<size_t>(parts) + 1) * sizeof(uint32_t));
  if (method->place != SparsePlace::prompt) return;
  need(squares_.sums, MemoryTag::activations, floats(int64_t{model_.layers} * model_.ffn));
  if (method->unitTokens) need(squares_.weights, MemoryTag::activations, floats(options_.batch));
  if (chosenNeurons_.size() < static_cast<size_t>(rows)) chosenNeurons_.resize(static_cast<size_t>(rows));
  const auto layers = static_cast<size_t>(model_.layers);
  for (ChosenNeurons& chosen : chosenNeurons_) {
    need(chosen.lists, MemoryTag::activations, layers * static_cast<size_t>(model_.ffn) * sizeof(int32_t));
    need(chosen.masks, MemoryTag::activations, layers * maskBytes(model_.ffn));
    need(chosen.counts, MemoryTag::metadata, layers * sizeof(int32_t));
  }
}

// What a prompt chose goes over once, and stays until another comes.
void Forward::uploadNeurons() {
  for (size_t row = 0; row < sparse_.size(); ++row) {
    const SparseStep* step = sparse_[row];
    if (!step || std::ranges::none_of(step->layers, [](const SparseLayer& layer) { return layer.chosen; })) continue;
    ChosenNeurons& there = chosenNeurons_[row];
    if (there.serial == step->serial) continue;
    const size_t ffn = static_cast<size_t>(model_.ffn), words = maskBytes(model_.ffn) / sizeof(uint32_t), layers = step->layers.size();
    std::vector<int32_t> lists(layers * ffn), counts;
    std::vector<uint32_t> masks(layers * words);
    for (size_t layer = 0; layer < layers; ++layer) {
      const std::vector<int32_t>& neurons = step->layers[layer].neurons;
      std::ranges::copy(neurons, lists.begin() + static_cast<std::ptrdiff_t>(layer * ffn));
      counts.push_back(static_cast<int32_t>(neurons.size()));
      for (const int32_t neuron : neurons) masks[layer * words + static_cast<size_t>(neuron) / 32] |= 1u << (neuron % 32);
    }
    there.lists.copyFrom(stream_, lists.data(), lists.size() * sizeof(int32_t));
    there.masks.copyFrom(stream_, masks.data(), masks.size() * sizeof(uint32_t));
    there.counts.copyFrom(stream_, counts.data(), counts.size() * sizeof(int32_t));
    there.serial = step->serial;
  }
}

int32_t* Forward::countAt(int row, int layer, size_t place) const {
  return kept_.counts.as<int32_t>() + (static_cast<size_t>(row) * static_cast<size_t>(model_.layers) + static_cast<size_t>(layer)) * kPlaces + place;
}

std::vector<int32_t> Forward::keptCounts(size_t rows) const {
  std::vector<int32_t> counts(rows * static_cast<size_t>(model_.layers) * kPlaces);
  kept_.counts.copyTo(stream_, counts.data(), counts.size() * sizeof(int32_t));
  return counts;
}

uint32_t* Forward::neuronMasks(int row) const { return kept_.neurons.as<uint32_t>() + row * static_cast<int64_t>(maskBytes(model_.ffn) / sizeof(uint32_t)); }

// Entries above the threshold; without a count a row as products by channel see it, and the last list stays.
KeptRow Forward::keep(const Source& x, int cols, float threshold, ActivationMode mode, int32_t* count, const uint32_t* within, uint32_t* masks) {
  KeepArgs args;
  args.source = x;
  args.cols = cols;
  args.threshold = threshold;
  args.within = within;
  args.mode = mode;
  args.kept = {kept_.masked.as<float>(), kept_.rounded.as<float>(), masks ? masks : kept_.masks.as<uint32_t>(), kept_.list.as<int32_t>(), kept_.values.as<float>(), count};
  args.ticket = kept_.tickets.as<uint32_t>();
  keepRow(stream_, args);
  return args.kept;
}

void Forward::skips(const ForwardInput& input, const Op& op, int row, size_t place, std::span<const SparseLinear> linears, int of) {
  Skip skip{static_cast<size_t>(&op - input.plan.ops.data()), row, op.layer, place, of, linears.size(), {}};
  for (size_t i = 0; i < linears.size(); ++i) skip.matrices[i] = {linears[i].w, linears[i].channels};
  skips_.push_back(skip);
}

// body(mode, linears) for those that round what they multiply alike.
template <class Body>
void Forward::eachMode(const ForwardInput& input, std::span<const SparseLinear> linears, Body body) {
  std::array<bool, kMostTargets> done{};
  for (size_t i = 0; i < linears.size(); ++i) {
    if (done[i]) continue;
    std::vector<ChannelTarget> same;
    const ActivationMode mode = activationMode(input.activations, linears[i].w->format);
    for (size_t j = i; j < linears.size(); ++j) {
      if (done[j] || activationMode(input.activations, linears[j].w->format) != mode) continue;
      const Target& target = linears[j].target;
      same.push_back({linears[j].channels, target.w, target.y, target.bias, target.accumulate});
      done[j] = true;
    }
    body(mode, std::span<const ChannelTarget>(same));
  }
}

void Forward::linearRow(const ForwardInput& input, const Op& op, int row, LinearInput which, std::span<const SparseLinear> linears, Source x, int cols) {
  const RowLinears own(linears, row);
  const auto place = static_cast<size_t>(which);
  const SparseLayer* sparse = sparseLayer(row, op.layer);
  x = rowOf(x, row);
  if (!sparse || sparse->input[place] < 0) {
    products_.multiply(own.targets(), x, 1, cols, input.activations, own.factors());
  } else {
    const uint32_t* neuronsIn = which == LinearInput::down ? neuronsOf(row, op.layer) : nullptr;  // others were not computed
    eachMode(input, own.linears(), [&](ActivationMode mode, std::span<const ChannelTarget> same) {
      const KeptRow kept = keep(x, cols, sparse->input[place], mode, countAt(row, op.layer, place), neuronsIn);
      multiplyColumns(stream_, same, kept, cols, {kept_.partial.as<float>(), kept_.tickets.as<uint32_t>() + 1});
    });
    x = {kept_.masked.as<float>(), cols};
    products_.addErrors(own.targets(), own.factors(), x, 1, cols, input.activations);
    skips(input, op, row, place, own.linears(), cols);
  }
  const LayerWeights& w = input.weights.layers[static_cast<size_t>(op.layer)];
  if (which == LinearInput::down && w.downCorrections) correct(stream_, *w.downCorrections, x, 1, own.targets()[0].y, own.targets()[0].yStride);
}

// Bits of the neurons that take part, once gateUpRow() has found them; null where down's inputs say so themselves.
const uint32_t* Forward::neuronsOf(int row, int layer) const {
  const SparseLayer* sparse = sparseLayer(row, layer);
  if (!sparse || !(sparse->chosen || sparse->gate >= 0)) return nullptr;
  if (!sparse->chosen) return neuronMasks(row);
  return chosenNeurons_[static_cast<size_t>(row)].masks.as<uint32_t>() + layer * static_cast<int64_t>(maskBytes(model_.ffn) / sizeof(uint32_t));
}

void Forward::gateUpRow(const ForwardInput& input, const Op& op, int row, std::span<const SparseLinear> linears /* up, then gate */, const Source& x) {
  const SparseLayer* sparse = sparseLayer(row, op.layer);
  if (!neuronsOf(row, op.layer)) return linearRow(input, op, row, LinearInput::ffn, linears, x, width(input));
  const RowLinears own(linears, row);
  const int ffn = linears[0].w->rows;
  const Source mine = rowOf(x, row);
  const size_t place = SparseUse::kNeurons;
  const int32_t *list = nullptr, *count = nullptr;
  size_t read = linears.size();  // both, or up alone
  if (sparse->chosen) {
    const ChosenNeurons& chosen = chosenNeurons_[static_cast<size_t>(row)];
    list = chosen.lists.as<int32_t>() + int64_t{op.layer} * model_.ffn;
    count = chosen.counts.as<int32_t>() + op.layer;
  } else {  // the gate says which
    products_.multiply(own.targets().subspan(1), mine, 1, width(input), input.activations, own.factors().subspan(1));
    Source gate{own.targets()[1].y, ffn, Source::Kind::activated};
    gate.activation = model_.activation;
    const KeptRow kept = keep(gate, ffn, sparse->gate, ActivationMode::f32, countAt(row, op.layer, place), nullptr, neuronMasks(row));
    list = kept.list;
    count = kept.count;
    read = 1;
  }
  eachMode(input, own.linears().first(read), [&](ActivationMode mode, std::span<const ChannelTarget> same) {
    const KeptRow whole = keep(mine, width(input), -1, mode, nullptr);
    multiplyRows(stream_, same, list, count, sparse->chosen ? static_cast<int>(sparse->neurons.size()) : ffn, whole.rounded);
  });
  products_.addErrors(own.targets().first(read), own.factors().first(read), mine, 1, width(input), input.activations);
  skips(input, op, row, place, own.linears().first(read), ffn);
}

// --- prompts -------------------------------------------------------------------------------------------------------------

void Forward::tapSquares(const Op& op, const PromptNeurons& prompt, const Source& source, int tokens, int cols) {
  CHECK(squares_.sums.bytes() > 0, op.layer);
  sumSquares(stream_, source, tokens, cols, prompt.unitTokens(), squares_.weights.as<float>(), squares_.sums.as<float>() + int64_t{op.layer} * model_.ffn);
}

void Forward::takeSquares(const ForwardInput& input, PromptNeurons& prompt) const {
  std::vector<float> sums(static_cast<size_t>(model_.ffn));
  for (const Op& op : input.plan.ops) {
    if (op.kind != OpKind::linear || !op.down) continue;
    const auto width = static_cast<size_t>(input.weights.layers[static_cast<size_t>(op.layer)].down->cols);
    squares_.sums.copyTo(stream_, sums.data(), width * sizeof(float), static_cast<size_t>(op.layer) * static_cast<size_t>(model_.ffn) * sizeof(float));
    prompt.add(op.layer, {sums.data(), width}, static_cast<int>(input.tokens.size()));
  }
}

}  // namespace winnow::cuda
