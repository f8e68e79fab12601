// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cache/evictor.h"

#include <algorithm>
#include <atomic>
#include <iterator>

#include "engine/core/check.h"
#include "engine/knobs/knobs.h"

namespace winnow {
namespace {

const KvPolicyInfo& policyInfo(const std::string& name) {
  for (const KvPolicyInfo& info : kvPolicies())
    if (info.name == name) return info;
  CHECK(false, "no policy", name);
  return kvPolicies()[0];
}

bool follows(std::span<const LayerSharing> sharing, int layer, int leader) { return sharing[static_cast<size_t>(layer)].attnSource == leader; }

}  // namespace

EvictionSettings EvictionSettings::of(const Config& config) {
  EvictionSettings settings;
  settings.policy = config.text("kv.policy");
  settings.budget = config.real("kv.budget");
  settings.sinks = policyInfo(settings.policy).usesSinks ? static_cast<int>(config.integer("kv.sinks")) : 0;
  settings.interval = static_cast<int>(config.integer("kv.interval"));
  return settings;
}

Evictor::Evictor() : info_(&kvPolicies()[0]), policy_(info_->make()) {}

void Evictor::configure(const EvictionSettings& settings, KvCache& cache) {
  settings_ = settings;
  info_ = &policyInfo(settings.policy);
  policy_ = info_->make();
  cache.trackColumnSums(info_->needsColumnSums);
}

int64_t Evictor::kept(int64_t fed) const { return evicts() ? keptTokens(settings_.budget, fed, settings_.sinks) : fed; }

int64_t Evictor::apply(KvCache& cache, std::span<const LayerSharing> sharing, int64_t fed, ThreadPool& pool) {
  last_ = fed;
  const auto keep = static_cast<int>(kept(fed));
  const int heads = cache.kvHeads(), layers = cache.layers();
  std::atomic<int64_t> evicted{0};
  cache.readSums();
  pool.run([&](int thread, int threads) {
    std::vector<int32_t> slots;
    const auto range = ThreadPool::split(int64_t{layers} * heads, 1, thread, threads);
    for (int64_t i = range.begin; i < range.end; ++i) {
      const int leader = static_cast<int>(i / heads), head = static_cast<int>(i % heads);
      if (!follows(sharing, leader, leader)) continue;  // its leader's thread sees to it: not even its length may be read here
      const int held = cache.slots(leader, head);
      if (held <= keep) continue;
      policy_->select({leader, head, cache.positions(leader, head), cache.columnSums(leader, head)}, {keep, settings_.sinks}, slots);
      for (int layer = leader; layer < layers; ++layer) {
        if (!follows(sharing, layer, leader)) continue;
        cache.keep(layer, head, slots);
        evicted.fetch_add(held - static_cast<int64_t>(slots.size()), std::memory_order_relaxed);
      }
    }
  });
  cache.settle();
  return evicted.load();
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
