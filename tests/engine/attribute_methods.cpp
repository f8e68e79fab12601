// SPDX-License-Identifier: GPL-3.0-or-later
// The worked example of pruning_sharing_attribution.md, L2: four sources, two paragraphs, every method digit by digit.
#include <array>

#include "engine/attribute/agreement.h"
#include "engine/attribute/lasso.h"
#include "engine/attribute/method.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr const char* kContext = "a. b.\n\nc. d.";

// Sources are the letters a b c d; the response has two tokens of log sigma(b + sum w v + sum J v v).
struct ToyModel {
  std::array<double, 2> bias;
  std::array<std::array<double, 4>, 2> w;
  double j13, j34, j23;  // of the first token, the first, the second
};
constexpr ToyModel kTarget{{-2, -1}, {{{.6, .1, 3, .4}, {.5, 0, 1.5, .6}}}, .5, -.6, .3};
constexpr ToyModel kProxy{{-1.5, -.8}, {{{.3, .2, 2.2, .6}, {0, .2, 1, .9}}}, .3, -.2, .1};

class Toy final : public ResponseScorer {
 public:
  explicit Toy(const ToyModel& model) : model_(model) {}
  Result<ResponseScore> score(const std::string& context) override {
    std::array<double, 4> v{};
    for (size_t i = 0; i < 4; ++i) v[i] = context.find(static_cast<char>('a' + i)) != std::string::npos;
    ResponseScore out;
    for (size_t token = 0; token < 2; ++token) {
      double z = model_.bias[token];
      for (size_t i = 0; i < 4; ++i) z += model_.w[token][i] * v[i];
      z += token == 0 ? model_.j13 * v[0] * v[2] + model_.j34 * v[2] * v[3] : model_.j23 * v[1] * v[2];
      out.logProbs.push_back(-std::log1p(std::exp(-z)));
    }
    out.tokensFed = static_cast<int64_t>(context.size());
    return out;
  }

 private:
  ToyModel model_;
};

// A method on the toy.
struct ToyRun {
  AttributeRequest request;
  AttributeResult result;
  Toy target{kTarget}, proxy{kProxy};
  AttributionTask task{request, target, result};
  explicit ToyRun(const std::string& method, bool withProxy = false) {
    request.context = kContext;
    request.method = method;
    request.attribot.keepParagraphs = 2;  // as many as there are
    result.sources = splitSources(request.context, SourceUnit::sentence);
    if (withProxy) task.proxy = &proxy;
  }
  Status run() { return findAttributionMethod(request.method)->run(task); }
};

using Expected = std::array<std::optional<double>, 4>;
constexpr auto kNone = std::nullopt;
constexpr Expected kExact{0.2952565153, 0.0569727298, 1.6192357655, 0.0797770043};

void expectScores(const AttributeResult& result, const Expected& expected, double bound = 1e-9) {
  for (size_t i = 0; i < 4; ++i) {
    const Source& source = result.sources[i];
    EXPECT_EQ(source.score.has_value(), expected[i].has_value());
    if (!source.score || !expected[i]) continue;
    EXPECT_NEAR(*source.score, *expected[i], bound);
    double total = 0;
    for (const float token : source.perToken) total += token;
    EXPECT_NEAR(total, *source.score, 1e-6);
  }
}

}  // namespace

TEST(all_masks_of_the_toy) {
  // log p by mask s1s2s3s4, target and proxy.
  constexpr std::array<std::array<double, 2>, 16> table = {{
      {-3.4401896986, -2.8725139439}, {-2.6969159933, -1.8855505348}, {-0.7873386717, -1.0013249183}, {-0.6584359911, -0.5746706502},
      {-3.3526484458, -2.5784964043}, {-2.6144285304, -1.6575412934}, {-0.6584359911, -0.8152308589}, {-0.5615712847, -0.4614258638},
      {-2.5944943941, -2.6343831333}, {-1.9576583476, -1.6818846106}, {-0.4287812107, -0.8391473232}, {-0.3232874992, -0.4551213545},
      {-2.5150854380, -2.3507496380}, {-1.8855505348, -1.4673704969}, {-0.3460917736, -0.6754902622}, {-0.2663147693, -0.3598041682},
  }};
  ToyRun toy("loo");
  for (size_t mask = 0; mask < 16; ++mask) {
    const std::string context = toy.task.contextOf({(mask & 8) != 0, (mask & 4) != 0, (mask & 2) != 0, (mask & 1) != 0});
    EXPECT_NEAR(sum(value(toy.target.score(context)).logProbs), table[mask][0], 1e-10);
    EXPECT_NEAR(sum(value(toy.proxy.score(context)).logProbs), table[mask][1], 1e-10);
  }
}

