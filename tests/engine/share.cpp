// SPDX-License-Identifier: GPL-3.0-or-later
// EchoAtt: the partition into blocks, and the three-layer worked example (pruning_sharing_attribution.md, L1) run through the
// engine's own cache and operations.
#include <array>

#include "engine/cpu/kv_cache.h"
#include "engine/knobs/knobs.h"
#include "engine/share/methods.h"
#include "engine/share/registry.h"
#include "tests/support/check.h"

using namespace winnow;

TEST(followers_are_counted_as_the_paper_does) {
  for (int layers : {3, 5, 12, 22, 32})
    for (int first : {0, 1, 2})
      for (int last : {0, 1})
        for (int block : {1, 2, 3, 4}) {
          int followers = 0;
          const auto map = uniformBlocks(layers, first, last, block);
          for (int layer = 0; layer < layers; ++layer) followers += map[static_cast<size_t>(layer)].attnSource != layer;
          const int inner = std::max(0, layers - first - last);
          EXPECT_EQ(followers, inner - (inner + block - 1) / block);
        }
}

TEST(automatic_margins_follow_the_depth) {
  ModelConfig model;
  model.layers = 32;
  const auto map = shareMethods()[0].sharing(model, Config().with("share.block", int64_t{2}));
  EXPECT_EQ(map[4].attnSource, 4);  // max(2, 32 / 8) layers left alone, then 4-5, 6-7 ... 28-29
  EXPECT_EQ(map[5].attnSource, 4);
  EXPECT_EQ(map[3].attnSource, 3);
  EXPECT_EQ(map[29].attnSource, 28);
  EXPECT_EQ(map[30].attnSource, 30);  // and max(1, 32 / 16)
}

namespace {

constexpr int kDim = 4, kTokens = 3, kHeads = 2, kHeadDim = 2;
using Square = std::array<float, 16>;
struct ToyLayer {
  Square q, k, v, o;
};
const std::array<ToyLayer, 3> kToy = {{
    {{1, 0, 0, .5, 0, 1, .5, 0, .5, 0, 1, 0, 0, .5, 0, 1}, {.5, .5, 0, 0, 0, 0, 1, .5, 1, 0, 0, .5, 0, 1, .5, 0},
     {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, {.5, 0, 0, 0, 0, .5, 0, 0, 0, 0, .5, 0, 0, 0, 0, .5}},
    {{.2f, 1, 0, 0, 1, .2f, 0, .5, 0, .5, 1, .2f, .5, 0, .2f, 1}, {1, .5, 0, 0, 0, 1, .5, 0, 0, 0, 1, .5, .5, 0, 0, 1},
     {.5, .5, 0, 0, 0, .5, .5, 0, 0, 0, .5, .5, .5, 0, 0, .5}, {.2f, .1f, 0, 0, 0, .2f, .1f, 0, 0, 0, .2f, .1f, .1f, 0, 0, .2f}},
    {{.2f, .9f, .1f, 0, 1, .2f, .1f, .4f, 0, .6f, .9f, .2f, .5, .1f, .2f, .9f}, {.9f, .5, .1f, 0, .1f, 1, .5, 0, 0, .1f, 1, .4f, .5, 0, .1f, 1},
     {0, 1, 0, .5, 1, 0, .5, 0, 0, .5, 0, 1, .5, 0, 1, 0}, {.3f, 0, .1f, 0, 0, .3f, 0, .1f, .1f, 0, .3f, 0, 0, .1f, 0, .3f}},
}};

Matrix squareMatrix(const Square& values) {
  Matrix m;
  m.format = {Storage::f32, 32, 0, true};
  m.rows = m.cols = kDim;
  m.data = values.data();
  return m;
}

// Runs the toy; leaders[l] == l attends itself. `step` tokens go in at a time. Probabilities of each layer's last batch are kept.
std::array<float, 12> runToy(const std::array<int, 3>& leaders, int step, std::array<std::vector<float>, 3>* probabilities = nullptr) {
  ThreadPool pool(1);
  cpu::Context context(pool, cpu::bestIsa());
  Ledger ledger;
  ModelConfig model;
  model.layers = 3;
  model.kvHeads = kHeads;
  model.headDim = kHeadDim;
  cpu::HostKvCache cache(ledger, model, 64);
  for (int layer = 0; layer < 3; ++layer)
    if (leaders[static_cast<size_t>(layer)] != layer) cache.dropKeys(layer);

  std::array<float, 12> x = {1, 0, .5, -.5, 0, 1, -.5, .5, .5, .5, 1, 0};
  std::array<std::vector<float>, 3> kept;
  constexpr int kStride = 16;
  for (int first = 0; first < kTokens; first += step) {
    const int n = std::min(step, kTokens - first);
    cache.reserve(n);
    float* rows = x.data() + first * kDim;
    for (int layer = 0; layer < 3; ++layer) {
      const auto l = static_cast<size_t>(layer), leader = static_cast<size_t>(leaders[l]);
      std::array<float, 12> q{}, k{}, v{}, attended{};
      const auto project = [&](const Square& w, float* out, const float* in, bool add) {
        const Matrix m = squareMatrix(w);
        const cpu::MatmulTarget target{&m, out, kDim, nullptr, add};
        cpu::matmul(context, {&target, 1}, in, kDim, n, ActivationMode::f32);
      };
      project(kToy[l].v, v.data(), rows, false);
      cpu::AttendArgs args;
      args.heads = args.kvHeads = kHeads;
      args.headDim = kHeadDim;
      args.queries = n;
      args.pageTokens = cache.pageTokens();
      args.scale = 1.0f / std::sqrt(2.0f);
      args.out = attended.data();
      args.qStride = args.outStride = kDim;
      args.probabilityStride = kStride;
      if (leader == l) {
        project(kToy[l].q, q.data(), rows, false);
        project(kToy[l].k, k.data(), rows, false);
        cache.append(layer, k.data(), v.data(), kDim, n, first, pool);
        kept[l].assign(static_cast<size_t>(kHeads * n * kStride), -1.0f);
        args.q = q.data();
        args.probabilities = kept[l].data();
        args.kv = cache.view(layer, layer).data();
      } else {
        cache.append(layer, nullptr, v.data(), kDim, n, first, pool);
        args.reuse = kept[leader].data();
        args.kv = cache.view(layer, -1).data();
      }
      cpu::attend(context, args);
      project(kToy[l].o, rows, attended.data(), true);
    }
  }
  if (probabilities) *probabilities = kept;
  return x;
}

// The cache holds f16: 2^-11 of values up to 1.6, through three layers.
constexpr double kTolerance = 1e-3;

void near(const std::array<float, 12>& x, const std::array<double, 12>& expected) {
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], expected[i], kTolerance);
}

