// SPDX-License-Identifier: GPL-3.0-or-later
// Sources of every kind, parts of a response, what a source supported, differences of two attributions, budgets.
#include <cmath>
#include <set>

#include "engine/attribute/budget.h"
#include "engine/attribute/method.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

// Words that matter, token by token: each takes a log probability away when it is missing.
class Words final : public ResponseScorer {
 public:
  explicit Words(std::vector<std::vector<std::pair<std::string, double>>> tokens) : tokens_(std::move(tokens)) {}
  Result<ResponseScore> score(const std::string& context) override {
    ++asked;
    ResponseScore out;
    for (const auto& words : tokens_) {
      double logProb = -0.5;
      for (const auto& [word, nats] : words) logProb -= context.find(word) == std::string::npos ? nats : 0;
      out.logProbs.push_back(logProb);
    }
    out.tokensFed = static_cast<int64_t>(context.size());
    return out;
  }
  Result<std::vector<ResponseScore>> otherChunkings(const std::string& context) override {
    std::vector<ResponseScore> out;
    for (const double shift : {0.0, 0.01, -0.01, 0.0}) {
      out.push_back(value(score(context)));
      --asked;
      out.back().logProbs[0] += shift;
    }
    return out;
  }
  int asked = 0;

 private:
  std::vector<std::vector<std::pair<std::string, double>>> tokens_;
};

constexpr const char* kContext = "alpha one. beta two.\n\ngamma three. delta four.\n\nepsilon five. zeta six.";
Words someWords() { return Words({{{"beta", 2}, {"delta", 0.5}}, {{"zeta", 3}}, {{"beta", 0.25}, {"gamma", 1}}}); }

AttributeResult run(const std::string& method, Words& words, const std::function<void(AttributeRequest&)>& change = {}, std::pair<int, int> span = {}) {
  AttributeRequest request;
  request.context = kContext;
  request.method = method;
  request.attribot.hierarchy = false;
  if (change) change(request);
  AttributeResult result;
  result.method = method;
  result.samples = request.samples;
  result.seed = request.seed;
  result.response = "abc";
  result.responseTokens = {1, 2, 3};
  result.responseEnds = {1, 2, 3};
  result.spanFirst = span.first;
  result.spanLast = span.second > 0 ? span.second : 3;
  result.sources = splitSources(request.context, SourceUnit::sentence);
  AttributionTask task{request, words, result};
  task.span = span;
  ok(findAttributionMethod(method)->run(task));
  return result;
}

double scoreOf(const AttributeResult& result, const std::string& word) {
  for (const Source& source : result.sources)
    if (source.text.find(word) != std::string::npos) return source.score.value_or(NAN);
  return NAN;
}

}  // namespace

TEST(a_part_of_the_response_is_scored_without_a_forward) {
  for (const AttributionMethod& method : attributionMethods()) {
    if (method.name == "attention" || method.name == "rollout" || method.unit) continue;
    Words words = someWords();
    const auto settings = [&](AttributeRequest& request) { request.samples = method.name == "shapley" ? 3 : 0; };
    const AttributeResult whole = run(method.name, words, settings);
    const int asked = words.asked;
    for (const auto& [first, last] : {std::pair{0, 1}, {1, 3}, {0, 3}, {2, 3}}) {
      const AttributeResult part = value(attributeSpan(whole, {ResponseSpan::Unit::tokens, first, last}));
      EXPECT_EQ(words.asked, asked);
      Words fresh = someWords();
      const AttributeResult direct = run(method.name, fresh, settings, {first, last});
      EXPECT_NEAR(part.baseLogProb, direct.baseLogProb, 1e-6);
      EXPECT_NEAR(part.noiseFloor, direct.noiseFloor, 1e-12);
      for (size_t i = 0; i < part.sources.size(); ++i) {
        EXPECT_NEAR(*part.sources[i].score, *direct.sources[i].score, 1e-6);
        EXPECT_EQ(part.sources[i].standardError.has_value(), direct.sources[i].standardError.has_value());
        if (part.sources[i].standardError) EXPECT_NEAR(*part.sources[i].standardError, *direct.sources[i].standardError, 1e-9);
        EXPECT_EQ(part.sources[i].perToken.size(), 3u);
        if (part.sources[i].ablatedLogProb) EXPECT_NEAR(part.baseLogProb - *part.sources[i].ablatedLogProb, *part.sources[i].score, 1e-6);
      }
    }
  }
  Words words = someWords();
  const AttributeResult whole = run("loo", words);
  EXPECT_NEAR(scoreOf(value(attributeSpan(whole, {ResponseSpan::Unit::bytes, 1, 2})), "zeta"), 3, 1e-6);
  EXPECT_NEAR(scoreOf(value(attributeSpan(whole, {ResponseSpan::Unit::bytes, 1, 2})), "beta"), 0, 1e-6);
  for (const ResponseSpan wrong : {ResponseSpan{ResponseSpan::Unit::tokens, 2, 2}, {ResponseSpan::Unit::tokens, 1, 9}, {ResponseSpan::Unit::bytes, 3, 8}, {ResponseSpan::Unit::tokens, -1, 2}})
    EXPECT(!attributeSpan(whole, wrong) && attributeSpan(whole, wrong).error().code == ErrorCode::usage);
}

