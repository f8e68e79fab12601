// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cache/evictor.h"

#include <algorithm>
#include <atomic>
#include <iterator>

#include "engine/knobs/knobs.h"

namespace winnow {
namespace {

bool follows(std::span<const LayerSharing> sharing, int layer, int leader) { return sharing[static_cast<size_t>(layer)].attnSource == leader; }

}  // namespace

EvictionSettings EvictionSettings::of(const Config& config) {
  EvictionSettings settings;
  settings.policy = config.text("kv.policy");
  settings.budget = config.real("kv.budget");
  const KvPolicyInfo& info = kvPolicy(settings.policy);
  settings.sinks = info.once ? 0 : static_cast<int>(config.integer(info.protectedFirst()));
  settings.interval = static_cast<int>(config.integer("kv.interval"));
  settings.seed = info.draws ? static_cast<uint32_t>(config.integer("kv.seed")) : 0;
  settings.positionsInCache = info.keepsRuns && config.text("kv.positions") == "cache";
  settings.recent = info.once ? 0 : static_cast<int>(config.integer("kv.recent"));
  settings.promptsWhole = config.text("kv.when") == "prompt_end";
  settings.allocation = kvAllocation(config.text("kv.allocation"), info.allocation);
  return settings;
}

Evictor::Evictor() : info_(&kvPolicies()[0]), policy_(info_->make()) {}

void Evictor::configure(const EvictionSettings& settings, KvCache& cache) {
  if (settings.policy != settings_.policy) began_ = -1;
  settings_ = settings;
  info_ = &kvPolicy(settings.policy);
  policy_ = info_->make();
  cache.observe(info_->observes);
  cache.countWithin(settings.positionsInCache);
  cache.select(info_->selects ? settings.budget : 0);
}

int64_t Evictor::kept(int64_t fed) const { return evicts() ? keptTokens(settings_.budget, fed, settings_.sinks) : fed; }

int Evictor::interval(int64_t fed) const {
  constexpr int64_t kLeast = 16, kMost = 1024, kShare = 32;
  if (settings_.interval > 0) return settings_.interval;
  const int64_t most = info_->reads.carries ? info_->observes.newest : kMost;  // it has to see every query once
  return static_cast<int>(std::clamp(kept(fed) / kShare, kLeast, most));
}

bool Evictor::due(int64_t fed, Fed as) const {
  if (!evicts()) return false;
  if (once()) return as == Fed::promptEnd || (as == Fed::token && began_ < 0);
  if (settings_.promptsWhole && as != Fed::token) return as == Fed::promptEnd;
  return fed - last_ >= interval(fed);
}

void Evictor::ran(int64_t fed) {
  last_ = fed;
  if (began_ < 0) began_ = fed;
}

int Evictor::recent(int64_t fed) const { return static_cast<int>(info_->recentShare * static_cast<double>(kept(fed))); }

int Evictor::window(int64_t fed) const {
  if (info_->reads.queries) return 0;
  return static_cast<int>(std::min<int64_t>(info_->observes.newest, std::max<int64_t>(1, kept(fed) / 2)));
}

bool Evictor::wouldHold(const KvCache& cache, std::span<const LayerSharing> sharing, int64_t fed) const {
  int64_t held = 0, wanted = 0;
  for (int layer = 0; layer < cache.layers(); ++layer) {
    if (!cache.holds(layer)) continue;
    held += cache.slotsSeen(layer);
    wanted += (sharing[static_cast<size_t>(layer)].keepsAll ? fed : kept(fed)) * cache.kvHeads();
  }
  return held < wanted;
}

struct Evictor::LayerWork {
  std::vector<std::vector<float>> scores;  // [heads][slots]
  std::vector<std::vector<int32_t>> kept;  // [heads]
  Buffer keys, values;                     // [threads, slots of the longest head, headDim], where the policy reads them
  Buffer queries;                          // [count, query heads, headDim]
  int count = 0, fresh = 0;                // queries
};

void Evictor::read(KvCache& cache, int layer, int threads, LayerWork& work) const {
  const KvReads& reads = info_->reads;
  const size_t rows = static_cast<size_t>(threads) * static_cast<size_t>(cache.longest(layer)) * static_cast<size_t>(cache.geometry().headDim);
  const auto grow = [&](Buffer& buffer, size_t floats) {
    if (buffer.bytes() < floats * sizeof(float)) buffer = cache.scratch(floats);
  };
  if (reads.keys) grow(work.keys, rows);
  if (reads.values) grow(work.values, rows);
  if (reads.keys || reads.values) cache.fetchRows(layer, reads.keys, reads.values);
  if (!reads.queries || work.count == 0) return;
  grow(work.queries, static_cast<size_t>(work.count * cache.queryFloats()));
  cache.newestQueries(layer, work.count, work.queries.as<float>());
}

void Evictor::score(KvCache& cache, int layer, int head, int thread, const KvRequest& request, LayerWork& work) const {
  const KvReads& reads = info_->reads;
  std::vector<float>& scores = work.scores[static_cast<size_t>(head)];
  KvSlots slots{layer, head, cache.positions(layer, head), {}};
  if (!reads.queries) slots.columnSums = cache.columnSums(layer, head);
  slots.geometry = cache.geometry();
  const size_t floats = slots.positions.size() * static_cast<size_t>(slots.geometry.headDim);
  const auto rows = [&](const Buffer& buffer, bool keys) -> std::span<const float> {
    float* out = buffer.as<float>() + int64_t{thread} * cache.longest(layer) * slots.geometry.headDim;
    cache.readRows(layer, head, keys, out);
    return {out, floats};
  };
  if (reads.keys) slots.keys = rows(work.keys, true);
  if (reads.values) slots.values = rows(work.values, false);
  if (reads.queries && work.count > 0)
    slots.queries = {work.queries.as<float>() + int64_t{head} * slots.geometry.group * slots.geometry.headDim, cache.queryFloats(),
                     slots.positions.back() - work.count + 1, work.count, work.fresh};
  if (reads.carries) slots.carried = cache.carried(layer, head);
  scores.resize(slots.positions.size());
  policy_->score(slots, request, scores);
  const int first = std::min(settings_.sinks, request.keep - 1);
  for (size_t slot = 0; slot < scores.size() && slots.positions[slot] < first; ++slot) scores[slot] = KvPolicy::kAlways;
  const int recent = std::min(settings_.recent, request.keep - settings_.sinks);
  for (size_t slot = scores.size(); slot-- > 0 && slots.positions[slot] > slots.positions.back() - recent;) scores[slot] = KvPolicy::kAlways;
}

bool Evictor::choose(KvCache& cache, int layer, const KvRequest& request, ThreadPool* pool, LayerWork& work) const {
  const int keep = request.keep;
  const auto heads = static_cast<size_t>(cache.kvHeads());
  bool loses = false, together = settings_.allocation == KvAllocation::perLayer;
  for (int head = 0; head < cache.kvHeads(); ++head) {
    loses |= cache.slots(layer, head) > keep;
    together = together && std::ranges::equal(cache.positions(layer, head), cache.positions(layer, 0));
  }
  if (!loses && !info_->reads.carries) return false;
  work.scores.resize(heads);
  work.kept.resize(heads);
  const auto scoreHeads = [&](int thread, int threads) {
    const auto range = ThreadPool::split(cache.kvHeads(), 1, thread, threads);
    for (int64_t head = range.begin; head < range.end; ++head) score(cache, layer, static_cast<int>(head), thread, request, work);
  };
  if (info_->reads.rows()) read(cache, layer, pool ? pool->threads() : 1, work);
  pool ? pool->run(scoreHeads) : scoreHeads(0, 1);
  if (!loses) return false;
  // Heads that kept different slots under another policy go on by themselves.
  if (together) {
    for (size_t head = 1; head < heads; ++head)
      for (size_t slot = 0; slot < work.scores[0].size(); ++slot) work.scores[0][slot] += work.scores[head][slot];
    std::fill(work.scores.begin() + 1, work.scores.end(), work.scores[0]);
  }
  const std::vector<int> budgets =
      settings_.allocation == KvAllocation::adaptive ? adaptiveBudgets(work.scores, keep) : std::vector<int>(heads, keep);
  for (size_t head = 0; head < heads; ++head)
    keepBest(work.scores[head], std::min(budgets[head], static_cast<int>(work.scores[head].size())), work.kept[head]);
  return true;
}

int64_t Evictor::apply(KvCache& cache, std::span<const LayerSharing> sharing, int64_t fed, ThreadPool& pool) {
  const int count = std::min(cache.queriesKept(), info_->observes.newest), fresh = static_cast<int>(std::min<int64_t>(count, fed - last_));
  ran(fed);
  std::vector<int> leaders;
  for (int layer = 0; layer < cache.layers(); ++layer)
    if (cache.holds(layer) && follows(sharing, layer, layer) && !sharing[static_cast<size_t>(layer)].keepsAll) leaders.push_back(layer);
  const int window = info_->recentShare > 0 ? recent(fed) : this->window(fed);
  const KvRequest request{static_cast<int>(kept(fed)), settings_.sinks, std::max(1, window), settings_.seed, began_};
  std::vector<int> budgets(leaders.size(), request.keep);
  if (settings_.allocation == KvAllocation::pyramid && !leaders.empty())
    budgets = pyramidBudgets(static_cast<int>(leaders.size()), request.keep, std::min(request.keep, window), static_cast<int>(fed), info_->pyramidBeta);
  std::atomic<int64_t> evicted{0};
  if (!info_->reads.queries || info_->reads.carries) cache.readSums();
  const auto evict = [&](int64_t begin, int64_t end, ThreadPool* heads) {
    LayerWork work;
    work.count = count;
    work.fresh = fresh;
    for (int64_t i = begin; i < end; ++i) {
      const int leader = leaders[static_cast<size_t>(i)];
      KvRequest own = request;
      own.keep = budgets[static_cast<size_t>(i)];
      if (!choose(cache, leader, own, heads, work)) continue;
      for (int layer = leader; layer < cache.layers(); ++layer) {
        if (!follows(sharing, layer, leader)) continue;
        for (int head = 0; head < cache.kvHeads(); ++head) {
          const std::vector<int32_t>& slots = work.kept[static_cast<size_t>(head)];
          evicted.fetch_add(cache.slots(layer, head) - static_cast<int64_t>(slots.size()), std::memory_order_relaxed);
          cache.keep(layer, head, slots);
        }
      }
    }
  };
  const auto layers = static_cast<int64_t>(leaders.size());
  if (info_->reads.rows()) {  // layer by layer: one layer's rows are at hand at a time, and a device is asked on one thread
    evict(0, layers, &pool);
  } else {
    pool.run([&](int thread, int threads) {
      const auto range = ThreadPool::split(layers, 1, thread, threads);
      evict(range.begin, range.end, nullptr);
    });
  }
  if (info_->reads.carries) cache.writeSums();
  cache.settle();
  return evicted.load();
}

int64_t promptBytes(const KvCache& cache, const Evictor& evictor, std::span<const LayerSharing> sharing, int64_t tokens, int batch) {
  const bool narrows = evictor.evicts() && !evictor.once() && !evictor.settings().promptsWhole;  // after each batch
  const int64_t narrowed = narrows ? std::min(tokens, evictor.kept(tokens) + batch) : tokens;
  int64_t bytes = 0;
  for (int layer = 0; layer < cache.layers(); ++layer)
    bytes += cache.unsealedBytesOf(layer, sharing[static_cast<size_t>(layer)].keepsAll ? tokens : narrowed);
  return bytes;
}

int64_t unifyGroups(KvCache& cache, std::span<const LayerSharing> sharing) {
  int64_t left = 0;
  const int layers = cache.layers();
  for (int leader = 0; leader < layers; ++leader) {
    if (!follows(sharing, leader, leader)) continue;
    for (int head = 0; head < cache.kvHeads(); ++head) {
      const auto own = cache.positions(leader, head);
      std::vector<int32_t> common(own.begin(), own.end());
      for (int layer = leader + 1; layer < layers; ++layer) {
        if (!follows(sharing, layer, leader)) continue;
        const auto other = cache.positions(layer, head);
        std::vector<int32_t> both;
        std::set_intersection(common.begin(), common.end(), other.begin(), other.end(), std::back_inserter(both));
        common = std::move(both);
      }
      for (int layer = leader; layer < layers; ++layer) {
        if (!follows(sharing, layer, leader)) continue;
        const auto held = cache.positions(layer, head);
        std::vector<int32_t> slots;
        for (size_t slot = 0; slot < held.size(); ++slot)
          if (std::binary_search(common.begin(), common.end(), held[slot])) slots.push_back(static_cast<int32_t>(slot));
        left += static_cast<int64_t>(held.size() - slots.size());
        cache.keep(layer, head, slots);
      }
    }
  }
  cache.settle();
  for (int layer = 0; layer < layers; ++layer)
    if (!follows(sharing, layer, layer) && cache.ownsKeys(layer)) cache.dropKeys(layer);
  return left;
}

}  // namespace winnow