TEST(leave_one_out_of_the_worked_example) {
  ToyRun toy("loo");
  ok(toy.run());
  expectScores(toy.result, kExact);
  EXPECT_NEAR(toy.result.baseLogProb, -0.2663147693, 1e-9);
  EXPECT_EQ(toy.result.forwards, 5);
  EXPECT_EQ(toy.result.forwardTokens, static_cast<int64_t>(12 + 9 + 8 + 9 + 9));
}

TEST(cancelled_leave_one_out_keeps_what_is_done) {
  ToyRun toy("loo");
  std::stop_source stop;
  toy.task.progress.stop = stop.get_token();
  toy.task.onPartial = [&](const AttributeResult& partial) {
    if (partial.sources[1].score) stop.request_stop();
  };
  const Status status = toy.run();
  EXPECT(!status && status.error().code == ErrorCode::cancelled);
  EXPECT(toy.result.sources[1].score && !toy.result.sources[2].score);
  EXPECT_EQ(toy.result.forwards, 3);
}

TEST(attribot_of_all_paragraphs_is_exact) {
  ToyRun toy("attribot");
  ok(toy.run());
  expectScores(toy.result, kExact);
  EXPECT_EQ(toy.result.forwards, 5);
  EXPECT(toy.result.notes.empty());
}

TEST(the_better_paragraph_is_looked_into) {
  ToyRun toy("attribot");
  toy.request.attribot.keepParagraphs = 1;
  ok(toy.run());
  expectScores(toy.result, {kNone, kNone, 2.0384800022, 0.1289026806});
  EXPECT_NEAR(toy.result.baseLogProb, -0.6584359911, 1e-9);
  EXPECT_EQ(toy.result.forwards, 1 + 2 + 1 + 2);
  EXPECT_EQ(toy.result.notes.size(), 1u);
  toy.request.attribot.hierarchy = false;
  ToyRun flat("attribot");
  flat.request.attribot = toy.request.attribot;
  ok(flat.run());
  expectScores(flat.result, kExact);
}

TEST(paragraph_scores_of_the_worked_example) {
  ToyRun toy("attribot");
  std::array<double, 2> scores{};
  ok(leaveOut(toy.task, {toy.target, toy.task.everySource(), {{0, 1}, {2, 3}}}, [&](size_t group, LeftOut&& left) { scores[group] = left.score; }));
  EXPECT_NEAR(scores[0], 0.3921212217, 1e-9);
  EXPECT_NEAR(scores[1], 2.2487706687, 1e-9);
}

TEST(a_proxy_stands_in_or_prunes) {
  ToyRun alone("attribot", true);
  alone.request.attribot.proxy = AttribotOptions::Proxy::replace;
  ok(alone.run());
  expectScores(alone.result, {0.1016216956, 0.0953171863, 1.1075663287, 0.3156860940});
  EXPECT_EQ(alone.result.proxyForwards, 5);
  EXPECT_EQ(alone.result.forwards, 5);

  const std::pair<int, Expected> table[] = {{2, {kNone, kNone, 2.0384800022, 0.1289026806}},
                                            {3, {0.3351484919, kNone, 1.6343708484, 0.1054937115}},
                                            {4, kExact}};
  for (const auto& [count, expected] : table) {
    ToyRun pruned("attribot", true);
    pruned.request.attribot.keepSources = count;
    ok(pruned.run());
    expectScores(pruned.result, expected);
    EXPECT_EQ(pruned.result.proxyForwards, count < 4 ? 5 : 0);
    EXPECT_EQ(pruned.result.forwards - pruned.result.proxyForwards, count + 1);
  }
  ToyRun both("attribot", true);  // the proxy keeps the second paragraph, then source 3 of it
  both.request.attribot.keepParagraphs = 1;
  both.request.attribot.keepSources = 1;
  ok(both.run());
  expectScores(both.result, {kNone, kNone, -0.7873386717 + 3.4401896986, kNone});
  EXPECT_EQ(both.result.proxyForwards, 1 + 2 + 1 + 2);
  EXPECT_EQ(both.result.forwards, 6 + 2);
}

TEST(an_empty_source_scores_nothing) {
  for (const char* method : {"loo", "attribot"}) {
    ToyRun toy(method);
    Source empty;
    empty.id = 4;
    empty.start = empty.end = empty.separatorEnd = static_cast<int64_t>(toy.request.context.size());
    toy.result.sources.push_back(empty);
    ok(toy.run());
    EXPECT_EQ(*toy.result.sources[4].score, 0.0);
  }
}

