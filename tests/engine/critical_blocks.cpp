// SPDX-License-Identifier: GPL-3.0-or-later
// CritiPrefill (quantization_and_kv.md, P1): which blocks a segment of a prompt chooses, what attention makes of them, what is never touched,
// and what of a prompt stays as it was. Values are multiples of 1/16, which f16 pages hold exactly.
#include <cmath>
#include <limits>

#include "engine/cpu/critical_blocks.h"
#include "engine/cpu/kv_cache.h"
#include "tests/support/compression_meter.h"

using namespace winnow;
using namespace winnow::test;
using cpu::AttendArgs;
using cpu::CriticalBlocks;
using cpu::HostKvCache;

namespace {

constexpr int kHeads = 4, kKvHeads = 2, kDim = 12, kBlock = CriticalBlocks::kBlock;
constexpr float kScale = 0.25f;

std::vector<float> sixteenths(size_t count, uint32_t seed) {
  std::vector<float> out(count);
  for (float& v : out) {
    seed = seed * 1664525u + 1013904223u;
    v = static_cast<float>(static_cast<int>(seed >> 26) - 32) / 16.0f;
  }
  return out;
}

ModelConfig modelOf(int layers) {
  ModelConfig model;
  model.layers = layers;
  model.heads = kHeads;
  model.kvHeads = kKvHeads;
  model.headDim = kDim;
  return model;
}

// Layers of keys and values, and the queries of a segment at their end.
struct Prompt {
  int before, queries, context;
  std::vector<std::vector<float>> keys, values, q;  // [layers][tokens, kvHeads, dim], [queries, heads, dim]
  Ledger ledger;
  ThreadPool pool;
  cpu::Context context_;
  HostKvCache cache;
  Prompt(int layers, int slotsBefore, int segment, int room, int threads = 1)
      : before(slotsBefore), queries(segment), context(room), pool(threads), context_(pool, cpu::bestIsa()), cache(ledger, modelOf(layers), room) {
    for (int layer = 0; layer < layers; ++layer) {
      const auto seed = static_cast<uint32_t>(10 * layer + 1);
      keys.push_back(sixteenths(static_cast<size_t>(tokens() * kKvHeads * kDim), seed));
      values.push_back(sixteenths(keys.back().size(), seed + 1));
      q.push_back(sixteenths(static_cast<size_t>(queries * kHeads * kDim), seed + 2));
    }
    cache.reserve(tokens());
    for (int layer = 0; layer < layers; ++layer) {
      const auto at = static_cast<size_t>(layer);
      cache.append(layer, keys[at].data(), values[at].data(), kKvHeads * kDim, tokens(), 0, pool);
    }
  }
  int tokens() const { return before + queries; }
  int blocks() const { return (before + kBlock - 1) / kBlock; }
  AttendArgs args(int layer) {
    AttendArgs out;
    out.heads = kHeads;
    out.kvHeads = kKvHeads;
    out.headDim = kDim;
    out.queries = queries;
    out.pageTokens = cache.pageTokens();
    out.q = q[static_cast<size_t>(layer)].data();
    out.qStride = out.outStride = kHeads * kDim;
    out.kv = cache.view(layer, layer).data();
    out.scale = kScale;
    return out;
  }
  const float* key(int layer, int slot, int head) const { return keys[static_cast<size_t>(layer)].data() + (slot * kKvHeads + head) * kDim; }
  const float* value(int layer, int slot, int head) const { return values[static_cast<size_t>(layer)].data() + (slot * kKvHeads + head) * kDim; }
  const float* query(int layer, int i, int head) const { return q[static_cast<size_t>(layer)].data() + (i * kHeads + head) * kDim; }

