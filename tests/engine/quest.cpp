// SPDX-License-Identifier: GPL-3.0-or-later
// Quest: bounds over blocks of keys, the blocks a query reads, and what a session says of it.
#include <cmath>
#include <numeric>
#include <random>

#include "engine/core/dtype.h"
#include "engine/cpu/kv_cache.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr int kHeads = 4, kKvHeads = 2, kBlock = cpu::HostKvCache::kBlock, kLayer = KvCache::kDenseLayers;

ModelConfig modelOf(int headDim, int slidingWindow = 0) {
  ModelConfig model;
  model.layers = kLayer + 2;
  model.heads = kHeads;
  model.kvHeads = kKvHeads;
  model.headDim = headDim;
  model.slidingWindow = slidingWindow;
  return model;
}

struct Filled {
  Ledger ledger;
  ThreadPool pool{2};
  int dim, fed = 0;
  cpu::HostKvCache cache;
  std::mt19937 random{5};
  std::normal_distribution<float> normal;
  Filled(int headDim, int context, const KvFormat& format = {}, int slidingWindow = 0) : dim(headDim), cache(ledger, modelOf(headDim, slidingWindow), context) {
    cache.setFormat(format, pool);
  }
  void feed(int tokens, int atOnce = 1) {
    std::vector<float> k, v;
    for (int i = 0; i < atOnce * kKvHeads * dim; ++i) k.push_back(0), v.push_back(0);
    for (int left = tokens; left > 0; left -= atOnce) {
      for (float& x : k) x = normal(random);
      for (float& x : v) x = normal(random);
      cache.reserve(std::min(left, atOnce));
      for (int layer = 0; layer < cache.layers(); ++layer) cache.append(layer, k.data(), v.data(), kKvHeads * dim, std::min(left, atOnce), fed, pool);
      cache.seal(pool);
      fed += std::min(left, atOnce);
    }
  }
  std::vector<float> query() {
    std::vector<float> q;
    for (int i = 0; i < kHeads * dim; ++i) q.push_back(normal(random));
    return q;
  }
  std::vector<float> rows(int head, bool keys = true) {
    std::vector<float> out(static_cast<size_t>(cache.slots(kLayer, head) * dim));
    cache.readRows(kLayer, head, keys, out.data());
    return out;
  }
};

double dot(const float* q, const float* k, int n) {
  double sum = 0;
  for (int c = 0; c < n; ++c) sum += double{q[c]} * k[c];
  return sum;
}

// The largest bound of a group over each block, in double, from the rows as they are read.
std::vector<double> boundsOf(Filled& f, int head, const std::vector<float>& q) {
  const std::vector<float> keys = f.rows(head);
  const int held = f.cache.slots(kLayer, head), group = kHeads / kKvHeads;
  std::vector<double> out;
  for (int begin = 0; begin < held; begin += kBlock) {
    double best = -INFINITY;
    for (int g = head * group; g < (head + 1) * group; ++g) {
      double sum = 0;
      for (int c = 0; c < f.dim; ++c) {
        float largest = -INFINITY, smallest = INFINITY;
        for (int s = begin; s < std::min(begin + kBlock, held); ++s) {
          largest = std::max(largest, keys[static_cast<size_t>(s * f.dim + c)]);
          smallest = std::min(smallest, keys[static_cast<size_t>(s * f.dim + c)]);
        }
        const double x = q[static_cast<size_t>(g * f.dim + c)];
        sum += std::max(x * largest, x * smallest);
      }
      best = std::max(best, sum);
    }
    out.push_back(best);
  }
  return out;
}

