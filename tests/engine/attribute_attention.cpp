// SPDX-License-Identifier: GPL-3.0-or-later
// Attention as attribution: sums and rollout against the whole matrix, token windows, and every method on a model.
#include "engine/attribute/attention_flow.h"
#include "engine/attribute/attribute.h"
#include "engine/attribute/token_ranges.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

// Keeps the mean over heads of every layer's whole matrix.
class WholeMatrix final : public AttentionTap {
 public:
  WholeMatrix(int layers, int64_t tokens) : tokens_(tokens), mean(static_cast<size_t>(layers), std::vector<double>(static_cast<size_t>(tokens * tokens))) {}
  void take(int layer, const AttentionRows& rows) override {
    for (int head = 0; head < rows.heads; ++head)
      for (int query = 0; query < rows.queries; ++query)
        for (int slot = 0; slot < rows.columns; ++slot)
          mean[static_cast<size_t>(layer)][static_cast<size_t>((rows.first + query) * tokens_ + slot)] +=
              rows.probabilities[(int64_t{head} * rows.queries + query) * rows.stride + slot] / double(rows.heads);
  }
  int64_t tokens_;
  std::vector<std::vector<double>> mean;  // [layers][tokens, tokens]
};

AttributeRequest storyRequest(const std::string& method) {
  AttributeRequest request;
  request.context = "Lily had a red ball. Tom had a blue car.\n\nThey went to the park.";
  request.question = "Lily played with her";
  request.response = " ball in the park.";
  request.method = method;
  return request;
}

}  // namespace

TEST(sums_and_rollout_are_those_of_the_whole_matrix) {
  constexpr int64_t kTokens = 48, kFirst = 40;
  for (const Settings& settings : {Settings{}, Settings{{"share.method", "echoatt"}}}) {
    const auto engine = openEngine(kStories);
    auto session = makeSession(engine, configure(settings), {.probabilityBytes = 1 << 14});  // a few rows at a time
    const auto tokens = someTokens(kTokens, session->vocab());
    const int layers = engine->model().config().layers;
    std::vector<int> owner(kFirst, -1);
    for (int64_t i = 1; i < kFirst; ++i) owner[static_cast<size_t>(i)] = static_cast<int>(i / 10);
    AttentionFlow sums(layers, 4, owner, kFirst, kTokens, false), rollout(layers, 4, owner, kFirst, kTokens, true);
    WholeMatrix whole(layers, kTokens);
    std::vector<float> plain;
    for (AttentionTap* tap : {static_cast<AttentionTap*>(nullptr), static_cast<AttentionTap*>(&sums), static_cast<AttentionTap*>(&rollout), static_cast<AttentionTap*>(&whole)}) {
      session->observeAttention(tap);
      const auto logits = logitsAfter(*session, tokens);
      if (!tap) plain = logits;
      EXPECT(relativeError(plain, logits) < 1e-5, relativeError(plain, logits));
    }
    session->observeAttention(nullptr);
    // Rollout, top down: rows of the predicting positions times each layer's (A + I) / 2.
    for (int64_t query = kFirst; query < kTokens; ++query) {
      std::vector<double> row(kTokens, 0.0), expected(5, 0.0), summed(5, 0.0);
      row[static_cast<size_t>(query)] = 1;
      const auto column = [&](int64_t slot) { return slot == 0 ? 4 : slot < kFirst ? static_cast<size_t>(owner[static_cast<size_t>(slot)]) : size_t{5}; };
      for (int layer = layers - 1; layer >= 0; --layer) {
        const auto& a = whole.mean[static_cast<size_t>(layer)];
        std::vector<double> next(kTokens, 0.0);
        double total = 0;
        for (int64_t from = 0; from < kTokens; ++from)
          for (int64_t to = 0; to < kTokens; ++to) {
            const double p = a[static_cast<size_t>(from * kTokens + to)];
            EXPECT(to <= from || p == 0, layer, from, to, p);
            next[static_cast<size_t>(to)] += row[static_cast<size_t>(from)] * 0.5 * (p + (from == to ? 1 : 0));
          }
        row = next;
        for (int64_t to = 0; to < kTokens; ++to) {
          total += row[static_cast<size_t>(to)];
          if (column(to) < 5) summed[column(to)] += a[static_cast<size_t>(query * kTokens + to)];
        }
        EXPECT_NEAR(total, 1, 1e-4);
      }
      for (int64_t to = 0; to < kTokens; ++to)
        if (column(to) < 5) expected[column(to)] += row[static_cast<size_t>(to)];
      for (int source = 0; source < 4; ++source) {
        EXPECT_NEAR(rollout.mass(source, query - kFirst), expected[static_cast<size_t>(source)], 1e-5);
        EXPECT_NEAR(sums.mass(source, query - kFirst), summed[static_cast<size_t>(source)], 1e-4);
      }
      EXPECT_NEAR(rollout.firstToken(query - kFirst), expected[4], 1e-5);
    }
  }
}

