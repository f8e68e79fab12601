// SPDX-License-Identifier: GPL-3.0-or-later
// Segments of a prompt that attend to some blocks of what lies before them; the counterpart of CpuBackend::chooseBlocks.
#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/core/check.h"
#include "engine/cuda/forward.h"

namespace winnow::cuda {
namespace {

const DeviceKvCache& cacheOf(const SequenceRows& sequence) { return static_cast<const DeviceKvCache&>(*sequence.cache); }

}  // namespace

// A segment that begins within twice the budget attends to everything; the paper's defaults are 2048 and 4096 tokens.
bool Forward::mayChooseBlocks(const ForwardInput& input) const {
  if (input.criticalBudget <= 0 || input.sequences.size() > 1) return false;
  const SequenceRows& sequence = input.sequences.front();
  return sequence.count > 1 && !turns(cacheOf(sequence)) && sequence.first >= 2 * int64_t{input.criticalBudget};
}

void Forward::makeCriticalRoom(const ForwardInput& input) {
  critical_.list = {};  // of the pass before
  critical_.before = -1;
  critical_.chose.assign(static_cast<size_t>(model_.layers), false);
  if (!mayChooseBlocks(input)) return;
  const auto heads = static_cast<size_t>(model_.kvHeads), blocks = heads * static_cast<size_t>((options_.context + kCriticalSlots - 1) / kCriticalSlots);
  need(critical_.centers, MemoryTag::activations, static_cast<size_t>(model_.qRows()) * sizeof(float));
  for (DeviceBuffer* buffer : {&critical_.fresh, &critical_.worth}) need(*buffer, MemoryTag::metadata, blocks * sizeof(float));
  for (DeviceBuffer* buffer : {&critical_.blocks, &critical_.taken}) need(*buffer, MemoryTag::metadata, blocks * sizeof(int32_t));
  need(critical_.counts, MemoryTag::metadata, heads * sizeof(int32_t));
  need(critical_.slots, MemoryTag::metadata, static_cast<size_t>(model_.layers) * heads * sizeof(int32_t));
}

// The first layer attends to everything, and so does one that has lost slots.
CriticalList Forward::chooseBlocks(const ForwardInput& input, const Op& op, const float* q) {
  const auto first = std::ranges::find(input.plan.ops, OpKind::attend, &Op::kind);
  const int below = std::exchange(critical_.before, -1);
  if (!mayChooseBlocks(input) || op.layer == first->layer) return {};
  const SequenceRows& sequence = input.sequences.front();
  const DeviceKvCache& cache = cacheOf(sequence);
  const int before = static_cast<int>(sequence.first);
  for (int head = 0; head < model_.kvHeads; ++head)
    if (cache.slots(op.source, head) != before) return {};
  CriticalArgs args;
  args.q = q;
  args.queries = sequence.count;
  args.heads = model_.heads;
  args.kvHeads = model_.kvHeads;
  args.headDim = model_.headDim;
  args.kv = cache.tables(op.source, op.source);
  args.before = before;
  args.count = std::max(input.criticalBudget / kCriticalSlots, 1);
  args.scale = attendArgs().scale;
  args.slidingWindow = model_.slidingWindow;
  args.mixes = below == before;
  args.centers = critical_.centers.as<float>();
  args.fresh = critical_.fresh.as<float>();
  args.worth = critical_.worth.as<float>();
  args.stride = (options_.context + kCriticalSlots - 1) / kCriticalSlots;
  args.blocks = critical_.blocks.as<int32_t>();
  args.taken = critical_.taken.as<int32_t>();
  args.counts = critical_.counts.as<int32_t>();
  args.slots = critical_.slots.as<int32_t>() + op.layer * model_.kvHeads;
  critical_.before = before;
  critical_.chose[static_cast<size_t>(op.layer)] = true;
  return chooseCritical(stream_, args);
}

std::vector<int64_t> Forward::criticalSlots() const {
  std::vector<int64_t> out(static_cast<size_t>(model_.layers), -1);
  std::vector<int32_t> slots(static_cast<size_t>(model_.kvHeads));
  const size_t bytes = slots.size() * sizeof(int32_t);
  for (size_t layer = 0; layer < out.size(); ++layer) {
    if (!critical_.chose[layer]) continue;
    critical_.slots.copyTo(stream_, slots.data(), bytes, layer * bytes);
    out[layer] = std::accumulate(slots.begin(), slots.end(), int64_t{0});
  }
  return out;
}

}  // namespace winnow::cuda