TEST(what_a_source_supported) {
  Words words = someWords();
  const AttributeResult result = run("loo", words);
  const auto supported = supportedBy(result, 1);  // beta
  EXPECT_EQ(supported.size(), 3u);
  EXPECT_EQ(supported[0].token, 0);
  EXPECT_NEAR(supported[0].nats, 2, 1e-6);
  EXPECT_EQ(supported[1].token, 2);
  EXPECT_NEAR(supported[1].nats, 0.25, 1e-6);
  EXPECT(supported[1].start == 2 && supported[1].end == 3);
  EXPECT_EQ(supported[2].token, 1);
  EXPECT(supportedBy(result, 99).empty());
  // Token 0 has a noise floor of 3 sd of +-0.01; what is below it is called noise.
  const auto least = supportedBy(result, 0);
  EXPECT(std::ranges::any_of(least, [](const SupportedToken& token) { return token.token == 0 && token.noise; }));
}

TEST(two_attributions_differ_by_source_and_token) {
  Words words = someWords(), other({{{"beta", 2}}, {{"zeta", 1}}, {{"gamma", 1.5}}});
  const AttributeResult a = run("loo", words), b = run("loo", other);
  const auto difference = value(attributionDifference(a, b));
  EXPECT(!difference.shares);
  EXPECT_NEAR(*difference.rows[5].difference, -2, 1e-6);   // zeta
  EXPECT_NEAR(difference.rows[5].perToken[1], -2, 1e-6);
  EXPECT_NEAR(*difference.rows[1].difference, -0.25, 1e-6);  // beta
  EXPECT_NEAR(*difference.rows[2].difference, 0.5, 1e-6);    // gamma
  EXPECT_NEAR(difference.rows[0].noise, std::hypot(a.noiseFloor, b.noiseFloor), 1e-12);
  EXPECT(difference.rankCorrelation > 0.5 && difference.rankCorrelation < 1);
  // Attention has no nats: shares are compared.
  AttributeResult mass = a;
  mass.method = "attention";
  for (Source& source : mass.sources) source.score = 1.0;
  const auto shares = value(attributionDifference(mass, a));
  EXPECT(shares.shares && !shares.notes.empty());
  double total = 0;
  for (const auto& row : shares.rows) total += *row.difference;
  EXPECT_NEAR(total, 0, 1e-9);
  AttributeResult elsewhere = b;
  elsewhere.responseTokens = {1};
  EXPECT(!attributionDifference(a, elsewhere));
  elsewhere = b;
  elsewhere.sources.pop_back();
  EXPECT(!attributionDifference(a, elsewhere));
}

TEST(documents_are_passages_or_sections) {
  const std::string markdown = "Before.\n\n# One\nText of one.\n\nMore.\n## Two\n\nText of two.\n#no heading\n";
  const auto sections = splitDocuments(markdown, {});
  EXPECT_EQ(sections.size(), 3u);
  EXPECT_EQ(sections[0].text, std::string("Before."));
  EXPECT_EQ(sections[1].text, std::string("# One\nText of one.\n\nMore."));
  EXPECT_EQ(sections[2].text, std::string("## Two\n\nText of two.\n#no heading"));
  EXPECT_EQ(splitDocuments("Nothing but text. And more.", {}).size(), 1u);
  EXPECT(splitDocuments("", {}).empty());
  const auto given = splitDocuments("aa\n\nbb", {{"1", "First", 0, 2}, {"2", "", 4, 6}});
  EXPECT(given.size() == 2 && given[0].label == "First" && given[1].label == "2" && given[1].text == "bb");
  EXPECT_EQ(contextWithout("aa\n\nbb", given, 0), std::string("bb"));
}

