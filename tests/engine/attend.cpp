// SPDX-License-Identifier: GPL-3.0-or-later
// Attention against a reference in double, with every tap, for decoding and prefill.
//
// The bounds, u = 2^-24. A score is a sum of n = headDim terms: off by at most e = (n + 12) u scale sum |q| |k|. A probability moves by the
// factor exp(+-2e); the exponential adds 2^-22 twice (numerator and, on average, denominator), merging and scaling by chunk or page
// as much again per change of the maximum, bounded here by 16 of them; the sum of `len` weights len u / 4 + 40 u. So
// |dp| <= p r with r = exp(2e) - 1 + 16 * 2^-22 + (len / 4 + 40) u, and |dout| <= sum p |v| (r + (len + 40) u).
#include "tests/engine/ops/harness.h"

#include "engine/core/dtype.h"

using namespace winnow;
using namespace winnow::cpu;
using namespace winnow::test;

namespace {

struct Shape {
  int heads, kvHeads, headDim, queries, pageTokens, window;
  std::vector<int> tokens;  // per kv head
};

struct Head {
  std::vector<std::unique_ptr<Guarded<uint16_t>>> pages;
  std::vector<const uint16_t*> keys, values;
  std::vector<int32_t> positions;
};

struct Setup {
  Shape shape;
  std::vector<Head> heads;
  std::vector<KvHead> kv;
  std::vector<float> q;
  int stride = 0;  // of probabilities
  explicit Setup(const Shape& s)
      : shape(s), heads(static_cast<size_t>(s.kvHeads)), q(static_cast<size_t>(s.queries * s.heads * s.headDim)) {
    std::mt19937 rng(4);
    fillNormal(q.data(), q.size(), 21);
    for (int h = 0; h < s.kvHeads; ++h) {
      Head& head = heads[static_cast<size_t>(h)];
      const int tokens = s.tokens[static_cast<size_t>(h)];
      for (int i = 0, position = 0; i < tokens; ++i) head.positions.push_back(position += 1 + static_cast<int>(rng() % 3 == 0));
      for (int p = 0; p * s.pageTokens < tokens; ++p)
        for (auto* list : {&head.keys, &head.values}) {
          const size_t size = static_cast<size_t>(s.pageTokens * s.headDim),
                       used = static_cast<size_t>(std::min(s.pageTokens, tokens - p * s.pageTokens) * s.headDim);
          head.pages.push_back(std::make_unique<Guarded<uint16_t>>(size));
          std::vector<float> values(used);
          fillNormal(values.data(), used, static_cast<uint32_t>(rng()), 0.5f);
          for (size_t i = 0; i < size; ++i)
            (*head.pages.back())[i] = i < used ? floatToF16(values[i]) : uint16_t{0x7e00};  // NaN in unused slots
          list->push_back(head.pages.back()->data());
        }
      kv.push_back({head.keys.data(), head.values.data(), tokens, head.positions.data()});
      stride = std::max(stride, tokens + 5);
    }
  }
  float key(int h, int s, int c, bool value) const {
    const Head& head = heads[static_cast<size_t>(h)];
    const auto& list = value ? head.values : head.keys;
    return f16ToFloat(list[static_cast<size_t>(s / shape.pageTokens)][s % shape.pageTokens * shape.headDim + c]);
  }
  bool sees(int h, int query, int s) const {
    const int own = shape.tokens[static_cast<size_t>(h)] - shape.queries + query;
    const auto& p = heads[static_cast<size_t>(h)].positions;
    return s <= own && (shape.window == 0 || p[static_cast<size_t>(s)] > p[static_cast<size_t>(own)] - shape.window);
  }
};

struct Expected {
  std::vector<double> out, outBound;   // [queries][heads][headDim]
  std::vector<double> p, pBound;       // [heads][queries][stride]
  std::vector<double> sums, sumBound;  // [kvHeads][stride]
};

Expected expect(const Setup& setup) {
  const Shape& s = setup.shape;
  Expected e;
  e.out.resize(setup.q.size());
  e.outBound = e.out;
  e.p.resize(static_cast<size_t>(s.heads * s.queries * setup.stride));
  e.pBound = e.p;
  e.sums.resize(static_cast<size_t>(s.kvHeads * setup.stride));
  e.sumBound = e.sums;
  const double scale = static_cast<float>(1 / std::sqrt(s.headDim)), u = 0x1p-24;
  for (int head = 0; head < s.heads; ++head)
    for (int i = 0; i < s.queries; ++i) {
      const int h = head / (s.heads / s.kvHeads), tokens = s.tokens[static_cast<size_t>(h)];
      const float* q = setup.q.data() + (i * s.heads + head) * s.headDim;
      double* p = e.p.data() + static_cast<size_t>((head * s.queries + i) * setup.stride);
      double largest = -1e300, sum = 0, worst = 0;
      for (int t = 0; t < tokens; ++t) {
        double dot = 0, size = 0;
        for (int c = 0; c < s.headDim; ++c) {
          dot += static_cast<double>(q[c]) * setup.key(h, t, c, false) * scale;
          size += std::fabs(static_cast<double>(q[c]) * setup.key(h, t, c, false)) * scale;
        }
        p[t] = setup.sees(h, i, t) ? dot : -1e300;
        if (setup.sees(h, i, t)) worst = std::max(worst, size);
        largest = std::max(largest, p[t]);
      }
      for (int t = 0; t < tokens; ++t) sum += p[t] = p[t] == -1e300 ? 0 : std::exp(p[t] - largest);
      const double r = std::expm1(2 * (s.headDim + 12) * u * worst) + 0x1p-18 + (tokens / 4.0 + 40) * u;
      for (int t = 0; t < tokens; ++t) {
        p[t] /= sum;
        e.pBound[static_cast<size_t>((head * s.queries + i) * setup.stride + t)] = p[t] * r + 0x1p-125;  // exponentials below 2^-126 are 0
        e.sums[static_cast<size_t>(h * setup.stride + t)] += p[t];
        e.sumBound[static_cast<size_t>(h * setup.stride + t)] += p[t] * (r + s.queries * s.heads * u) + 0x1p-120;
        for (int c = 0; c < s.headDim; ++c) {
          e.out[static_cast<size_t>((i * s.heads + head) * s.headDim + c)] += p[t] * setup.key(h, t, c, true);
          e.outBound[static_cast<size_t>((i * s.heads + head) * s.headDim + c)] +=
              p[t] * std::fabs(setup.key(h, t, c, true)) * (r + (tokens + 40) * u) + 0x1p-120;
        }
      }
    }
  return e;
}

struct Result {
  Output out, probabilities, sums;
};

Result attendOnce(Machine& machine, const Setup& setup, bool taps, const float* reuse = nullptr) {
  const Shape& s = setup.shape;
  Result r{Output(s.queries, s.heads * s.headDim, 2, NAN), Output(1, s.heads * s.queries * setup.stride, 0, NAN),
           Output(1, s.kvHeads * setup.stride, 0, 0.25f)};
  AttendArgs args;
  args.heads = s.heads;
  args.kvHeads = s.kvHeads;
  args.headDim = s.headDim;
  args.queries = s.queries;
  args.pageTokens = s.pageTokens;
  args.q = reuse ? nullptr : setup.q.data();
  args.qStride = s.heads * s.headDim;
  args.kv = setup.kv.data();
  args.scale = static_cast<float>(1 / std::sqrt(s.headDim));
  args.slidingWindow = s.window;
  args.out = r.out.data();
  args.outStride = r.out.stride();
  args.probabilityStride = setup.stride;
  args.reuse = reuse;
  if (taps) {
    args.columnSums = r.sums.data();
    args.columnStride = setup.stride;
    args.probabilities = r.probabilities.data();
  }
  attend(machine.context, args);
  EXPECT(r.out.intact() && r.probabilities.intact() && r.sums.intact());
  return r;
}

double worstRatio(const float* found, const std::vector<double>& expected, const std::vector<double>& bound, size_t begin, size_t count,
                  double shift = 0) {
  double worst = 0;
  for (size_t i = 0; i < count; ++i) {
    const double error = std::fabs(static_cast<double>(found[i]) - shift - expected[begin + i]);
    // A slot that is not seen has probability exactly 0.
    const double ratio =
        expected[begin + i] == 0 && shift == 0 && bound[begin + i] < 1e-30 ? (found[i] == 0 ? 0 : 1e9) : error / bound[begin + i];
    worst = std::isnan(ratio) ? 1e9 : std::max(worst, ratio);
  }
  return worst;
}

void runShape(const Shape& shape) {
  static const auto one = machines(1), two = machines(2), three = machines(3);
  const Setup setup(shape);
  const Expected e = expect(setup);
  const size_t width = static_cast<size_t>(shape.heads * shape.headDim);
  for (size_t i = 0; i < one.size(); ++i) {
    const auto where = isaName(one[i]->context.isa()) + " heads " + std::to_string(shape.heads) + "/" + std::to_string(shape.kvHeads) +
                       " dim " + std::to_string(shape.headDim) + " queries " + std::to_string(shape.queries) + " tokens " +
                       std::to_string(shape.tokens[0]) + " page " + std::to_string(shape.pageTokens) + " window " +
                       std::to_string(shape.window);
    Result bare = attendOnce(*one[i], setup, false), tapped = attendOnce(*one[i], setup, true);
    EXPECT(bare.out == tapped.out, "observers change the output", where);
    for (int t = 0; t < shape.queries; ++t) {
      const double worst = worstRatio(bare.out.row(t), e.out, e.outBound, static_cast<size_t>(t) * width, width);
      EXPECT(worst <= 1, where, worst);
    }
    const double p = worstRatio(tapped.probabilities.data(), e.p, e.pBound, 0, e.p.size());
    EXPECT(p <= 1, where, p);
    std::vector<double> sumBound = e.sumBound;
    for (double& b : sumBound) b += (0.25 + 40) * 0x1p-24;  // sums are added to what was there
    const double sums = worstRatio(tapped.sums.data(), e.sums, sumBound, 0, e.sums.size(), 0.25);
    EXPECT(sums <= 1, where, sums);
    for (auto* other : {two[i].get(), three[i].get()}) {
      const Result same = attendOnce(*other, setup, true);
      EXPECT(same.out == tapped.out && same.probabilities == tapped.probabilities && same.sums == tapped.sums, where, "threads",
             other->pool.threads());
    }
    // A follower that is handed the leader's probabilities computes the leader's output.
    Result follower = attendOnce(*one[i], setup, true, tapped.probabilities.data());
    EXPECT(follower.probabilities == tapped.probabilities, where);
    for (int t = 0; t < shape.queries; ++t)
      for (size_t c = 0; c < width; ++c) {
        const double bound = 2 * e.outBound[static_cast<size_t>(t) * width + c];
        EXPECT_NEAR(follower.out.row(t)[c], bare.out.row(t)[c], bound);
      }
    EXPECT(attendOnce(*two[i], setup, false, tapped.probabilities.data()).out == follower.out, where);
  }
}

}  // namespace