  // The formula as it is written: means of products with the largest and the smallest queries, the larger of those with either bound.
  std::vector<double> worth(int layer, int kvHead) const {
    std::vector<double> out;
    for (int block = 0; block < blocks(); ++block) {
      double sum = 0;
      for (int head = kvHead * 2; head < kvHead * 2 + 2; ++head) {
        double most = 0, least = 0;
        for (int c = 0; c < kDim; ++c) {
          double qMax = -INFINITY, qMin = INFINITY, kMax = -INFINITY, kMin = INFINITY;
          for (int i = 0; i < queries; ++i) qMax = std::max(qMax, double{query(layer, i, head)[c]}), qMin = std::min(qMin, double{query(layer, i, head)[c]});
          for (int s = block * kBlock; s < std::min((block + 1) * kBlock, before); ++s)
            kMax = std::max(kMax, double{key(layer, s, kvHead)[c]}), kMin = std::min(kMin, double{key(layer, s, kvHead)[c]});
          most += (qMax * kMax + qMin * kMax) / 2;
          least += (qMax * kMin + qMin * kMin) / 2;
        }
        sum += std::max(most, least) * double{kScale} / 2;
      }
      out.push_back(sum);
    }
    const double largest = *std::max_element(out.begin(), out.end());
    double total = 0;
    for (double& v : out) total += v = std::exp(v - largest);
    for (double& v : out) v /= total;
    return out;
  }
};

std::vector<bool> best(const std::vector<double>& worth, int count) {
  std::vector<bool> taken(worth.size());
  taken[0] = true;
  for (int i = 1; i < count; ++i) {
    size_t at = 0;
    for (size_t b = 1; b < worth.size(); ++b)
      if (!taken[b] && (at == 0 || worth[b] > worth[at])) at = b;
    if (at > 0) taken[at] = true;
  }
  return taken;
}

// Attention of every query over the slots that `allowed` names and its own segment, in double. [queries, heads, dim]
template <class Allowed>
std::vector<double> expected(const Prompt& prompt, int layer, Allowed allowed, double* probability = nullptr /* [heads, queries, tokens] */) {
  std::vector<double> out(static_cast<size_t>(prompt.queries * kHeads * kDim));
  for (int head = 0; head < kHeads; ++head)
    for (int i = 0; i < prompt.queries; ++i) {
      std::vector<double> p(static_cast<size_t>(prompt.tokens()));
      double largest = -INFINITY, sum = 0;
      const auto sees = [&](int s) { return s <= prompt.before + i && (s >= prompt.before || allowed(head / 2, s)); };
      for (int s = 0; s < prompt.tokens(); ++s) {
        double score = 0;
        for (int c = 0; c < kDim; ++c) score += double{prompt.query(layer, i, head)[c]} * double{prompt.key(layer, s, head / 2)[c]} * double{kScale};
        p[static_cast<size_t>(s)] = score;
        if (sees(s)) largest = std::max(largest, score);
      }
      for (int s = 0; s < prompt.tokens(); ++s) sum += p[static_cast<size_t>(s)] = sees(s) ? std::exp(p[static_cast<size_t>(s)] - largest) : 0;
      for (int s = 0; s < prompt.tokens(); ++s) {
        const double weight = p[static_cast<size_t>(s)] / sum;
        if (probability) probability[(head * prompt.queries + i) * prompt.tokens() + s] = weight;
        for (int c = 0; c < kDim; ++c) out[static_cast<size_t>((i * kHeads + head) * kDim + c)] += weight * double{prompt.value(layer, s, head / 2)[c]};
      }
    }
  return out;
}

// f32 sums of 12 to 700 terms of size 2: 2^-24 * 700 * 2 at the most.
constexpr double kTolerance = 1e-4;

}  // namespace

TEST(blocks_are_chosen_as_the_formula_says) {
  for (const int threads : {1, 3})
    for (const auto& [before, queries, room] : {std::tuple{320, 40, 512}, std::tuple{333, 17, 4096}, std::tuple{64, 5, 4096}}) {
      Prompt prompt(3, before, queries, room, threads);
      CriticalBlocks critical(prompt.ledger, kKvHeads, room);
      std::vector<std::vector<double>> mixed(kKvHeads);
      for (int layer = 0; layer < 3; ++layer) {
        critical.choose(prompt.context_, prompt.args(layer), 3 * kBlock);
        for (int head = 0; head < kKvHeads; ++head) {
          auto& worth = mixed[static_cast<size_t>(head)];
          const std::vector<double> own = prompt.worth(layer, head);
          if (layer == 0) worth = own;
          for (size_t b = 0; b < own.size() && layer > 0; ++b) worth[b] = 0.25 * worth[b] + 0.75 * own[b];
          const std::vector<bool> taken = best(worth, 3);
          for (int slot = 0; slot < prompt.tokens(); ++slot)
            EXPECT(critical.has(head, slot) == (slot >= before || taken[static_cast<size_t>(slot / kBlock)]), layer, head, slot);
        }
      }
      EXPECT_EQ(critical.before(), before);
    }
}