const std::array<double, 12> kBaseline = {1.5637500000, .8625000000, .5962500000,  .0975000000,  .6971224405,  1.7225725668,
                                          -.3205293718, 1.0231118383, 1.2756843168, 1.4704927199, 1.5357700411, .7260308521};
const std::array<double, 12> kShared = {1.5637500000, .8625000000, .5962500000,  .0975000000,  .7006214219,  1.7190801319,
                                        -.3116633228, 1.0142675409, 1.2682850237, 1.4427510604, 1.5258662913, .6981597664};

}  // namespace

TEST(the_worked_example_without_sharing) {
  std::array<std::vector<float>, 3> p;
  near(runToy({0, 1, 2}, 3, &p), kBaseline);
  const double rows[3][2][5] = {{{.5659055472, .4340944528, .2939722435, .2064239291, .4996038273}, {.3704399040, .6295600960, .3820302428, .2682572436, .3497125136}},
                                {{.5567498080, .4432501920, .2903475331, .2839549660, .4256975008}, {.4443681709, .5556318291, .2217071290, .1446250521, .6336678189}},
                                {{.5578383367, .4421616633, .2392357145, .2200577500, .5407065354}, {.4593554214, .5406445786, .1761827140, .1151532862, .7086639998}}};
  for (int layer = 0; layer < 3; ++layer)
    for (int head = 0; head < kHeads; ++head) {
      const float* own = p[static_cast<size_t>(layer)].data() + head * kTokens * 16;
      EXPECT_NEAR(own[0], 1.0, 1e-6);
      EXPECT_EQ(own[1], 0.0f);  // causal
      for (int j = 0; j < 2; ++j) EXPECT_NEAR(own[16 + j], rows[layer][head][j], kTolerance);
      for (int j = 0; j < 3; ++j) EXPECT_NEAR(own[32 + j], rows[layer][head][2 + j], kTolerance);
    }
}

TEST(the_worked_example_with_a_follower) { near(runToy({0, 1, 1}, 3), kShared); }

TEST(the_worked_example_with_one_block_of_three) {
  near(runToy({0, 0, 0}, 3), {1.5637500000, .8625000000, .5962500000, .0975000000, .7098718327, 1.7101673090, -.2701239395, .9741694748,
                              1.2462605269, 1.4378866319, 1.4621575874, .6208454867});
}

TEST(the_worked_example_token_by_token) {
  near(runToy({0, 1, 2}, 1), kBaseline);
  near(runToy({0, 1, 1}, 1), kShared);
}
