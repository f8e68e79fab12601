// SPDX-License-Identifier: GPL-3.0-or-later
// What a quantized cache costs and saves in decoding: attention of one token over all layers of a 1B shape (16 layers, 32 heads of 64 over 8
// key-value heads), formats in turn within each round, so that what else the machine does falls on all of them.
//   bench_kv_cache [threads] [rounds] [slots ...]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "engine/cpu/kv_cache.h"
#include "tests/bench/bench.h"

using namespace winnow;
using namespace winnow::bench;

namespace {

struct Case {
  const char* name;
  KvFormat format;
  Ledger ledger;
  std::unique_ptr<cpu::HostKvCache> cache;
  std::vector<double> ms;
  double sealMs = 0;
  int64_t unread = 0;  // bytes, of the last token
};

void compareFormats(cpu::Context& context, int rounds, int slots) {
  ModelConfig model;
  model.layers = 16;
  model.heads = 32;
  model.kvHeads = 8;
  model.headDim = 64;
  std::vector<std::unique_ptr<Case>> cases;
  for (const auto& [name, format] : {std::pair{"16 bit", KvFormat{}}, std::pair{"8 bit", KvFormat{8, 8}}, std::pair{"4 bit", KvFormat{4, 4}},
                                     std::pair{"4 bit kivi", KvFormat{4, 4, true}}, std::pair{"3 bit", KvFormat{3, 3}}, std::pair{"2 bit", KvFormat{2, 2}},
                                     std::pair{"2 bit kivi", KvFormat{2, 2, true}}, std::pair{"2 bit, 1 % outliers", KvFormat{2, 2, false, false, 0.01}},
                                     std::pair{"2 bit kivi, 1 %", KvFormat{2, 2, true, false, 0.01}}, std::pair{"aligned by 4", KvFormat{16, 16, false, false, 0, 4}}}) {
    cases.push_back(std::make_unique<Case>());
    cases.back()->name = name;
    cases.back()->format = format;
  }
  const int64_t row = int64_t{model.kvHeads} * model.headDim;
  constexpr int kAtOnce = 512;
  std::vector<float> k(static_cast<size_t>(kAtOnce * row)), v(k.size()), q(2048), out(2048);
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (auto* side : {&k, &v, &q})
    for (float& x : *side) x = normal(random);
  for (auto& c : cases) {
    c->cache = std::make_unique<cpu::HostKvCache>(c->ledger, model, slots);
    c->cache->setFormat(c->format, context.pool());
    for (int first = 0; first < slots; first += kAtOnce) {
      c->cache->reserve(kAtOnce);
      for (int layer = 0; layer < model.layers; ++layer) c->cache->append(layer, k.data(), v.data(), row, kAtOnce, first, context.pool());
      const auto start = Clock::now();
      c->cache->seal(context.pool());
      c->sealMs += std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    }
  }
  for (int round = 0; round <= rounds; ++round)
    for (auto& c : cases) {
      const auto start = Clock::now();
      c->unread = 0;
      for (int layer = 0; layer < model.layers; ++layer) {
        cpu::AttendArgs args;
        args.heads = model.heads;
        args.kvHeads = model.kvHeads;
        args.headDim = model.headDim;
        args.queries = 1;
        args.pageTokens = c->cache->pageTokens();
        args.q = q.data();
        args.qStride = args.outStride = 2048;
        args.kv = c->cache->view(layer, layer).data();
        args.scale = 0.125f;
        args.out = out.data();
        args.aligned = c->format.aligned;
        args.unread = &c->unread;
        cpu::attend(context, args);
      }
      if (round > 0) c->ms.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
    }
  const double plain = median(cases.front()->ms);
  for (auto& c : cases)
    std::printf("%6d slots  %-11s %8.2f ms/token  %5.2fx  %8.1f MiB allocated  %5.3f of them read  sealing %6.3f ms/token\n", slots, c->name, median(c->ms), median(c->ms) / plain,
                static_cast<double>(c->cache->allocatedBytes()) / (1 << 20), 1 - static_cast<double>(c->unread) / static_cast<double>(c->cache->liveBytes()), c->sealMs / slots);
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2, rounds = argc > 2 ? std::atoi(argv[2]) : 21;
  ThreadPool pool(threads);
  cpu::Context context(pool, cpu::bestIsa());
  std::printf("%d threads, %s, median of %d rounds\n", threads, cpu::isaName(context.isa()).c_str(), rounds);
  std::vector<int> lengths = {2048, 8192};
  if (argc > 3) lengths.clear();
  for (int i = 3; i < argc; ++i) lengths.push_back(std::atoi(argv[i]));
  for (const int slots : lengths) compareFormats(context, rounds, slots);
}
