// SPDX-License-Identifier: GPL-3.0-or-later
// Keys and values in bit planes of which decoding reads what it needs (AlignedKV): planes lose nothing, what is left out is bounded, what
// is counted is what was left, and a session with it computes nearly what it does without.
#include <array>

#include "engine/cache/planes.h"
#include "engine/cpu/aligned.h"
#include "engine/cpu/context.h"
#include "engine/evaluate/perplexity.h"
#include "engine/run/branches.h"
#include "tests/engine/filled_cache.h"
#include "tests/support/engine.h"
#include "tests/support/planned.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr int kGroup = 2, kStep = 4;  // query heads to a kv head; the paper's binades

KvFormat alignedFormat(int step = kStep) {
  KvFormat format;
  format.aligned = step;
  return format;
}

const Adjustment* adjustment(const Effective& effective, std::string_view knob) {
  for (const Adjustment& a : effective.adjustments)
    if (a.knob == knob) return &a;
  return nullptr;
}

// A page whose slot s, component c is value(s, c), split.
template <class Value>
std::vector<uint8_t> splitPage(const PageShape& shape, const PageForm& form, Value value) {
  std::vector<uint16_t> rows;
  for (int s = 0; s < shape.tokens; ++s)
    for (int c = 0; c < shape.headDim; ++c) rows.push_back(value(s, c));
  const PageForm f16;
  std::vector<SlotSource> slots;
  for (int s = 0; s < shape.tokens; ++s) slots.push_back({rows.data(), &f16, s});
  std::vector<uint8_t> out(shape.bytes(form));
  seal(shape, slots, planSeal(shape, slots, form), out.data());
  return out;
}

PageForm planesOf(bool keys) {
  KvFormat format = alignedFormat();
  return format.form(keys, 0, {16, 64});
}

int binade(double x) { return std::ilogb(x) + kExponentBias; }  // as f16 counts
int binadeOfHalf(double x) { return x == 0 ? 1 : std::max(1, binade(x)); }
int neededBits(int below) { return below >= 2 * kStep ? 8 : below >= kStep ? 12 : 16; }

cpu::AttendArgs argsOf(Filled& f, const std::vector<float>& q, std::vector<float>* out, int64_t* unread, int step = kStep) {
  cpu::AttendArgs args;
  args.heads = kGroup * kHeads;
  args.kvHeads = kHeads;
  args.headDim = f.dim;
  args.queries = 1;
  args.pageTokens = f.cache.pageTokens();
  args.q = q.data();
  args.qStride = args.outStride = int64_t{args.heads} * f.dim;
  args.kv = f.cache.view(0, 0).data();
  args.scale = 0.2f;
  args.out = out ? out->data() : nullptr;
  args.aligned = step;
  args.unread = unread;
  return args;
}

// A query whose components lie many binades apart.
std::vector<float> unevenQuery(int values, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> q;
  for (int i = 0; i < values; ++i) q.push_back(std::ldexp(normal(random), -static_cast<int>(random() % 12)));
  return q;
}

double divergence(const std::shared_ptr<Engine>& engine, const Settings& settings) {
  PerplexityRequest asked;
  asked.context = 400;
  asked.chunks = 1;
  asked.stepwise = true;
  const SessionOptions options{.context = 2048};
  // Activations that are rounded would answer any difference, however small, with steps of their own.
  const Config exact = configure({{"compute.activations", "f32"}});
  const auto session = makeSession(engine, configure(settings, exact), options), baseline = makeSession(engine, exact, options);
  return value(measurePerplexity(*session, baseline.get(), *engine->tokenizer(), readFile(WINNOW_TESTS_DIR "/../resources/texts/sample.txt"), asked, {})).kld->mean;
}

uint64_t hashOf(int threads, const Settings& settings) {
  const auto engine = openEngine(kRandom, threads);
  const auto session = makeSession(engine, configure(settings), {.context = 256, .maxBatch = 32});
  ok(session->prefill(someTokens(90, session->vocab()), {}));
  generate(*session, 40);
  return session->logitsHash();
}

}  // namespace