TEST(a_segment_begins_without_the_layer_below) {
  Prompt prompt(2, 320, 20, 512);
  CriticalBlocks mixed(prompt.ledger, kKvHeads, 512), alone(prompt.ledger, kKvHeads, 512);
  mixed.choose(prompt.context_, prompt.args(0), 96);
  mixed.begin();
  mixed.choose(prompt.context_, prompt.args(1), 96);
  alone.choose(prompt.context_, prompt.args(1), 96);
  for (int head = 0; head < kKvHeads; ++head)
    for (int slot = 0; slot < 340; ++slot) EXPECT(mixed.has(head, slot) == alone.has(head, slot));
}

TEST(runs_cover_every_slot_once) {
  Prompt prompt(1, 333, 20, 512);
  CriticalBlocks critical(prompt.ledger, kKvHeads, 512);
  critical.choose(prompt.context_, prompt.args(0), 128);
  for (int head = 0; head < kKvHeads; ++head)
    for (const int end : {1, 31, 64, 333, 340, 353})
      for (int slot = 0, to = 0; slot < end; slot = to) {
        to = critical.runEnd(head, slot, end);
        EXPECT(to > slot && to <= end, slot, to, end);
        for (int s = slot; s < to; ++s) EXPECT(critical.has(head, s) == critical.has(head, slot), s);
        if (to < end) EXPECT(critical.has(head, to) != critical.has(head, slot), to);
      }
}

TEST(attention_is_that_over_the_chosen_slots) {
  for (const int threads : {1, 2})
    for (const int room : {512, 4096}) {  // pages of 16 tokens, and of 64
      Prompt prompt(1, 333, 70, room, threads);
      CriticalBlocks critical(prompt.ledger, kKvHeads, room);
      AttendArgs args = prompt.args(0);
      critical.choose(prompt.context_, args, 4 * kBlock);
      EXPECT(critical.kept() <= 2 * 4 * kBlock && critical.kept() > 2 * 3 * kBlock, critical.kept());
      std::vector<double> p(static_cast<size_t>(kHeads * prompt.queries * prompt.tokens()));
      const std::vector<double> want = expected(prompt, 0, [&](int head, int slot) { return critical.has(head, slot); }, p.data());
      constexpr int kStride = 512;
      std::vector<float> out(want.size()), taps(static_cast<size_t>(kHeads * prompt.queries * kStride)), sums(static_cast<size_t>(kKvHeads * kStride));
      args.critical = &critical;
      args.out = out.data();
      cpu::attend(prompt.context_, args);
      for (size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], want[i], kTolerance);
      std::vector<float> again(out.size());
      args.out = again.data();
      args.probabilities = taps.data();
      args.probabilityStride = args.columnStride = kStride;
      args.columnSums = sums.data();
      cpu::attend(prompt.context_, args);
      EXPECT(again == out);
      for (int row = 0; row < kHeads * prompt.queries; ++row)
        for (int s = 0; s < kStride; ++s)
          EXPECT_NEAR(taps[static_cast<size_t>(row * kStride + s)], s < prompt.tokens() ? p[static_cast<size_t>(row * prompt.tokens() + s)] : 0.0, 1e-6);
      // A follower that is given these rows reads the same blocks.
      AttendArgs follower = prompt.args(0);
      std::vector<float> reused(out.size());
      follower.q = nullptr;
      follower.reuse = taps.data();
      follower.probabilityStride = kStride;
      follower.critical = &critical;
      follower.out = reused.data();
      cpu::attend(prompt.context_, follower);
      for (size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(reused[i], out[i], kTolerance);
    }
}

// Not a number in a slot that is left out would be one in every sum that reads it.
TEST(what_is_left_out_is_not_read) {
  Prompt prompt(1, 640, 40, 4096);
  CriticalBlocks critical(prompt.ledger, kKvHeads, 4096);
  AttendArgs args = prompt.args(0);
  critical.choose(prompt.context_, args, 3 * kBlock);
  std::vector<float> clean(static_cast<size_t>(prompt.queries * kHeads * kDim)), poisoned(clean.size());
  args.critical = &critical;
  args.out = clean.data();
  cpu::attend(prompt.context_, args);
  constexpr uint16_t kNan = 0x7e00;
  int hidden = 0;
  for (int head = 0; head < kKvHeads; ++head)
    for (int slot = 0; slot < prompt.before; ++slot) {
      if (critical.has(head, slot)) continue;
      for (const auto* pages : {args.kv[head].keys, args.kv[head].values})
        std::fill_n(const_cast<uint16_t*>(pages[slot / args.pageTokens]) + slot % args.pageTokens * kDim, kDim, kNan);
      ++hidden;
    }
  EXPECT(hidden > kKvHeads * 500, hidden);
  args.out = poisoned.data();
  cpu::attend(prompt.context_, args);
  EXPECT(clean == poisoned);
}