// Token accounting: characters for tokens, a prefix of 10, sources of 20, 30, 25 and 15, a question of 8 and a response of 2.
namespace {
class Counter final : public ResponseScorer {
 public:
  Result<ResponseScore> score(const std::string& context) override {
    const std::string prompt = std::string(10, 'p') + context + std::string(8, 'q'), all = prompt + "rr";
    size_t shared = 0;
    while (reuse_ && shared + 1 < prompt.size() && shared < held_.size() && held_[shared] == all[shared]) ++shared;
    held_ = all;
    // The third source matters most, so that its paragraph is kept.
    return ResponseScore{{context.find('c') == std::string::npos ? -5.0 : -1.0, -1.0}, static_cast<int64_t>(all.size() - shared)};
  }
  void reusePrefix(bool on) override {
    reuse_ = on;
    held_.clear();
  }

 private:
  bool reuse_ = false;
  std::string held_;
};

int64_t tokensOf(const std::string& method, bool reuse, int keepParagraphs) {
  Counter counter;
  AttributeRequest request;
  AttributeResult result;
  const std::array<size_t, 4> lengths = {20, 30, 25, 15};
  for (size_t i = 0; i < 4; ++i) {
    Source source;
    source.start = static_cast<int64_t>(request.context.size());
    request.context += std::string(lengths[i] - (i == 1 ? 2 : 0), static_cast<char>('a' + i)) + (i == 1 ? "\n\n" : "");
    source.end = source.separatorEnd = static_cast<int64_t>(request.context.size());
    result.sources.push_back(source);
  }
  request.attribot.reuse = reuse;
  request.attribot.keepParagraphs = keepParagraphs;
  AttributionTask task{request, counter, result};
  ok(findAttributionMethod(method)->run(task));
  return result.forwardTokens;
}
}  // namespace

TEST(tokens_fed_are_those_of_the_formulas) {
  EXPECT_EQ(tokensOf("loo", false, 2), 460);
  EXPECT_EQ(tokensOf("attribot", false, 2), 460);
  EXPECT_EQ(tokensOf("attribot", true, 2), 275);
  EXPECT_EQ(tokensOf("attribot", false, 1), 380);
  EXPECT_EQ(tokensOf("attribot", true, 1), 265);
}

TEST(shapley_of_the_worked_example) {
  ToyRun toy("shapley");
  ok(toy.run());
  expectScores(toy.result, {0.5612170232, 0.0813335836, 2.1309073147, 0.4004170077});
  double total = 0;
  for (const Source& source : toy.result.sources) total += *source.score;
  EXPECT_NEAR(total, 3.1738749292, 1e-9);
  EXPECT_EQ(toy.result.forwards, 16);
  EXPECT_NEAR(toy.result.baseLogProb, -0.2663147693, 1e-9);
}

TEST(sampled_shapley_is_efficient_and_knows_its_error) {
  ToyRun toy("shapley");
  toy.request.samples = 2;  // two pairs of orders are fewer contexts than all
  ok(toy.run());
  EXPECT(toy.result.forwards < 16, toy.result.forwards);
  double total = 0;
  for (const Source& source : toy.result.sources) {
    total += *source.score;
    EXPECT(source.standardError.has_value());
  }
  EXPECT_NEAR(total, 3.1738749292, 1e-9);  // for every order

  // Thirty sources of a weight each and a pair that only counts together: additive but for the pair.
  struct Additive final : ResponseScorer {
    Result<ResponseScore> score(const std::string& context) override {
      double total = -50;
      for (int i = 0; i < 30; ++i)
        if (context.find("<" + std::to_string(i) + ">") != std::string::npos) total += 0.1 * i;
      if (context.find("<3>") != std::string::npos && context.find("<7>") != std::string::npos) total += 1;
      return ResponseScore{{total}, 1};
    }
  } scorer;
  AttributeRequest request;
  request.samples = 20;
  for (int i = 0; i < 30; ++i) request.context += "Say <" + std::to_string(i) + ">. ";
  AttributeResult result;
  result.sources = splitSources(request.context, SourceUnit::sentence);
  AttributionTask task{request, scorer, result};
  ok(findAttributionMethod("shapley")->run(task));
  for (int i = 0; i < 30; ++i) {
    const Source& source = result.sources[static_cast<size_t>(i)];
    const bool pair = i == 3 || i == 7;
    EXPECT_NEAR(*source.score, 0.1 * i + (pair ? 0.5 : 0.0), 1e-9);  // an order and its reverse meet the pair once each way
    EXPECT_NEAR(*source.standardError, 0, 1e-9);
  }
}

TEST(contextcite_of_the_worked_example) {
  ToyRun toy("contextcite");
  ok(toy.run());
  const std::array<double, 4> expected = {0.8137324176, 0.1219086241, 2.9933006729, 0.4707652514};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(*toy.result.sources[i].score, expected[i], 1e-8);
    EXPECT_EQ(toy.result.sources[i].perToken.size(), 2u);
  }
  EXPECT_EQ(toy.result.forwards, 16);
  EXPECT(toy.result.confidence && *toy.result.confidence > 0.8, toy.result.confidence.value_or(-1));
}

