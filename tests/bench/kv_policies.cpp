// SPDX-License-Identifier: GPL-3.0-or-later
// What a cache policy costs a token: decoding on a model's weights with a full cache of so many slots, and with one that the policy keeps at
// that length, a step of each in turn. The rows of the caches are random numbers: no prompt has to be read, and of a long interval all but
// kSteps tokens are made up too. What a policy adds is what a step takes longer (its taps) and what an eviction takes (looking, scoring,
// choosing, gathering), shared among the tokens between two. One thread, in processor time: what else the machine does counts only as far
// as it takes memory bandwidth. A policy that evicts nothing reads an eighth.
//   winnow-cli synthesize --shape 1b --type q8_0 --out 1b.gguf
//   bench_kv_policies 1b.gguf [rounds] [slots] [policy ...]
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "engine/cache/evictor.h"
#include "engine/cpu/kv_cache.h"
#include "engine/run/core.h"
#include "engine/weights/recipe.h"
#include "tests/bench/bench.h"

using namespace winnow;
using namespace winnow::bench;

namespace {

constexpr int kAtOnce = 512, kSteps = 8;  // tokens

double processorMs() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

class Bench {
 public:
  Bench(const std::shared_ptr<Engine>& engine, int slots)
      : core_(EngineCore::of(*engine)), slots_(slots), pool_(core_.threads), model_(core_.model->config()),
        weights_(need(core_.store.build(weightTarget(*core_.model, Config(), ""), pool_, core_.measurements(), {}))),
        plan_(buildPlan(model_, noSharing(model_.layers), weights_->parts)),
        backend_(core_.device->makeBackend(ledger_, pool_, core_.backendOptions({}, slots + kAtOnce))) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (const auto& [rows, width] : {std::pair(&k_, model_.kvRows()), std::pair(&v_, model_.kvRows()), std::pair(&q_, model_.qRows())})
      for (int i = 0; i < kAtOnce * width; ++i) rows->push_back(normal(random));
  }

  void compare(const std::string& policy, int rounds) {
    const Config config = need(need(Config().parsed("kv.policy", policy)).parsed("kv.budget", std::to_string(kvPolicy(policy).selects ? slots_ / 8 : slots_)));
    Held plain(*this, Config()), kept(*this, config);
    const bool evicts = kept.evictor.evicts();
    const int interval = evicts ? kept.evictor.interval(slots_) : kSteps;
    std::vector<double> step, added, evicting;
    for (int round = 0; round <= rounds; ++round) {
      for (int i = 0; i < kSteps; ++i) {
        const double without = stepOf(plain), with = stepOf(kept);
        if (round == 0) continue;
        step.push_back(without);
        added.push_back(with - without);
      }
      plain.shorten(slots_);
      if (!evicts) kept.shorten(slots_);
      if (evicts) makeUp(kept, interval - kSteps);
      const double eviction = evicts ? evict(kept) / interval : 0;
      if (round > 0) evicting.push_back(eviction);
    }
    const double all = median(added) + median(evicting);
    std::printf("%-13s every %3d   decode %7.2f   taps %+7.3f   eviction %7.3f   together %6.2f %% of a token   taps hold %5.2f MiB\n", policy.c_str(), interval, median(step),
                median(added), median(evicting), 100 * all / median(step), static_cast<double>(kept.tapBytes - plain.tapBytes) / (1 << 20));
    std::fflush(stdout);
  }

 private:
  struct Held {
    Held(Bench& bench, const Config& config) : cache(bench.backend_->makeCache(bench.slots_ + kAtOnce)) {
      const int64_t before = bench.ledger_.bytes(MemoryTag::metadata);
      evictor.configure(EvictionSettings::of(config), *cache);
      while (fed < bench.slots_) bench.makeUp(*this, kAtOnce);
      tapBytes = bench.ledger_.bytes(MemoryTag::metadata) - before;
      evictor.ran(fed);
    }
    void shorten(int slots) {
      cache->truncate(slots);
      fed = slots;
    }
    std::unique_ptr<KvCache> cache;
    Evictor evictor;
    int64_t fed = 0, tapBytes = 0;
  };
  void makeUp(Held& held, int count) {
    auto& cache = static_cast<cpu::HostKvCache&>(*held.cache);
    cache.reserve(count);
    for (int layer = 0; layer < model_.layers; ++layer) {
      cache.append(layer, k_.data(), v_.data(), model_.kvRows(), count, static_cast<int32_t>(held.fed), pool_);
      if (held.evictor.observes().newest > 0) cache.keepQueries(layer, q_.data(), model_.qRows(), count, held.fed);
    }
    held.fed += count;
  }

  double stepOf(Held& held) {
    const int32_t token = static_cast<int32_t>(held.fed * 7919 % model_.vocab);
    const double start = processorMs();
    held.cache->reserve(1);
    const SequenceRows rows{held.cache.get(), held.fed++, 1};
    backend_->run({.plan = plan_, .weights = *weights_, .sequences = {&rows, 1}, .tokens = {&token, 1}});
    return processorMs() - start;
  }

  double evict(Held& held) {
    const double start = processorMs();
    if (const int window = held.evictor.window(held.fed); window > 0) backend_->observe(*held.cache, window);
    held.evictor.apply(*held.cache, plan_.sharing, held.fed, pool_);
    return processorMs() - start;
  }

  EngineCore& core_;
  int slots_;
  ThreadPool pool_;
  Ledger ledger_;
  const ModelConfig& model_;
  std::shared_ptr<const WeightSet> weights_;
  Plan plan_;
  std::unique_ptr<Backend> backend_;
  std::vector<float> k_, v_, q_;  // [kAtOnce, width], rows to make up
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) stop("usage: bench_kv_policies MODEL.gguf [rounds] [slots] [policy ...]");
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 5, slots = argc > 3 ? std::atoi(argv[3]) : 8192;
  if (rounds < 1 || slots < kAtOnce || slots % kAtOnce != 0) stop("rounds are at least 1, slots a multiple of " + std::to_string(kAtOnce));
  const auto engine = need(Engine::create(need(Model::open(argv[1])), {.device = "cpu", .threads = 1}));
  std::printf("%s, %d slots, medians of %d rounds, processor ms per token\n", engine->deviceDescription().c_str(), slots, rounds);
  std::fflush(stdout);
  Bench bench(engine, slots);
  for (const KvPolicyInfo& info : kvPolicies()) {
    bool wanted = argc <= 4 && info.name != "full";
    for (int i = 4; i < argc; ++i) wanted = wanted || info.name == argv[i];
    if (wanted) bench.compare(info.name, rounds);
  }
}