// The mask of a sliding window leaves whole tiles of queries by slots empty: those are not computed either (Binary Block Masking, P2).
TEST(tiles_that_a_window_masks_are_not_read) {
  for (const int room : {512, 4096}) {
    Prompt prompt(1, 300, 200, room);
    AttendArgs args = prompt.args(0);
    args.slidingWindow = 50;
    std::vector<float> clean(static_cast<size_t>(prompt.queries * kHeads * kDim)), poisoned(clean.size());
    args.out = clean.data();
    cpu::attend(prompt.context_, args);
    for (int i = 0; i < prompt.queries; ++i)  // against the definition, for one head
      for (int c = 0; c < kDim; ++c) {
        double largest = -INFINITY, sum = 0, weighed = 0;
        const auto score = [&](int s) {
          double out = 0;
          for (int k = 0; k < kDim; ++k) out += double{prompt.query(0, i, 0)[k]} * double{prompt.key(0, s, 0)[k]} * double{kScale};
          return out;
        };
        const int own = prompt.before + i;
        for (int s = own - 49; s <= own; ++s) largest = std::max(largest, score(s));
        for (int s = own - 49; s <= own; ++s) sum += std::exp(score(s) - largest), weighed += std::exp(score(s) - largest) * double{prompt.value(0, s, 0)[c]};
        EXPECT_NEAR(clean[static_cast<size_t>(i * kHeads * kDim + c)], weighed / sum, kTolerance);
      }
    constexpr uint16_t kNan = 0x7e00;
    const int seen = (prompt.before - 49) / args.pageTokens * args.pageTokens;  // the page that the first query's window begins in
    for (int head = 0; head < kKvHeads; ++head)
      for (int slot = 0; slot < seen; ++slot)
        for (const auto* pages : {args.kv[head].keys, args.kv[head].values})
          std::fill_n(const_cast<uint16_t*>(pages[slot / args.pageTokens]) + slot % args.pageTokens * kDim, kDim, kNan);
    EXPECT(seen >= 192, seen);
    args.out = poisoned.data();
    cpu::attend(prompt.context_, args);
    EXPECT(clean == poisoned);
  }
}

namespace {

const Settings kSmall = {{"prefill.method", "critiprefill"}, {"prefill.budget", "32"}, {"prefill.segment", "16"}};

std::vector<float> logitsOf(const std::shared_ptr<Engine>& engine, const Settings& settings, std::span<const int32_t> ids) {
  return logitsAfter(*makeSession(engine, configure(settings), {.context = 256}), ids);
}

}  // namespace

TEST(short_prompts_and_large_budgets_are_dense) {
  const auto engine = openEngine(kRandom);
  const std::vector<int32_t> ids = someTokens(180, engine->model().config().vocab), brief(ids.begin(), ids.begin() + 64);
  const Settings segmented = {{"prefill.method", "critiprefill"}, {"prefill.segment", "16"}};
  const auto dense = logitsAfter(*makeSession(engine, Config(), {.context = 256, .maxBatch = 16}), ids);
  EXPECT(logitsOf(engine, segmented, ids) == dense);  // 180 tokens lie within twice 2048
  EXPECT(logitsOf(engine, kSmall, ids) != dense);
  EXPECT(logitsOf(engine, kSmall, brief) == logitsAfter(*makeSession(engine, Config(), {.context = 256, .maxBatch = 16}), brief));
  const Settings half = {{"prefill.method", "critiprefill"}, {"prefill.budget", "96"}, {"prefill.segment", "16"}};  // dense up to 192
  EXPECT(logitsOf(engine, half, ids) == dense);
}