TEST(ranges_of_ones_own_are_checked) {
  const std::string text = "one two caf\xc3\xa9";
  const auto sources = value(sourcesOf(text, {{0, 3}, {4, 7}, {8, 13}}));
  EXPECT(sources.size() == 3 && sources[1].text == "two" && sources[2].separatorEnd == 13);
  EXPECT_EQ(contextWithout(text, sources, 1), std::string("one caf\xc3\xa9"));
  for (const std::vector<ByteRange>& wrong : {std::vector<ByteRange>{{4, 3}}, {{0, 5}, {4, 7}}, {{0, 99}}, {{8, 12}}}) {
    const auto refused = sourcesOf(text, wrong);
    EXPECT(!refused && refused.error().code == ErrorCode::usage && !refused.error().message.empty());
  }
}

TEST(windows_within_sentences_join_to_them) {
  const auto tokenizer = openEngine(kChat)->tokenizer();
  const std::string text = "Lily had a red ball. Tom ran.\n\nHe saw a big dog by the house.";
  const auto sentences = splitSources(text, SourceUnit::sentence);
  for (const int size : {1, 2, 5, 50}) {
    const auto windows = splitWindows(text, *tokenizer, size, sentences);
    size_t at = 0;
    for (const Source& sentence : sentences) {
      std::string joined;
      while (at < windows.size() && windows[at].start < sentence.end) {
        EXPECT(windows[at].end <= sentence.end, size);
        joined += windows[at++].text;
      }
      EXPECT_EQ(joined, sentence.text);
    }
    EXPECT_EQ(at, windows.size());
    EXPECT_EQ(contextWith(text, windows, std::vector<bool>(windows.size(), true)), text);
    if (size == 50) EXPECT_EQ(windows.size(), sentences.size());
  }
}

TEST(hierarchy_goes_from_paragraphs_over_sentences_to_windows) {
  const auto engine = openEngine(kChat);
  auto session = makeSession(engine);
  AttributeRequest request;
  request.context = "Lily had a red ball. The ball was new.\n\nTom had a blue car. It was fast.\n\nA dog ran. The dog was big.\n\nThe sun was hot. They sat down.";
  request.question = "Lily threw her red";
  request.response = " ball.";
  request.unit = SourceUnit::window;
  request.windowTokens = 2;
  request.attribot.keepParagraphs = 2;
  request.attribot.keepSentences = 1;
  const auto result = value(attribute(*session, *engine->tokenizer(), request, {}));
  EXPECT(result.levels.size() == 2 && result.levels[0].unit == SourceUnit::paragraph && result.levels[1].unit == SourceUnit::sentence);
  EXPECT_EQ(result.levels[0].sources.size(), 4u);
  EXPECT_EQ(result.levels[1].sources.size(), 4u);  // of the two paragraphs kept
  std::set<int64_t> scored;
  const auto sentences = splitSources(request.context, SourceUnit::sentence);
  int64_t windows = 0;
  for (const Source& source : result.sources)
    for (const Source& sentence : sentences)
      if (source.score && source.start >= sentence.start && source.start < sentence.end) {
        scored.insert(sentence.start);
        ++windows;
      }
  EXPECT_EQ(scored.size(), 1u);
  EXPECT_EQ(result.forwards, 1 + 4 + 1 + 4 + 1 + windows);
  EXPECT_EQ(result.knownForwards, int64_t{0});
}

TEST(the_first_partial_result_comes_before_the_first_forward) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine);
  AttributeRequest request;
  request.context = "Lily had a red ball. Tom ran.";
  request.question = "Lily had a";
  request.responseTokens = 4;
  std::vector<AttributeResult> partials;
  const auto result = value(attribute(*session, *engine->tokenizer(), request, {}, [&](const AttributeResult& partial) { partials.push_back(partial); }));
  EXPECT(partials.size() >= 3 && partials[0].forwards == 0 && partials[0].sources.size() == 2 && partials[0].responseTokens == result.responseTokens);
  EXPECT(partials.size() >= 3 && partials[1].sources[1].score && partials[1].sources[1].ablatedLogProb && !partials[1].sources[0].score);
  EXPECT(result.responseEnds.size() == result.responseTokens.size() && result.responseEnds.back() == static_cast<int64_t>(result.response.size()));
}

