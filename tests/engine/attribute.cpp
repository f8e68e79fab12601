// SPDX-License-Identifier: GPL-3.0-or-later
// Cutting contexts; what attribution on a model counts, generates, refuses and says.
#include "engine/attribute/attribute.h"

#include <random>

#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

std::string joined(const std::vector<Source>& sources) {
  std::string out;
  for (const Source& source : sources) out += "[" + source.text + "]";
  return out;
}

}  // namespace

TEST(sentences_are_cut_where_a_reader_would) {
  const std::pair<const char*, const char*> table[] = {
      {"One. Two! Three?", "[One.][Two!][Three?]"},
      {"Mr. Hill met Dr. Lake at 3.5 p.m. on Monday. They spoke.", "[Mr. Hill met Dr. Lake at 3.5 p.m. on Monday.][They spoke.]"},
      {"It costs 3.14 dollars. See example.com for more.", "[It costs 3.14 dollars.][See example.com for more.]"},
      {"\"Why?\" she asked. \"Go!\" He went.", "[\"Why?\" she asked.][\"Go!\"][He went.]"},
      {"He said \"stop.\" Then he left.", "[He said \"stop.\"][Then he left.]"},
      {"Well... maybe not. Wait... What?!", "[Well... maybe not.][Wait...][What?!]"},
      {"J. R. Smith wrote it. So did I. Then we left.", "[J. R. Smith wrote it.][So did I.][Then we left.]"},
      {"The U.S. Army came. It stayed.", "[The U.S. Army came.][It stayed.]"},
      {"Apples, pears, etc. are fruit. Nuts, etc. Birds eat them.", "[Apples, pears, etc. are fruit.][Nuts, etc.][Birds eat them.]"},
      {"Use a tool, e.g. a saw. See fig. 3 and no. 5 there.", "[Use a tool, e.g. a saw.][See fig. 3 and no. 5 there.]"},
      {"今日は晴れ。明日は雨！本当？「はい。」終わり", "[今日は晴れ。][明日は雨！][本当？][「はい。」][終わり]"},
      {"line one\nline two. And three", "[line one][line two.][And three]"},
      {"1. First item.\n2. Second item.", "[1. First item.][2. Second item.]"},
      {"It was “late.” They slept… Then morning.", "[It was “late.”][They slept…][Then morning.]"},
      {"no capitals here. they never come. never", "[no capitals here.][they never come.][never]"},
      {"(It rained.) We ran.", "[(It rained.)][We ran.]"},
      {"", ""},
      {" \n\t \n", ""},
  };
  for (const auto& [text, expected] : table) EXPECT_EQ(joined(splitSources(text, SourceUnit::sentence)), std::string(expected));
}

TEST(paragraphs_end_at_blank_lines) {
  EXPECT_EQ(joined(splitSources("a\nb\n\n c \n \t\n\nd\n", SourceUnit::paragraph)), std::string("[a\nb][c][d]"));
}

TEST(sources_and_separators_tile_the_context) {
  const std::string text = "  One two. Three!\n\nFour; \"five.\" Six 7.8 nine?  \n";
  for (const SourceUnit unit : {SourceUnit::sentence, SourceUnit::paragraph}) {
    const auto sources = splitSources(text, unit);
    for (size_t i = 0; i < sources.size(); ++i) {
      EXPECT_EQ(text.substr(static_cast<size_t>(sources[i].start), static_cast<size_t>(sources[i].end - sources[i].start)), sources[i].text);
      EXPECT_EQ(sources[i].separatorEnd, i + 1 < sources.size() ? sources[i + 1].start : static_cast<int64_t>(text.size()));
      EXPECT_EQ(sources[i].id, static_cast<int>(i));
    }
  }
}

TEST(removing_a_source_removes_its_separator) {
  const std::string text = "One. Two.\n\nThree.";
  const auto sources = splitSources(text, SourceUnit::sentence);
  EXPECT_EQ(contextWithout(text, sources, 0), std::string("Two.\n\nThree."));
  EXPECT_EQ(contextWithout(text, sources, 1), std::string("One. Three."));
  EXPECT_EQ(contextWithout(text, sources, 2), std::string("One. Two."));
  EXPECT_EQ(contextWithout("Only.", splitSources("Only.", SourceUnit::sentence), 0), std::string());
}

TEST(kept_sources_read_as_if_joined_anew) {
  const std::string text = " One. Two.\n\nThree. Four.\n";
  const auto sources = splitSources(text, SourceUnit::sentence);
  EXPECT_EQ(contextWith(text, sources, {true, true, true, true}), text);
  EXPECT_EQ(contextWith(text, sources, {false, true, false, true}), std::string(" Two.\n\nFour.\n"));
  EXPECT_EQ(contextWith(text, sources, {true, false, true, false}), std::string(" One. Three.\n"));
  EXPECT_EQ(contextWith(text, sources, {false, false, false, false}), std::string(" \n"));
}