TEST(lasso_of_all_masks_thresholds_least_squares) {
  ToyRun toy("loo");
  std::vector<std::vector<double>> rows;
  std::vector<double> y;
  for (size_t mask = 0; mask < 16; ++mask) {
    const std::vector<bool> keep = {(mask & 8) != 0, (mask & 4) != 0, (mask & 2) != 0, (mask & 1) != 0};
    rows.emplace_back(keep.begin(), keep.end());
    const double a = sum(value(toy.target.score(toy.task.contextOf(keep))).logProbs);
    y.push_back((a - std::log(-std::expm1(a))) / 2);
  }
  const LassoFit little = lasso(rows, y, 0.01), much = lasso(rows, y, 0.1), none = lasso(rows, y, 0);
  const std::array<double, 4> expected = {0.4537324176, 0, 2.6333006729, 0.1107652514};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(2 * much.weights[i], expected[i], 1e-8);
    EXPECT_NEAR(2 * little.weights[i], 2 * none.weights[i] - 0.04, 1e-8);  // m alpha / sd
  }
  EXPECT_NEAR(2 * much.intercept, -2.6277783103, 1e-8);
  EXPECT_NEAR(2 * little.intercept, -3.2287326224, 1e-8);
  EXPECT_EQ(much.weights[1], 0.0);
  for (auto& row : rows) row.push_back(1);  // a constant column says nothing
  EXPECT_EQ(lasso(rows, y, 0.01).weights[4], 0.0);
}

TEST(contextcite_draws_the_same_masks_again) {
  struct Letters final : ResponseScorer {
    Result<ResponseScore> score(const std::string& context) override { return ResponseScore{{context.find('h') == std::string::npos ? -3.0 : -0.5}, 1}; }
  } scorer;
  AttributeRequest request;
  request.context = "a. b. c. d. e. f. g. h. i. j.";
  const auto run = [&](uint64_t seed) {
    request.seed = seed;
    AttributeResult result;
    result.sources = splitSources(request.context, SourceUnit::sentence);
    AttributionTask task{request, scorer, result};
    ok(findAttributionMethod("contextcite")->run(task));
    return result;
  };
  const AttributeResult once = run(1), again = run(1), other = run(2);
  EXPECT(scoresOf(once.sources) == scoresOf(again.sources));
  EXPECT(scoresOf(once.sources) != scoresOf(other.sources) || once.forwards != other.forwards);
  EXPECT(best(scoresOf(once.sources), 1)[7]);
  EXPECT(once.forwards <= 65, once.forwards);
}

TEST(agreement_of_the_worked_example) {
  const std::vector<double> exact = {0.2952565153, 0.0569727298, 1.6192357655, 0.0797770043}, proxy = {0.1016216956, 0.0953171863, 1.1075663287, 0.3156860940},
                            hierarchy = {kUnscored, kUnscored, 2.0384800022, 0.1289026806}, pruned = {0.3351484919, kUnscored, 1.6343708484, 0.1054937115},
                            shapley = {0.5612170232, 0.0813335836, 2.1309073147, 0.4004170077};
  const std::vector<bool> outlier = outliers(exact, 1.5), top = best(exact, 2);
  EXPECT(outlier == (std::vector<bool>{false, false, true, false}));
  EXPECT(outliers(exact) == outlier);  // none beyond 2 deviations: the best one
  EXPECT(top == (std::vector<bool>{true, false, true, false}));
  for (const auto* scores : {&proxy, &hierarchy, &pruned, &shapley}) EXPECT_NEAR(averagePrecision(outlier, *scores), 1, 1e-12);
  EXPECT_NEAR(averagePrecision(top, proxy), 0.833333, 1e-6);
  EXPECT_NEAR(averagePrecision(top, hierarchy), 0.833333, 1e-6);
  EXPECT_NEAR(averagePrecision(top, pruned), 1, 1e-12);
  EXPECT_NEAR(averagePrecision(top, shapley), 1, 1e-12);
  std::vector<double> reversed;
  for (const double score : exact) reversed.push_back(-score);
  EXPECT_NEAR(averagePrecision(top, reversed), 0.416667, 1e-6);
  EXPECT_NEAR(averagePrecision(top, exact), 1, 1e-12);
  EXPECT_NEAR(spearman(exact, proxy), 0.8, 1e-6);
  EXPECT_NEAR(spearman(exact, hierarchy), 0.632456, 1e-6);
  EXPECT_NEAR(spearman(exact, pruned), 1, 1e-6);
  EXPECT_NEAR(spearman(exact, shapley), 1, 1e-6);
  EXPECT_NEAR(topOverlap(exact, proxy, 2), 0.5, 1e-12);
}