TEST(planes_hold_every_value) {
  const PageShape shape{64, 64};
  for (const bool keys : {true, false})
    for (int first = 0; first < 65536; first += 4096) {
      const PageForm form = planesOf(keys);
      const auto page = splitPage(shape, form, [&](int s, int c) { return static_cast<uint16_t>(first + s * 64 + c); });
      EXPECT_EQ(page.size(), size_t{64 * 64 * 2 + 64});
      for (int s = 0; s < 64; ++s) {
        std::array<uint16_t, 64> row;
        readSlot(shape, {page.data(), &form, s}, row.data());
        for (int c = 0; c < 64; ++c) EXPECT_EQ(row[static_cast<size_t>(c)], first + s * 64 + c);
      }
    }
}

// Of normal numbers, all of them: 2^-3 of the value with 8 bits, 2^-7 with 12.
TEST(what_bits_leave_out_is_bounded) {
  double worst8 = 0, worst12 = 0;
  for (int word = 0; word < 65536; ++word) {
    const auto bits = static_cast<uint16_t>(word);
    EXPECT_EQ(cutTo(16, bits), bits);
    if ((word >> 10 & 31) == 0 || (word >> 10 & 31) == 31) continue;
    const double x = f16ToFloat(bits);
    worst8 = std::max(worst8, std::fabs(f16ToFloat(cutTo(8, bits)) - x) / std::fabs(x));
    worst12 = std::max(worst12, std::fabs(f16ToFloat(cutTo(12, bits)) - x) / std::fabs(x));
    EXPECT_EQ(double{magnitudeOf(word >> 8)}, std::fabs(double{f16ToFloat(cutTo(8, bits))}));
  }
  EXPECT_EQ(worst8, 0x1p-3);
  EXPECT_EQ(worst12, 0x1p-7);
}

TEST(every_instruction_set_reads_the_bits_it_is_told) {
  ThreadPool pool(1);
  std::mt19937 random(4);
  for (const cpu::Isa isa : cpu::availableIsas()) {
    cpu::Context context(pool, isa);
    for (const PageShape& shape : {PageShape{16, 8}, PageShape{16, 64}, PageShape{64, 24}, PageShape{64, 80}, PageShape{64, 128}})
      for (const bool keys : {true, false})
        for (const auto& [begin, end] : {std::pair{0, shape.tokens}, std::pair{3, shape.tokens}, std::pair{5, 11}}) {
          const PageForm form = planesOf(keys);
          std::vector<uint16_t> rows;
          for (int i = 0; i < shape.tokens * shape.headDim; ++i) rows.push_back(static_cast<uint16_t>(random()));
          const auto given = [&](int s, int c) { return rows[static_cast<size_t>(s * shape.headDim + c)]; };
          const auto page = splitPage(shape, form, given);
          std::vector<uint8_t> bits;
          for (int i = 0; i < std::max(shape.headDim, end - begin); ++i) bits.push_back(static_cast<uint8_t>(8 + random() % 3 * 4));
          std::vector<uint16_t> out(static_cast<size_t>((end - begin) * shape.headDim));
          context.impl().kernels.unpackPlanes(shape, form, page.data(), begin, end, bits.data(), out.data());
          for (int s = begin; s < end; ++s)
            for (int c = 0; c < shape.headDim; ++c)
              EXPECT_EQ(out[static_cast<size_t>((s - begin) * shape.headDim + c)], cutTo(bits[static_cast<size_t>(keys ? c : s - begin)], given(s, c)));
          context.impl().kernels.unpackPage(shape, form, page.data(), begin, end, out.data());
          for (int s = begin; s < end; ++s)
            for (int c = 0; c < shape.headDim; ++c) EXPECT_EQ(out[static_cast<size_t>((s - begin) * shape.headDim + c)], given(s, c));
        }
  }
}

