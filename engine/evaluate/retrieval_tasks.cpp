// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/evaluate/retrieval_tasks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <random>

#include "engine/attribute/attribute.h"

namespace winnow {
namespace {

constexpr std::array<std::string_view, 3> kNames = {"passkey", "pairs", "needle"};

// Words that models of children's stories know as well.
constexpr std::array kPeople = {"Ben", "Lily", "Tom", "Anna", "Max", "Sara", "Sam", "Mia"};
constexpr std::array kThings = {"ball", "key", "hat", "book", "cup", "doll", "kite", "spoon"};
constexpr std::array kColours = {"red", "blue", "green", "yellow", "black", "white", "pink", "brown"};
constexpr std::array kCovers = {"mat", "bed", "chair", "box", "tree", "table", "bench", "rug"};

class Dice {
 public:
  explicit Dice(uint64_t seed) : random_(seed) {}
  size_t below(size_t n) { return static_cast<size_t>(random_() % n); }
  template <size_t n>
  std::string_view word(const std::array<const char*, n>& words) {
    return words[below(n)];
  }

 private:
  std::mt19937_64 random_;
};

struct Fact {
  std::string text, question, answer;
};

Fact passkey(Dice& dice) {
  const std::string key = std::to_string(10000 + dice.below(90000));
  return {"The pass key is " + key + ". Remember it: " + key + " is the pass key.", "What is the pass key? The pass key is", " " + key + "."};
}

Fact needle(Dice& dice) {
  const std::string person(dice.word(kPeople)), thing(dice.word(kThings)), cover = std::string(dice.word(kColours)) + " " + std::string(dice.word(kCovers));
  return {person + " said that the " + thing + " was under the " + cover + ".", person + " knew where to look. The " + thing + " was under the", " " + cover + "."};
}

// Box numbers are all different; what two boxes hold may be the same.
struct Boxes {
  std::vector<int> numbers;
  explicit Boxes(Dice& dice) {
    for (int i = 100; i < 1000; ++i) numbers.push_back(i);
    for (size_t i = numbers.size(); i > 1; --i) std::swap(numbers[i - 1], numbers[dice.below(i)]);
  }
};
Fact box(int number, Dice& dice) {
  const std::string name = "Box " + std::to_string(number) + " holds a", colour(dice.word(kColours)), thing(dice.word(kThings));
  const std::string answer = " " + colour + " " + thing + ".";
  return {name + answer, name, answer};
}

Error noRoom(int length, int needed) {
  return {ErrorCode::usage, "a context of " + std::to_string(length) + " tokens has no room for the fact, which takes " + std::to_string(needed) + ".", "Use a greater length."};
}

// Sentences of a text with what separates them, and their tokens.
struct Haystack {
  std::vector<std::string> sentences;
  std::vector<int> tokens;
};

int tokensOf(const Tokenizer& tokenizer, const std::string& text) { return static_cast<int>(tokenizer.encode(text, false).size()); }

Haystack haystackOf(const std::string& text, const Tokenizer& tokenizer) {
  Haystack out;
  for (const Source& sentence : splitSources(text, SourceUnit::sentence)) {
    std::string piece = text.substr(static_cast<size_t>(sentence.start), static_cast<size_t>(sentence.separatorEnd - sentence.start));
    if (sentence.text.empty()) continue;
    if (sentence.separatorEnd == sentence.end) piece += ' ';
    const bool spaced = piece.back() == ' ';  // a space is of the word that follows it
    out.tokens.push_back(std::max(1, tokensOf(tokenizer, spaced ? " " + sentence.text : piece)));
    out.sentences.push_back(std::move(piece));
  }
  return out;
}

// The fact stands between the two sentences where the share `depth` of the text is over.
Result<RetrievalItem> hidden(const Fact& fact, const Haystack& hay, int length, double depth, const Tokenizer& tokenizer, Dice& dice) {
  const int needed = tokensOf(tokenizer, " " + fact.text) + 1;  // and BOS
  if (needed > length) return noRoom(length, needed);
  const size_t first = dice.below(hay.sentences.size());
  std::vector<size_t> taken;
  int total = 0;
  for (size_t i = first;; i = (i + 1) % hay.sentences.size()) {
    if (total + hay.tokens[i] > length - needed) break;
    total += hay.tokens[i];
    taken.push_back(i);
  }
  size_t before = 0;
  for (int passed = 0; before < taken.size() && passed + hay.tokens[taken[before]] / 2.0 < depth * total; ++before) passed += hay.tokens[taken[before]];
  RetrievalItem item{"", fact.question, fact.answer, length, depth};
  for (size_t i = 0; i <= taken.size(); ++i) {
    if (i == before) item.context += fact.text + " ";
    if (i < taken.size()) item.context += hay.sentences[taken[i]];
  }
  while (!item.context.empty() && (item.context.back() == ' ' || item.context.back() == '\n')) item.context.pop_back();
  return item;
}

Result<RetrievalItem> ofPairs(int length, double depth, const Tokenizer& tokenizer, Dice& dice) {
  const Boxes boxes(dice);
  std::vector<Fact> facts;
  int total = 1;  // BOS
  for (const int number : boxes.numbers) {
    Fact fact = box(number, dice);
    total += tokensOf(tokenizer, fact.text + "\n");
    if (total > length) break;
    facts.push_back(std::move(fact));
  }
  if (facts.empty()) return noRoom(length, total);
  const Fact& asked = facts[static_cast<size_t>(std::lround(depth * static_cast<double>(facts.size() - 1)))];
  RetrievalItem item{"", asked.question, asked.answer, length, depth};
  for (const Fact& fact : facts) item.context += (item.context.empty() ? "" : "\n") + fact.text;
  return item;
}

}  // namespace

std::string_view retrievalTaskName(RetrievalTask task) { return kNames[static_cast<size_t>(task)]; }

std::optional<RetrievalTask> findRetrievalTask(std::string_view name) {
  const auto found = std::ranges::find(kNames, name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<RetrievalTask>(found - kNames.begin());
}

Result<std::vector<RetrievalItem>> retrievalItems(const RetrievalTasks& tasks, const Tokenizer& tokenizer) {
  Haystack hay;
  if (tasks.task != RetrievalTask::pairs) {
    hay = haystackOf(tasks.haystack, tokenizer);
    if (hay.sentences.empty()) return Error{ErrorCode::badInput, "the text to hide the fact in holds no sentence.", "Use a text of some length."};
  }
  std::vector<RetrievalItem> items;
  for (const int length : tasks.lengths)
    for (const double depth : tasks.depths)
      for (int trial = 0; trial < tasks.trials; ++trial) {
        Dice dice(tasks.seed * 1000003 + static_cast<uint64_t>(trial));  // the same facts at every length and depth
        auto item = tasks.task == RetrievalTask::pairs ? ofPairs(length, depth, tokenizer, dice)
                                                       : hidden(tasks.task == RetrievalTask::passkey ? passkey(dice) : needle(dice), hay, length, depth, tokenizer, dice);
        if (!item) return item.error();
        items.push_back(std::move(*item));
      }
  return items;
}

}  // namespace winnow