TEST(attend_decodes_one_query) {
  for (int window : {0, 20})
    for (int page : {16, 64})
      for (const Shape& s :
           {Shape{4, 2, 64, 1, page, window, {700, 300}}, Shape{1, 1, 8, 1, page, window, {1}}, Shape{7, 1, 80, 1, page, window, {65}},
            Shape{3, 3, 128, 1, page, window, {5, 64, 257}}, Shape{6, 2, 12, 1, page, window, {256, 512}}})
        runShape(s);
}

TEST(attend_prefills_blocks_of_queries) {
  for (int window : {0, 20})
    for (int page : {16, 64})
      for (const Shape& s :
           {Shape{4, 2, 64, 64, page, window, {64, 200}}, Shape{1, 1, 8, 3, page, window, {3}}, Shape{7, 1, 80, 17, page, window, {65}},
            Shape{3, 3, 128, 5, page, window, {5, 64, 257}}, Shape{2, 1, 12, 130, page, window, {130}}})
        runShape(s);
}

// The two paths sum in different orders, so they agree within the sum of their bounds: n tokens at once equal n steps of one.
TEST(attend_prefill_equals_decode_within_the_bound) {
  const Shape all{4, 2, 64, 40, 16, 0, {90, 90}};
  for (auto& machine : machines(1)) {
    const Setup setup(all);
    const Expected e = expect(setup);
    Result prefill = attendOnce(*machine, setup, false);
    for (int i = 0; i < all.queries; ++i) {
      Setup step(all);
      step.shape.queries = 1;
      for (auto& kv : step.kv) kv.tokens = 90 - 40 + i + 1;
      step.q.assign(setup.q.begin() + i * 256, setup.q.begin() + (i + 1) * 256);
      Result decode = attendOnce(*machine, step, false);
      for (int c = 0; c < 256; ++c)
        EXPECT_NEAR(decode.out.row(0)[c], prefill.out.row(i)[c], 2 * e.outBound[static_cast<size_t>(i * 256 + c)]);
    }
  }
}