TEST(attention_of_an_evicting_cache_is_refused) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine, configure({{"kv.policy", "streaming"}, {"kv.budget", "8"}, {"kv.interval", "1"}}), {.maxBatch = 8});
  const auto refused = attribute(*session, *engine->tokenizer(), storyRequest("attention"), {});
  EXPECT(!refused && refused.error().message.find("kv.policy") != std::string::npos);
}

TEST(every_method_runs_on_a_model) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine);
  for (const AttributionMethod& method : attributionMethods()) {
    int partials = 0;
    const auto result = value(attribute(*session, *engine->tokenizer(), storyRequest(method.name), {}, [&](const AttributeResult&) { ++partials; }));
    EXPECT(result.complete && partials > 0, method.name);
    EXPECT(result.forwards > 0 && result.forwardTokens > 0 && result.responseNll.size() == result.responseTokens.size(), method.name);
    EXPECT(result.unit == method.unit.value_or(SourceUnit::sentence), method.name);
    for (const Source& source : result.sources) {
      EXPECT(source.score && std::isfinite(*source.score), method.name);
      EXPECT_EQ(source.perToken.size(), result.responseTokens.size());
    }
  }
}

TEST(windows_tile_the_text) {
  for (const char* model : {kStories, kChat}) {
    const auto tokenizer = openEngine(model)->tokenizer();
    for (const std::string text : {"Lily had a red ball.\n\nTom ran.", " caf\u00e9 \u4eca\u65e5\u306f\u6674\u308c \U0001f600 end", "x"}) {
      for (const int size : {1, 3, 8, 100}) {
        const auto windows = splitWindows(text, *tokenizer, size);
        std::string joined;
        for (const Source& window : windows) {
          EXPECT_EQ(window.start, static_cast<int64_t>(joined.size()));
          EXPECT((static_cast<unsigned char>(window.text[0]) & 0xC0) != 0x80, window.text);
          joined += window.text;
        }
        EXPECT_EQ(joined, text);
      }
    }
    EXPECT(splitWindows("", *tokenizer, 8).empty());
  }
}

TEST(a_proxy_with_another_tokenizer_reads_the_text_anew) {
  const auto engine = openEngine(kChat), other = openEngine(kStories);
  auto session = makeSession(engine), small = makeSession(other);
  const ProxyModel proxy{*small, *other->tokenizer()};
  AttributeRequest request = storyRequest("attribot");
  request.attribot.keepSources = 2;
  const auto pruned = value(attribute(*session, *engine->tokenizer(), request, {}, {}, &proxy));
  EXPECT(pruned.notes.front().find("another tokenizer") != std::string::npos);
  EXPECT_EQ(pruned.proxyForwards, 4);
  EXPECT_EQ(pruned.forwards, 4 + 3);
  EXPECT_EQ(std::count_if(pruned.sources.begin(), pruned.sources.end(), [](const Source& s) { return s.score.has_value(); }), 2);
  const double expected = static_cast<double>(pruned.proxyForwardTokens) * static_cast<double>(small->parameters()) +
                          static_cast<double>(pruned.forwardTokens - pruned.proxyForwardTokens) * static_cast<double>(session->parameters());
  EXPECT_EQ(pruned.parameterTokens, expected);
  request.attribot.proxy = AttribotOptions::Proxy::replace;
  const auto replaced = value(attribute(*session, *engine->tokenizer(), request, {}, {}, &proxy));
  EXPECT_EQ(replaced.proxyForwards, 4);
  EXPECT(replaced.sources[0].score && replaced.sources[0].perToken.empty());
  // The target as its own proxy is exact.
  auto twin = makeSession(engine);
  const ProxyModel itself{*twin, *engine->tokenizer()};
  const auto same = value(attribute(*session, *engine->tokenizer(), request, {}, {}, &itself)), exact = value(attribute(*session, *engine->tokenizer(), storyRequest("loo"), {}));
  for (size_t i = 0; i < exact.sources.size(); ++i) EXPECT_NEAR(*same.sources[i].score, *exact.sources[i].score, 1e-4);
  for (const std::string& note : same.notes) EXPECT(note.find("tokenizer") == std::string::npos, note);
  request.method = "loo";
  const auto refused = attribute(*session, *engine->tokenizer(), request, {}, {}, &proxy);
  EXPECT(!refused && refused.error().code == ErrorCode::usage);
  request.method = "attribot";
  auto tiny = makeSession(other, Config(), {.context = 32});
  const ProxyModel narrow{*tiny, *other->tokenizer()};
  const auto large = attribute(*session, *engine->tokenizer(), request, {}, {}, &narrow);
  EXPECT(!large && large.error().message.find("proxy") != std::string::npos && large.error().message.find("32") != std::string::npos);
}

TEST(tricks_are_words) {
  for (const char* words : {"reuse,hierarchy,prune", "reuse,replace", "hierarchy,prune", "prune"}) EXPECT_EQ(tricksText(value(parseTricks(words))), std::string(words));
  EXPECT_EQ(tricksText(value(parseTricks("none"))), std::string("prune"));
  const auto wrong = parseTricks("reuse,magic");
  EXPECT(!wrong && wrong.error().message.find("magic") != std::string::npos && wrong.error().hint.find("hierarchy") != std::string::npos);
}