TEST(attribution_on_a_model_counts_every_token) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine);
  AttributeRequest request;
  request.context = "Lily had a red ball. Tom had a blue car.\n\nThey went to the park.";
  request.question = "Lily played with her";
  request.response = " ball in the park.";
  request.method = "loo";
  const auto result = value(attribute(*session, *engine->tokenizer(), request, {}));
  EXPECT_EQ(result.sources.size(), 3u);
  EXPECT_EQ(result.forwards, 4);
  const auto& tokenizer = *engine->tokenizer();
  const int64_t response = static_cast<int64_t>(result.responseTokens.size());
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("x" + *request.response, false)), "x" + *request.response);
  int64_t fed = static_cast<int64_t>(tokenizer.encode(attributionPrompt(request.context, request.question), true).size()) + response - 1;
  for (size_t i = 0; i < 3; ++i)
    fed += static_cast<int64_t>(tokenizer.encode(attributionPrompt(contextWithout(request.context, result.sources, i), request.question), true).size()) + response - 1;
  EXPECT_EQ(result.forwardTokens, fed);
  EXPECT_EQ(result.noiseForwards, 4);

  // The base score, token by token.
  session->reset();
  ok(session->prefill(tokenizer.encode(attributionPrompt(request.context, request.question), true), {}));
  double total = 0;
  for (const int32_t token : result.responseTokens) {
    TokenScore score;
    session->scoreLogits(session->logits().data(), {&token, 1}, &score);
    total -= score.nll;
    ok(session->step(token));
  }
  EXPECT_NEAR(result.baseLogProb, total, 0.02);
  for (const Source& source : result.sources) EXPECT(source.score.has_value());
  EXPECT(result.sources[0].score > result.sources[1].score, "the sentence that names the ball supports the ball", *result.sources[0].score, *result.sources[1].score);
  EXPECT(result.noiseFloor >= 0 && result.noiseFloor < 0.1, result.noiseFloor);
}

TEST(a_generated_response_is_greedy_and_can_be_cancelled) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine);
  AttributeRequest request;
  request.context = "Lily had a red ball.";
  request.question = "Once upon a time";
  request.responseTokens = 12;
  const auto result = value(attribute(*session, *engine->tokenizer(), request, {}));
  EXPECT_EQ(result.generatedTokens, 12);
  EXPECT(result.complete && !result.response.empty());
  std::stop_source stop;
  stop.request_stop();
  Progress progress;
  progress.stop = stop.get_token();
  const auto none = value(attribute(*session, *engine->tokenizer(), request, progress));
  EXPECT(!none.complete);
  EXPECT_EQ(none.forwards, 0);
}

TEST(impossible_attributions_say_why) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine, Config(), {.context = 64});
  AttributeRequest request;
  request.question = "Who?";
  const auto empty = value(attribute(*session, *engine->tokenizer(), request, {}));
  EXPECT(empty.complete && empty.sources.empty() && empty.forwards == 0);
  EXPECT(!empty.notes.empty() && empty.notes.front().find("empty") != std::string::npos);
  for (int i = 0; i < 40; ++i) request.context += "The cat sat on the mat. ";
  auto large = attribute(*session, *engine->tokenizer(), request, {});
  EXPECT(!large && large.error().code == ErrorCode::badInput && large.error().message.find("64") != std::string::npos);
  request.method = "shap";
  auto unknown = attribute(*session, *engine->tokenizer(), request, {});
  EXPECT(!unknown && unknown.error().code == ErrorCode::usage && unknown.error().hint.find("loo") != std::string::npos);
}

TEST(notes_tell_of_one_source_and_of_repeated_ones) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine);
  AttributeRequest request;
  request.question = "Lily had a";
  request.response = " red ball";
  const auto notesOf = [&](const char* context) {
    request.context = context;
    std::string all;
    for (const std::string& note : value(attribute(*session, *engine->tokenizer(), request, {})).notes) all += note + "\n";
    return all;
  };
  EXPECT(notesOf("Lily had a red ball.").find("one source") != std::string::npos);
  const std::string twice = notesOf("Lily had a red ball. Tom ran. Lily had a red ball.");
  EXPECT(twice.find("Sources 1 and 3 say the same") != std::string::npos, twice);
  EXPECT(notesOf("Lily had a red ball. Tom ran.").find("say the same") == std::string::npos);
  EXPECT(notesOf("Lily had a red ball. Tom ran.").find("sparse") == std::string::npos);
  session = makeSession(engine, configure({{"activation.method", "griffin"}}));
  EXPECT(notesOf("Lily had a red ball. Tom ran.").find("Activations are sparse where tokens are decoded (griffin)") != std::string::npos);
}

// Bytes that are no UTF-8, overlong forms of a line end and of marks among them, end in some sentence each, once.
TEST(broken_text_is_split_without_loss) {
  std::mt19937 rng(5);
  const std::string pieces[] = {"\xf0\x80\x80\x8a", "\xc0\x8a", "\xe0\x80\xae", "\xbb", "\xe3\x80", ". ", "a",
                                "\n", "\n\n", "\xe3\x80\x82", "\xff", "? ", " "};
  for (int i = 0; i < 400; ++i) {
    std::string text;
    const size_t length = 1 + rng() % 60;
    for (size_t k = 0; k < length; ++k) text += rng() % 4 ? pieces[rng() % std::size(pieces)] : std::string(1, static_cast<char>(rng()));
    for (const SourceUnit unit : {SourceUnit::sentence, SourceUnit::paragraph}) {
      int64_t at = 0;
      for (const Source& source : splitSources(text, unit)) {
        EXPECT(source.start >= at && source.end > source.start, i, source.start, source.end);
        EXPECT(text.find_first_not_of(" \t\n\r\f\v", static_cast<size_t>(at)) == static_cast<size_t>(source.start), i, at, source.start);
        at = source.end;
      }
      EXPECT(text.find_first_not_of(" \t\n\r\f\v", static_cast<size_t>(at)) == std::string::npos, i, at);
    }
  }
}