TEST(the_whole_cache_is_kept_and_less_is_computed) {
  const auto engine = openEngine(kRandom);
  const std::vector<int32_t> ids = someTokens(200, engine->model().config().vocab);
  const auto dense = makeSession(engine, Config(), {.context = 256, .maxBatch = 16}), some = makeSession(engine, configure(kSmall), {.context = 256});
  const auto flopsOf = [&](Session& session) {
    std::vector<int64_t> flops;  // of attention, by segment
    session.observeOps(true);
    const Progress progress{[&](double, std::string_view) {
      int64_t sum = 0;
      for (const OpTime& time : session.opTimes())
        if (session.plan().ops[static_cast<size_t>(time.op)].kind == OpKind::attend) sum += time.flops;
      flops.push_back(sum);
    }, {}};
    ok(session.prefill(ids, progress));
    return flops;
  };
  const auto all = flopsOf(*dense), chosen = flopsOf(*some);
  EXPECT_EQ(all.size(), chosen.size());
  EXPECT_EQ(dense->cache().liveBytes, some->cache().liveBytes);
  EXPECT_EQ(some->position(), int64_t{200});
  const ModelConfig& model = engine->model().config();
  for (size_t i = 0; i < all.size(); ++i) {
    const int64_t first = static_cast<int64_t>(i) * 16, count = std::min<int64_t>(16, 200 - first);
    if (first < 64 || i + 1 == all.size()) {
      EXPECT_EQ(all[i], chosen[i]);
      continue;
    }
    // One block of 32 and the segment in all layers but the first; every block is held against the queries twice.
    const auto pairs = [&](int64_t before) { return count * before + count * (count + 1) / 2; };
    const int64_t each = 4 * model.heads * model.headDim;
    EXPECT_EQ(chosen[i], each * pairs(first) + (model.layers - 1) * (each * pairs(32) + each * model.kvHeads * first / 32 / model.kvHeads));
  }
}

// What follows prompts of 256 tokens.
TEST(larger_budgets_diverge_less) {
  const auto engine = openEngine(kStories, 1);
  const std::string text = readFile(sharedData("corpora/tinystories_val.txt")).substr(0, 20000);
  const auto baseline = makeSession(engine, Config(), {.context = 512});
  const auto divergence = [&](const char* budget) {
    PerplexityRequest request;
    request.context = 512;
    request.chunks = 4;
    const auto session = makeSession(engine, configure({{"prefill.method", "critiprefill"}, {"prefill.budget", budget}, {"prefill.segment", "16"}}), {.context = 512});
    const auto result = value(measurePerplexity(*session, baseline.get(), *engine->tokenizer(), text, request, {}));
    EXPECT(result.protocol.find("stepwise") != std::string::npos, result.protocol);
    return result.kld->mean;
  };
  const double little = divergence("32"), more = divergence("96"), all = divergence("128");
  EXPECT(little > more && more > 1e-9, little, more);
  EXPECT(all < 1e-6, all);  // dense; segments are rounded like other batches
}

TEST(prompts_of_caches_that_evict_are_dense_and_say_so) {
  ModelConfig model;
  model.layers = 4;
  const Effective evicting = resolve(configure({{"prefill.method", "critiprefill"}, {"kv.policy", "snapkv"}, {"kv.budget", "64"}}), model);
  EXPECT_EQ(evicting.config.text("prefill.method"), std::string("dense"));
  EXPECT(evicting.adjustments.size() == 1 && evicting.adjustments[0].reason.find("snapkv") != std::string::npos);
  EXPECT(resolve(configure({{"prefill.method", "critiprefill"}, {"kv.policy", "quest"}, {"kv.budget", "64"}}), model).asRequested());
  EXPECT(resolve(configure({{"prefill.method", "critiprefill"}, {"kv.k_bits", "4"}}), model).config.text("prefill.method") == "critiprefill");
}

TEST(prompts_choose_from_quantized_caches_and_with_shared_attention) {
  const auto engine = openEngine(kRandom);
  const std::vector<int32_t> ids = someTokens(200, engine->model().config().vocab);
  const auto with = [](Settings settings, std::initializer_list<std::pair<const char*, const char*>> more) {
    settings.insert(settings.end(), more);
    return settings;
  };
  const auto plain = logitsOf(engine, kSmall, ids);
  EXPECT(relativeError(plain, logitsOf(engine, with(kSmall, {{"kv.k_bits", "8"}, {"kv.v_bits", "8"}}), ids)) < 0.1);
  // Followers with and without probabilities at hand read the blocks that their leader chose.
  const Settings shared = with(kSmall, {{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}});
  const auto whole = logitsOf(engine, shared, ids);
  EXPECT(relativeError(whole, logitsAfter(*makeSession(engine, configure(shared), {.context = 256, .probabilityBytes = 0}), ids)) < 1e-5);
  const int64_t planned = bytes(value(engine->plan(configure(kSmall), {.context = 256}, 200)), MemoryTag::metadata);
  const auto session = makeSession(engine, configure(kSmall), {.context = 256});
  ok(session->prefill(ids, {}));
  EXPECT(std::abs(planned - bytes(session->memory(), MemoryTag::metadata)) <= 65536, planned);
}