// With E the largest exponent of a term, as f16 counts both factors': d terms of an error of at most 2^(E - 39) each.
TEST(scores_err_by_no_more_than_rounding_their_largest_term) {
  const PageShape shape{64, 64};
  const PageForm form = planesOf(true);
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  double worst = 0;
  for (int round = 0; round < 40; ++round) {
    std::vector<uint16_t> rows;
    for (int i = 0; i < 64 * 64; ++i) rows.push_back(floatToF16(std::ldexp(normal(random), i % 64 % 9 - 6 - 2 * static_cast<int>(round % 3 == 0 ? random() % 8 : 0))));  // subnormals as well
    const auto page = splitPage(shape, form, [&](int s, int c) { return rows[static_cast<size_t>(s * 64 + c)]; });
    const std::vector<float> q = unevenQuery(kGroup * 64, static_cast<uint32_t>(round));
    std::vector<int> exponents(64);
    std::vector<uint8_t> bits(64);
    cpu::queryExponents(q.data(), kGroup, 64, {}, exponents.data());
    cpu::keyBits(shape, page.data(), exponents.data(), kStep, bits.data());
    int top = INT_MIN, fewer = 0;
    for (int c = 0; c < 64; ++c) {
      int largest = 1;
      for (int s = 0; s < 64; ++s) largest = std::max(largest, binadeOfHalf(f16ToFloat(rows[static_cast<size_t>(s * 64 + c)])));
      int own = INT_MIN;
      for (int g = 0; g < kGroup; ++g) own = std::max(own, binade(q[static_cast<size_t>(g * 64 + c)]));
      EXPECT_EQ(exponents[static_cast<size_t>(c)], own);
      top = std::max(top, own + largest);
      fewer += bits[static_cast<size_t>(c)] < 16;
    }
    EXPECT(fewer > 10, fewer);
    for (int g = 0; g < kGroup; ++g)
      for (int s = 0; s < 64; ++s) {
        double error = 0;
        for (int c = 0; c < 64; ++c) {
          const uint16_t key = rows[static_cast<size_t>(s * 64 + c)];
          error += double{q[static_cast<size_t>(g * 64 + c)]} * (double{f16ToFloat(cutTo(bits[static_cast<size_t>(c)], key))} - f16ToFloat(key));
        }
        worst = std::max(worst, std::fabs(error) / (64 * std::ldexp(1.0, top - 39)));
      }
  }
  std::printf("  largest error of a score: %.3f of the bound\n", worst);
  EXPECT(worst > 0.001 && worst <= 1, worst);
}

// The largest exponent is that of |k|: a channel that is far below zero is as large as one above it.
TEST(channels_of_large_negative_values_are_read_whole) {
  const PageShape shape{64, 8};
  const auto page = splitPage(shape, planesOf(true), [](int s, int c) { return floatToF16(c == 3 ? -100.0f - static_cast<float>(s) : 0.01f); });
  const std::vector<float> q(8, 1.0f);
  std::vector<int> exponents(8);
  std::vector<uint8_t> bits(8);
  cpu::queryExponents(q.data(), 1, 8, {}, exponents.data());
  cpu::keyBits(shape, page.data(), exponents.data(), kStep, bits.data());
  for (int c = 0; c < 8; ++c) EXPECT_EQ(static_cast<int>(bits[static_cast<size_t>(c)]), c == 3 ? 16 : 8);
}

