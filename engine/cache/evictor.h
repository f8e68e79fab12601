// SPDX-License-Identifier: GPL-3.0-or-later
// Runs the chosen policy over a cache: when, how much, and that layers sharing attention keep the same slots.
#pragma once
#include <memory>
#include <span>
#include <string>

#include "engine/cache/kv_cache.h"
#include "engine/cache/policy.h"
#include "engine/cache/registry.h"
#include "engine/core/threads.h"
#include "engine/plan/plan.h"

namespace winnow {

class Config;

struct EvictionSettings {
  std::string policy = "full";
  double budget = 1.0;
  int sinks = 0;      // first tokens that stay: kv.sinks, or kv.oldest where the policy has none of its own
  int interval = 0;   // tokens; 0: Evictor::interval() decides
  KvAllocation allocation{};
  uint32_t seed = 0;  // 0 where the policy draws nothing
  bool positionsInCache = false;  // kv.positions
  int recent = 0;                 // newest tokens that stay whatever the policy thinks of them, as far as the budget goes
  bool promptsWhole = false;      // a prompt is read whole before any of it goes
  bool operator==(const EvictionSettings&) const = default;
  static EvictionSettings of(const Config& config);
};

// What was fed last: a part of a prompt that goes on, the end of one, or a token by itself.
enum class Fed : uint8_t { promptPart, promptEnd, token };

class Evictor {
 public:
  Evictor();
  void configure(const EvictionSettings& settings, KvCache& cache);
  const EvictionSettings& settings() const { return settings_; }
  bool evicts() const { return settings_.policy != "full" && !info_->selects; }
  const ObservedQueries& observes() const { return info_->observes; }
  bool selects() const { return info_->selects; }  // reads less instead
  bool addsUp() const { return info_->observes.all || info_->reads.carries; }  // over all of the text
  int64_t kept(int64_t fed) const;  // slots of a head that stay after `fed` tokens, on average
  // Newest slots that stay in every layer, for a policy with a share of the budget for them.
  int recent(int64_t fed) const;
  // Newest queries whose attention the policy has to be shown before it evicts, at most half of what stays; 0 for one that needs none.
  int window(int64_t fed) const;
  // Whether it would hold more slots than the cache has: what is gone under another budget.
  bool wouldHold(const KvCache& cache, std::span<const LayerSharing> sharing, int64_t fed) const;

  // Tokens between two evictions. An eviction reads and moves what stays: unless it is told, it waits for a thirty-second of that, at least 16
  // tokens, so that its cost per token does not grow with the cache.
  int interval(int64_t fed) const;
  // A policy that chooses once does so at the end of a prompt, and in the middle of a text when it comes.
  bool due(int64_t fed, Fed as = Fed::token) const;
  bool once() const { return info_->once; }
  // Evicts down to kept(fed), dealt as settings().allocation says among the layers that do not keep all. Returns how many slots left, summed over heads and layers.
  int64_t apply(KvCache& cache, std::span<const LayerSharing> sharing, int64_t fed, ThreadPool& pool);
  void ran(int64_t fed);  // apply() did; or a rehearsal, which evicts nothing
  void restart() { last_ = 0, began_ = -1; }  // the cache was emptied

 private:
  struct LayerWork;
  void read(KvCache& cache, int layer, int threads, LayerWork& work) const;
  void score(KvCache& cache, int layer, int head, int thread, const KvRequest& request, LayerWork& work) const;
  // The slots each head of a layer keeps; false when it loses none. `pool` scores heads at once.
  bool choose(KvCache& cache, int layer, const KvRequest& request, ThreadPool* pool, LayerWork& work) const;

  const KvPolicyInfo* info_;
  std::unique_ptr<KvPolicy> policy_;
  EvictionSettings settings_;
  int64_t last_ = 0;    // tokens fed when the policy last ran
  int64_t began_ = -1;  // and when it first ran; -1: it did not
};

// The most bytes that the pages of a prompt take while they wait for its end in 16 bits. Layers whose cache eviction leaves alone hold all of it.
int64_t promptBytes(const KvCache& cache, const Evictor& evictor, std::span<const LayerSharing> sharing, int64_t tokens, int batch);

// Layers that share attention hold the same slots: keeps what every layer of a group still has. Followers lose their keys.
// Returns the slots that left, summed over heads and layers.
int64_t unifyGroups(KvCache& cache, std::span<const LayerSharing> sharing);

}  // namespace winnow