// The stored bounds against every score, and against those made anew.
void expectBounds(Filled& f, cpu::Context& context, const std::string& where) {
  for (int i = 0; i < 4; ++i) {
    const std::vector<float> q = f.query();
    for (int head = 0; head < kKvHeads; ++head) {
      const std::vector<float> found = f.cache.blockBounds(context, kLayer, head, q.data()), keys = f.rows(head);
      const std::vector<double> expected = boundsOf(f, head, q);
      const int group = kHeads / kKvHeads;
      EXPECT_EQ(found.size() + 1, expected.size());  // the newest block needs none
      for (size_t block = 0; block < found.size(); ++block) {
        double size = 0;  // a sum of 2 n products: n + 4 roundings of what is summed
        for (int c = 0; c < f.dim; ++c) {
          double largest = 0;
          for (int s = 0; s < kBlock; ++s) largest = std::max(largest, std::fabs(double{keys[(block * kBlock + static_cast<size_t>(s)) * static_cast<size_t>(f.dim) + static_cast<size_t>(c)]}));
          for (int g = head * group; g < (head + 1) * group; ++g) size += largest * std::fabs(double{q[static_cast<size_t>(g * f.dim + c)]});
        }
        const double rounding = (2 * f.dim + 4) * 0x1p-24 * size;
        EXPECT(std::fabs(found[block] - expected[block]) <= rounding, where, block, found[block], expected[block]);
        for (int s = 0; s < kBlock; ++s)
          for (int g = head * group; g < (head + 1) * group; ++g)
            EXPECT(dot(q.data() + g * f.dim, keys.data() + (block * kBlock + static_cast<size_t>(s)) * static_cast<size_t>(f.dim), f.dim) <= found[block] + rounding, where, block, s);
      }
    }
  }
}

}  // namespace

TEST(bounds_are_never_below_a_score) {
  ThreadPool pool(2);
  for (const cpu::Isa isa : cpu::availableIsas()) {
    cpu::Context context(pool, isa);
    for (const int dim : {16, 24, 64})
      for (const int context_tokens : {256, 4096})
        for (const int bits : {16, 4}) {
          if (bits < 16 && dim % std::min(dim, 32) != 0) continue;
          Filled f(dim, context_tokens, bits < 16 ? KvFormat{bits, bits} : KvFormat{});
          f.cache.select(64);
          const std::string where = cpu::isaName(isa) + " dim " + std::to_string(dim) + " bits " + std::to_string(bits);
          f.feed(150, 50);
          expectBounds(f, context, where + " a prompt");
          for (int i = 0; i < 6; ++i) {  // token by token, through sealing
            f.feed(11);
            expectBounds(f, context, where + " decoded");
          }
          f.cache.truncate(130);
          f.feed(40, 40);
          expectBounds(f, context, where + " rewound");
          std::vector<int32_t> some;
          for (int slot = 0; slot < 170; ++slot)
            if (slot % 3 != 1 || slot == 169) some.push_back(slot);
          for (int layer = 0; layer < f.cache.layers(); ++layer)
            for (int head = 0; head < kKvHeads; ++head) f.cache.keep(layer, head, some);
          expectBounds(f, context, where + " after an eviction");
          f.cache.setFormat({8, 8}, f.pool);
          expectBounds(f, context, where + " sealed in 8 bits");
          f.feed(20);
          expectBounds(f, context, where + " and on");
        }
  }
}