// What attention says it left unread is what its rules leave, counted over again from the rows: keys of scores alone, values under weights
// that are given.
TEST(unread_bytes_are_those_of_a_count_by_hand) {
  for (const Shape& shape : {Shape{256, 24}, Shape{2048, 64}})
    for (const cpu::Isa isa : cpu::availableIsas()) {
      Filled f(shape, alignedFormat());
      const int held = std::min(400, shape.context - 20);
      f.feed(held);
      cpu::Context context(f.pool, isa);
      const std::vector<float> q = unevenQuery(kGroup * kHeads * f.dim, 3);
      const int tokens = f.cache.pageTokens(), planed = (held - 1) / tokens * tokens;

      int64_t expected = 0, counted = 0;
      for (int h = 0; h < kHeads; ++h)
        for (int first = 0; first < planed; first += tokens) {
          std::vector<int> below;
          int top = INT_MIN;
          for (int c = 0; c < f.dim; ++c) {
            int largest = 1, own = INT_MIN;
            for (int s = first; s < first + tokens; ++s) largest = std::max(largest, binadeOfHalf(f.given(h, s, c, true)));
            for (int g = 0; g < kGroup; ++g) own = std::max(own, binade(q[static_cast<size_t>((h * kGroup + g) * f.dim + c)]));
            below.push_back(largest + own);
            top = std::max(top, below.back());
          }
          for (const int exponent : below) expected += int64_t{16 - neededBits(top - exponent)} * tokens / 8;
        }
      std::vector<float> sums(static_cast<size_t>(kHeads * f.cache.pageTokens() * 200));
      cpu::AttendArgs args = argsOf(f, q, nullptr, &counted);
      args.columnSums = sums.data();
      args.columnStride = static_cast<int64_t>(sums.size()) / kHeads;
      cpu::attend(context, args);
      EXPECT_EQ(counted, expected);
      EXPECT(expected > 0);

      // Weights of a few tokens that matter and many that do not.
      std::mt19937 random(8);
      const int heads = kGroup * kHeads;
      std::vector<float> weights(static_cast<size_t>(heads * held)), out(q.size());
      for (float& p : weights) p = std::ldexp(1.0f + static_cast<float>(random() % 1000) / 1000.0f, -static_cast<int>(random() % 30) - 3);
      expected = counted = 0;
      constexpr int kChunk = 256;
      std::vector<double> reference(q.size());
      for (int h = 0; h < kHeads; ++h)
        for (int begin = 0; begin < held; begin += kChunk) {
          const int end = std::min(begin + kChunk, held);
          std::vector<int> needed(static_cast<size_t>(end - begin), 8);
          for (int g = h * kGroup; g < (h + 1) * kGroup && begin < planed; ++g) {
            const auto weight = [&](int s) { return double{weights[static_cast<size_t>(g * held + s)]}; };
            std::vector<double> sum(static_cast<size_t>(f.dim));
            for (int first = begin; first < std::min(begin + kProbes, end); ++first) {
              int heaviest = first;
              for (int s = first; s < end; s += kProbes)
                if (weight(s) > weight(heaviest)) heaviest = s;
              for (int c = 0; c < f.dim; ++c)
                sum[static_cast<size_t>(c)] += weight(heaviest) * std::fabs(double{f16ToFloat(cutTo(8, floatToF16(f.given(h, heaviest, c, false))))});
            }
            int reaches = INT_MAX;
            for (int c = 0; c < f.dim; ++c) {
              int largest = 1;
              for (int s = begin; s < std::min(end, planed); ++s) largest = std::max(largest, binadeOfHalf(f.given(h, s, c, false)));
              reaches = std::min(reaches, binade(sum[static_cast<size_t>(c)]) - 1 + 15 - largest);
            }
            for (int s = begin; s < end; ++s) needed[static_cast<size_t>(s - begin)] = std::max(needed[static_cast<size_t>(s - begin)], neededBits(reaches - binade(weight(s))));
          }
          for (int s = begin; s < end; ++s) {
            const int bits = s < planed ? needed[static_cast<size_t>(s - begin)] : 16;
            expected += int64_t{16 - bits} * f.dim / 8;
            for (int g = h * kGroup; g < (h + 1) * kGroup; ++g)
              for (int c = 0; c < f.dim; ++c)
                reference[static_cast<size_t>(g * f.dim + c)] += double{weights[static_cast<size_t>(g * held + s)]} * f16ToFloat(cutTo(bits, floatToF16(f.given(h, s, c, false))));
          }
        }
      args = argsOf(f, q, &out, &counted);
      args.reuse = weights.data();
      args.probabilityStride = held;
      cpu::attend(context, args);
      EXPECT_EQ(counted, expected);
      EXPECT(expected > 0 && expected <= int64_t{held} * f.dim * kHeads);  // half of 2 S d, at the most
      for (size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], reference[i], 1e-4);  // sums of 400 products of order 1 in f32
      counted = 0;
      args.aligned = 64;
      cpu::attend(context, args);
      EXPECT_EQ(counted, int64_t{0});
    }
}