TEST(a_cut_that_changes_tokens_is_told) {
  const auto engine = openEngine(kChat);
  auto session = makeSession(engine);
  AttributeRequest request;
  request.context = "unhappy";
  request.question = "Lily was";
  request.response = " sad.";
  request.unit = SourceUnit::given;
  request.ranges = {{0, 3}, {3, 7}};  // within a word
  request.method = "loo";
  const auto result = value(attribute(*session, *engine->tokenizer(), request, {}));
  EXPECT(std::ranges::any_of(result.notes, [](const std::string& note) { return note.find("tokenized anew") != std::string::npos; }));
}

TEST(tokens_of_leave_one_out_follow_the_formula) {
  EXPECT_EQ(leaveOneOutTokens(10, {20, 30, 25, 15}, 10), 275);  // the worked example: question and response are ten
  EXPECT_EQ(leaveOneOutTokens(0, {}, 7), 7);
}

TEST(a_budget_takes_the_surest_way_that_ends_in_time) {
  BudgetInput input;
  input.suffix = 10;
  input.lengths.assign(40, 20);
  for (size_t i = 0; i < 40; ++i) input.paragraphs.push_back(i / 4);
  input.targetMs = 1;
  const MeasuredAgreement table[] = {{"attribot", "reuse,hierarchy", false, 3, 0, 0, 0.8, 0.05, 0.5}, {"attribot", "reuse,replace", true, 0, 0, 0, 0.9, 0.04, 0.6},
                                     {"attribot", "reuse,hierarchy,replace", true, 2, 0, 0, 0.7, 0.06, 0.4}, {"contextcite", "", false, 0, 0, 64, 0.95, 0.03, 0.8}};
  input.measured = table;
  const auto slow = forecastAttribution(input, 60);
  EXPECT(!slow.empty() && slow.front().tricks == "reuse" && slow.front().agreement == 1);
  EXPECT_NEAR(slow.front().seconds, 1.15 * static_cast<double>(leaveOneOutTokens(0, input.lengths, 10)) / 1000, 1e-9);
  EXPECT_EQ(chooseForecast(slow, 60), 0);
  for (const auto& forecast : slow) {
    EXPECT(!forecast.basis.empty() && forecast.agreement <= 1 && forecast.seconds > 0);
    EXPECT_EQ(forecast.proxyTokens, int64_t{0});
  }
  input.proxyMs = 0.1;
  const auto withProxy = forecastAttribution(input, 2);
  EXPECT_EQ(withProxy.size(), slow.size() + 2);
  double best = -1;
  for (const auto& forecast : withProxy)
    if (forecast.seconds <= 2) best = std::max(best, forecast.agreement);
  const int chosen = chooseForecast(withProxy, 2);
  EXPECT(chosen >= 0 && withProxy[static_cast<size_t>(chosen)].agreement == best && withProxy[static_cast<size_t>(chosen)].seconds <= 2);
  EXPECT_EQ(best, 0.9);  // the proxy over all sources ends in two seconds, in one only that with the hierarchy
  EXPECT_EQ(withProxy[static_cast<size_t>(chooseForecast(withProxy, 1))].agreement, 0.7);
  const int quickest = chooseForecast(withProxy, 1e-6);
  for (const auto& forecast : withProxy) EXPECT(forecast.seconds >= withProxy[static_cast<size_t>(quickest)].seconds);
  input.method = "shapley";
  const auto few = forecastAttribution(input, 20), many = forecastAttribution(input, 2000);
  EXPECT(few.size() == 1 && few[0].samples >= 2 && few[0].samples < many[0].samples && many[0].samples == 50);
}

TEST(a_budget_runs_what_it_chose_and_says_so) {
  const auto engine = openEngine(kChat);
  auto session = makeSession(engine);
  AttributeRequest request;
  request.context = "Lily had a red ball. Tom had a blue car. They went to the park. The sun was warm.";
  request.question = "Lily threw her red";
  request.response = " ball.";
  request.seconds = 500;
  const auto ample = value(attribute(*session, *engine->tokenizer(), request, {}));
  EXPECT(ample.complete && ample.forecast >= 0 && ample.tricks == "reuse");
  request.seconds = 0;
  request.method = "loo";
  const auto exact = value(attribute(*session, *engine->tokenizer(), request, {}));
  for (size_t i = 0; i < exact.sources.size(); ++i) EXPECT_NEAR(*ample.sources[i].score, *exact.sources[i].score, 1e-4);
  request.seconds = 1e-6;
  request.method = "attribot";
  const auto hurried = value(attribute(*session, *engine->tokenizer(), request, {}));
  EXPECT(std::ranges::any_of(hurried.notes, [](const std::string& note) { return note.find("No way ends in that time") != std::string::npos; }));
}