// Attention over the chosen blocks is attention with everything else masked, and the chosen are those of the highest bounds.
TEST(a_query_reads_the_blocks_of_the_highest_bounds) {
  ThreadPool pool(2);
  for (const cpu::Isa isa : cpu::availableIsas())
    for (const int window : {0, 100})
      for (const int bits : {16, 8}) {
        cpu::Context context(pool, isa);
        Filled f(32, 4096, bits < 16 ? KvFormat{bits, bits} : KvFormat{}, window);
        f.cache.select(80);
        f.feed(297, 33);
        const std::vector<float> q = f.query();
        std::vector<float> out(q.size());
        cpu::AttendArgs args;
        args.heads = kHeads;
        args.kvHeads = kKvHeads;
        args.headDim = 32;
        args.queries = 1;
        args.pageTokens = kBlock;
        args.q = q.data();
        args.qStride = args.outStride = kHeads * 32;
        args.scale = 0.2f;
        args.slidingWindow = window;
        args.out = out.data();
        EXPECT(f.cache.selected(context, kLayer - 1, q.data()).empty());  // the first layers read everything
        const auto some = f.cache.selected(context, kLayer, q.data());
        EXPECT_EQ(some.size(), size_t{kKvHeads});
        args.kv = some.data();
        EXPECT_EQ(f.cache.slotsRead(kLayer, 1), int64_t{kKvHeads * 80});
        cpu::attend(context, args);
        for (int h = 0; h < kHeads; ++h) {
          const int head = h / 2, held = 297, first = window > 0 ? (held - window) / kBlock : 0;
          const std::vector<double> bounds = boundsOf(f, head, q);
          std::vector<int> order(bounds.size() - 1 - static_cast<size_t>(first));
          std::iota(order.begin(), order.end(), first);
          std::ranges::sort(order, [&](int a, int b) { return bounds[static_cast<size_t>(a)] > bounds[static_cast<size_t>(b)]; });
          order.resize(4);  // and the newest: 80 / 16
          order.push_back(static_cast<int>(bounds.size()) - 1);
          const std::vector<float> keys = f.rows(head), values = f.rows(head, false);
          double sum = 0;
          std::vector<double> expected(32);
          for (const int block : order)
            for (int s = block * kBlock; s < std::min((block + 1) * kBlock, held); ++s) {
              if (window > 0 && s <= held - 1 - window) continue;
              const double p = std::exp(dot(q.data() + h * 32, keys.data() + s * 32, 32) * 0.2);
              sum += p;
              for (int c = 0; c < 32; ++c) expected[static_cast<size_t>(c)] += p * values[static_cast<size_t>(s * 32 + c)];
            }
          for (int c = 0; c < 32; ++c) EXPECT_NEAR(out[static_cast<size_t>(h * 32 + c)], expected[static_cast<size_t>(c)] / sum, 2e-5);
        }
      }
}

TEST(a_budget_as_long_as_the_text_changes_nothing) {
  for (const char* file : {kStories, kRandom}) {
    const auto engine = openEngine(file);
    std::vector<uint64_t> hashes;
    for (const Settings& settings : {Settings{}, Settings{{"kv.policy", "quest"}, {"kv.budget", "85"}}, Settings{{"kv.policy", "quest"}, {"kv.budget", "1"}}, Settings{{"kv.policy", "quest"}, {"kv.budget", "48"}}}) {
      const auto session = makeSession(engine, configure(settings));
      ok(session->prefill(someTokens(45, session->vocab()), {}));
      generate(*session, 40);
      hashes.push_back(session->logitsHash());
    }
    EXPECT(hashes[1] == hashes[0] && hashes[2] == hashes[0], file);
    EXPECT(hashes[3] != hashes[0], file, "a smaller one does");
  }
}

TEST(nothing_is_freed_and_it_is_said) {
  const auto engine = openEngine(kStories);
  const auto text = someTokens(200, 512);
  const auto full = makeSession(engine), quest = makeSession(engine, configure({{"kv.policy", "quest"}, {"kv.budget", "64"}}));
  ok(full->prefill(text, {}));
  ok(quest->prefill(text, {}));
  ok(full->step(3));
  ok(quest->step(3));
  EXPECT_EQ(quest->cache().liveBytes, full->cache().liveBytes);
  EXPECT_EQ(quest->cache().allocatedBytes, full->cache().allocatedBytes);
  EXPECT_EQ(quest->cache().evictedTokens, int64_t{0});
  EXPECT(quest->effective()->asRequested());
  const auto events = quest->takeEvents();
  EXPECT(std::ranges::any_of(events, [](const EngineEvent& event) { return event.code == "kv.frees_nothing"; }));
  // Of 201 tokens 64 are read and the bounds of 12 blocks (two keys each), in all but two layers.
  const int layers = engine->model().config().layers;
  const double whole = static_cast<double>(full->kvBytesPerToken()), share = 2.0 / layers + (layers - 2.0) / layers * (64.0 / 201 + 12.0 / 201);
  EXPECT_NEAR(static_cast<double>(quest->kvBytesPerToken()), share * whole, 1e-3 * whole);
  EXPECT(bytes(quest->memory(), MemoryTag::metadata) > bytes(full->memory(), MemoryTag::metadata));  // the bounds are counted
}