TEST(pages_move_between_rows_planes_and_codes) {
  Filled f({256, 64}, {});
  f.feed(100);
  const int64_t plain = f.cache.allocatedBytes();
  const auto intact = [&](int slots) {
    for (int slot = 0; slot < slots; ++slot)
      for (const bool keys : {true, false})
        for (int c = 0; c < f.dim; ++c) EXPECT(f.row(1, slot, keys)[static_cast<size_t>(c)] == f.given(1, slot, c, keys), slots, slot, c, keys);
  };
  f.cache.setFormat(alignedFormat(), f.pool);
  EXPECT(f.head(0).keyForms && f.head(0).keyForms[0].planes == Planes::byChannel && f.head(0).valueForms[0].planes == Planes::byToken);
  EXPECT_EQ(f.cache.allocatedBytes(), plain + int64_t{kHeads} * 2 * 6 * 64);  // a byte for each channel of 6 pages
  EXPECT_EQ(f.ledger.bytes(MemoryTag::kv), f.cache.allocatedBytes());
  intact(100);
  f.cache.setFormat({}, f.pool);
  EXPECT_EQ(f.cache.allocatedBytes(), plain);
  EXPECT(f.cache.asFormatted());
  intact(100);
  f.cache.setFormat(alignedFormat(), f.pool);
  f.cache.truncate(37);  // into a page, which opens
  intact(37);
  f.cache.setFormat(formatOf(8, 8), f.pool);
  EXPECT(f.cache.asFormatted());
  f.cache.setFormat(alignedFormat(), f.pool);
  EXPECT(!f.cache.asFormatted());  // what was rounded stays so

  Filled g({2048, 64}, alignedFormat());
  g.feed(400);
  std::vector<int32_t> kept = range(0, 4);
  for (const int32_t slot : range(21, 400)) kept.push_back(slot);
  g.keep(kept);
  EXPECT_EQ(g.cache.takeRegrouped(), int64_t{0});
  for (size_t slot = 0; slot < kept.size(); ++slot)
    for (int c = 0; c < 64; ++c) EXPECT(g.row(1, static_cast<int>(slot), true)[static_cast<size_t>(c)] == g.given(1, kept[slot], c, true), slot, c);
}

TEST(reading_all_of_them_is_the_plain_cache_bit_for_bit) {
  const uint64_t plain = hashOf(2, {});
  EXPECT_EQ(hashOf(2, {{"kv.aligned", "64"}}), plain);
  EXPECT(hashOf(2, {{"kv.aligned", "4"}}) != plain);
  for (const Settings& beside : {Settings{{"kv.policy", "h2o"}, {"kv.budget", "0.4"}}, Settings{{"kv.policy", "quest"}, {"kv.budget", "48"}}, Settings{{"share.block", "2"}, {"share.first", "0"}},
                                 Settings{{"kv.policy", "streaming"}, {"kv.budget", "50"}, {"kv.positions", "cache"}}, Settings{{"kv.k_bits", "8"}}, Settings{{"kv.layers", "0:4"}, {"kv.rotate", "true"}}}) {
    Settings all = beside, some = beside;
    all.emplace_back("kv.aligned", "64");
    some.emplace_back("kv.aligned", "4");
    EXPECT_EQ(hashOf(2, all), hashOf(2, beside));
    EXPECT_EQ(hashOf(1, some), hashOf(3, some));
  }
}

TEST(it_saves_reading_and_no_memory_and_says_both) {
  const auto engine = openEngine(kRandom);
  const SessionOptions options{.context = 2048};
  const auto plain = makeSession(engine, Config(), options), aligned = makeSession(engine, configure({{"kv.aligned", "4"}}), options);
  const auto ids = someTokens(500, plain->vocab());
  for (Session* session : {plain.get(), aligned.get()}) {
    ok(session->prefill(ids, {}));
    ok(session->step(3));
  }
  EXPECT(relativeError(plain->logits(), aligned->logits()) < 2e-3, relativeError(plain->logits(), aligned->logits()));
  const double share = static_cast<double>(aligned->kvBytesPerToken()) / static_cast<double>(plain->kvBytesPerToken());
  std::printf("  share of the bytes that are read: %.3f\n", share);
  EXPECT(share > 0.5 && share < 0.98, share);  // weights drawn at random have no channels that stand out
  EXPECT(aligned->cache().liveBytes >= plain->cache().liveBytes && aligned->cache().liveBytes < plain->cache().liveBytes * 102 / 100);
  const auto events = aligned->takeEvents();
  EXPECT(std::ranges::any_of(events, [](const EngineEvent& event) { return event.code == "kv.frees_nothing"; }));

  aligned->request(Config(), "undo");
  ok(plain->step(5));
  ok(aligned->step(5));
  EXPECT(!aligned->cacheMixed() && aligned->kvBytesPerToken() == plain->kvBytesPerToken());
  EXPECT_EQ(aligned->cache().allocatedBytes, plain->cache().allocatedBytes);
}

TEST(the_plan_is_what_a_run_uses) {
  const auto engine = openEngine(kRandom);
  for (const Settings& settings : {Settings{{"kv.aligned", "4"}}, Settings{{"kv.aligned", "4"}, {"kv.policy", "h2o"}, {"kv.budget", "300"}}, Settings{{"kv.aligned", "4"}, {"kv.policy", "quest"}, {"kv.budget", "200"}},
                                   Settings{{"kv.aligned", "4"}, {"kv.v_bits", "4"}}}) {
    const SessionOptions options{.context = 2048};
    const MemoryByTag planned = value(engine->plan(configure(settings), options, 1000));
    const auto session = makeSession(engine, configure(settings), options);
    ok(session->prefill(someTokens(996, session->vocab()), {}));
    generate(*session, 4);
    expectAsPlanned(planned, session->memory(), settings.size());
    EXPECT_EQ(bytes(session->memory(), MemoryTag::kv), session->cache().allocatedBytes);
  }
}

TEST(pages_have_codes_or_planes) {
  ModelConfig model;
  model.layers = 4;
  model.heads = model.kvHeads = 2;
  model.headDim = 64;
  EXPECT(resolve(configure({{"kv.aligned", "4"}, {"kv.k_bits", "8"}}), model).asRequested());
  EXPECT(resolve(configure({{"kv.aligned", "4"}, {"kv.layers", "0-2:4"}}), model).asRequested());
  for (const Settings& none : {Settings{{"kv.aligned", "4"}, {"kv.k_bits", "8"}, {"kv.v_bits", "4"}}, Settings{{"kv.aligned", "4"}, {"kv.layers", "*:8"}}}) {
    const Effective effective = resolve(configure(none), model);
    EXPECT(effective.config.integer("kv.aligned") == 0 && adjustment(effective, "kv.aligned") && adjustment(effective, "kv.aligned")->reason.find("planes") != std::string::npos);
  }
  model.headDim = 12;
  EXPECT(adjustment(resolve(configure({{"kv.aligned", "4"}}), model), "kv.aligned"));
}

TEST(rewinding_and_branching_keep_planes) {
  const auto engine = openEngine(kRandom);
  const auto session = makeSession(engine, configure({{"kv.aligned", "4"}}));
  const auto ids = someTokens(100, session->vocab());
  const auto all = logitsAfter(*session, ids);
  EXPECT_EQ(session->rewind(50), int64_t{50});
  ok(session->prefill(std::span(ids).subspan(50), {}));
  EXPECT(relativeError(all, session->logits()) < 1e-5, relativeError(all, session->logits()));  // prompts see whole values; they are cut elsewhere
  EXPECT(canBranch(*session));
}

// Far closer to 16 bits than codes of half as many, and the closer the more binades lie between.
TEST(the_starter_hardly_notices) {
  const auto engine = value(Engine::create(value(Model::open(WINNOW_TESTS_DIR "/../resources/starter/starter.gguf")), {}));
  const double by4 = divergence(engine, {{"kv.aligned", "4"}}), by1 = divergence(engine, {{"kv.aligned", "1"}}), by6 = divergence(engine, {{"kv.aligned", "6"}});
  const double codes = divergence(engine, {{"kv.k_bits", "8"}, {"kv.v_bits", "8"}});
  std::printf("  KLD, aligned by 1 binade %.8f, by 4 %.8f, by 6 %.8f, 8-bit codes %.8f\n", by1, by4, by6, codes);
  EXPECT(by4 < codes / 20 && by4 < by1 / 100 && by6 < by4, by1, by4, by6, codes);
}