TEST(the_plan_counts_bounds) {
  const auto engine = openEngine(kRandom);
  for (const char* bits : {"16", "4"}) {
    const Config config = configure({{"kv.policy", "quest"}, {"kv.budget", "64"}, {"kv.k_bits", bits}});
    const MemoryByTag planned = value(engine->plan(config, {.context = 2048}, 1000));
    const auto session = makeSession(engine, config, {.context = 2048});
    ok(session->prefill(someTokens(996, session->vocab()), {}));
    generate(*session, 4);
    const MemoryByTag used = session->memory();
    for (const MemoryTag tag : {MemoryTag::kv, MemoryTag::metadata, MemoryTag::activations}) EXPECT_EQ(bytes(planned, tag), bytes(used, tag));
  }
}

TEST(a_rewound_text_goes_on_as_a_fresh_one) {
  const auto engine = openEngine(kStories);
  const auto text = someTokens(200, 512);
  const Config config = configure({{"kv.policy", "quest"}, {"kv.budget", "48"}});
  const auto session = makeSession(engine, config), fresh = makeSession(engine, config);
  ok(session->prefill(text, {}));
  generate(*session, 20);
  EXPECT_EQ(session->rewind(120), int64_t{120});
  ok(fresh->prefill(std::span(text).first(120), {}));
  for (int i = 0; i < 40; ++i) {
    ok(session->step(i));
    ok(fresh->step(i));
  }
  EXPECT(relativeError(fresh->logits(), session->logits()) == 0);
}

TEST(layers_that_share_attention_read_alike) {
  const auto engine = openEngine(kRandom);
  const Config config = configure({{"kv.policy", "quest"}, {"kv.budget", "48"}, {"share.block", "2"}, {"share.first", "2"}, {"share.last", "0"}});
  SessionOptions recompute;
  recompute.probabilityBytes = 0;
  const auto kept = makeSession(engine, config), again = makeSession(engine, config, recompute), dense = makeSession(engine, configure({{"share.block", "2"}, {"share.first", "2"}, {"share.last", "0"}}));
  for (Session* session : {kept.get(), again.get(), dense.get()}) {
    ok(session->prefill(someTokens(150, session->vocab()), {}));
    for (int i = 0; i < 6; ++i) ok(session->step(i));
  }
  EXPECT(relativeError(kept->logits(), again->logits()) < 1e-5, relativeError(kept->logits(), again->logits()));
  EXPECT(relativeError(dense->logits(), again->logits()) > 1e-4);
}

TEST(policies_may_change_to_it_and_back) {
  const auto engine = openEngine(kStories);
  const auto session = makeSession(engine, configure({{"kv.budget", "100"}}));
  ok(session->prefill(someTokens(150, 512), {}));
  session->request(configure({{"kv.policy", "quest"}, {"kv.budget", "48"}}));
  generate(*session, 30);
  EXPECT(session->cacheMixed());  // what streaming evicted is missing
  EXPECT(session->cache().liveTokens >= 130);
  ok(session->rebuildCache({}));
  EXPECT(!session->cacheMixed());
  EXPECT_EQ(session->cache().evictedTokens, int64_t{0});
  session->request(Config());
  ok(session->step(1));
  EXPECT(!session->cacheMixed());
  EXPECT_EQ(session->cache().evictedTokens, int64_t{0});
}
