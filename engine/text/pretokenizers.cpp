// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/text/pretokenizers.h"

#include <algorithm>
#include <array>
#include <span>

namespace winnow {
namespace {

// The pieces that most patterns share.
#define CONTRACTION R"('(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL]))"
#define LETTERS R"([^\r\n\p{L}\p{N}]?\p{L}+)"
#define SYMBOLS R"( ?[^\s\p{L}\p{N}]+)"
#define SPACES R"(\s*[\r\n]+|\s+(?!\S)|\s+)"
// A word of upper, then lower case letters; letters without an ASCII case count as both.
#define CASED(upper, lower, ending) \
  R"([^\r\n\p{L}\p{N}]?)" upper "*" lower "+" ending "|" R"([^\r\n\p{L}\p{N}]?)" upper "+" lower "*" ending
#define UPPER R"([^\P{L}a-z])"
#define LOWER R"([^\P{L}A-Z])"
#define MARKED_UPPER R"([^\p{N}\p{P}\p{S}\p{Z}\p{C}a-z])"
#define MARKED_LOWER R"([^\p{N}\p{P}\p{S}\p{Z}\p{C}A-Z])"

#define GPT2 R"( ?\p{L}+| ?\p{N}+|'(?:[stmd]|re|ve|ll)| ?[^\s\p{L}\p{N}]+|\s+(?!\S))"
#define DIGITS3 R"(\p{N}{1,3})"
#define DIGIT R"(\p{N})"
#define LLAMA3(digits) CONTRACTION "|" LETTERS "|" digits "|" SYMBOLS R"([\r\n]*|)" SPACES
#define HAN_AND_KANA R"([\x{4e00}-\x{9fa5}\x{3040}-\x{30ff}]+)"
#define PUNCTUATED_WORD R"([!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+)"
// From U+0800 to U+9FA5 and the Hangul syllables, without the white space among them.
#define EASTERN                                                                                                       \
  R"([\x{800}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-)" \
  R"(\x{9fa5}\x{ac00}-\x{d7ff}]+)"
// Letters that have case in Unicode 11, as DeepSeek's first tokenizer lists them.
#define CASED_LETTERS                                                                                                              \
  R"([A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af}\x{370}-\x{373}\x{376})"       \
  R"(\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f})"          \
  R"(\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b})"           \
  R"(\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57})"         \
  R"(\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc})"           \
  R"(\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115})"  \
  R"(\x{2119}-\x{211d}\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e})"   \
  R"(\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b})"           \
  R"(\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a})"         \
  R"(\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2})"                \
  R"(\x{118a0}-\x{118df}\x{1e900}-\x{1e943}])"
#define HAN                                                                                                        \
  R"([\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}\x{f900}-\x{faff}\x{20000}-\x{2a6df}\x{2a700}-\x{2b73f}\x{2b740}-\x{2ebef})" \
  R"(\x{2f800}-\x{2fa1f}])"
#define LETTER_NOT_HAN "(?:(?!" HAN R"()\p{L}))"
// Scripts written without spaces, as llama.cpp lists them for AFMoE (its last range begins at U+8C48, not at U+F900).
#define UNSPACED_SCRIPTS                                                                                                 \
  R"([\x{e40}-\x{e7f}\x{e80}-\x{eff}\x{1000}-\x{109f}\x{1100}-\x{11ff}\x{1780}-\x{17ff}\x{2f00}-\x{2fdf}\x{3040}-\x{30ff})" \
  R"(\x{3400}-\x{4dbf}\x{4e00}-\x{faff}\x{ff65}-\x{ff9f}]+)"

using Kind = SplitStep::Kind;
struct Flags {
  bool rawUtf8 = false, escapeSpaces = false, wholeNewlines = false, ignoreMerges = false, mergesOptional = false;
};
struct Step {
  const char* pattern = nullptr;  // null for the kinds that need none
  Kind kind = Kind::pattern;
};
struct Family {
  std::vector<std::string_view> names;
  std::vector<Step> steps;
  Flags flags{};
};

std::vector<Family> plainFamilies() {
  return {
      {{"default"}, {{R"([\p{P}$+<=>^~|]+)"}, {GPT2}, {R"(\p{N}+)"}, {"[0-9][0-9][0-9]"}}},
      {{"gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum", "modern-bert", "jina-v1-en",
        "jina-v2-code", "roberta-bpe", "exaone4", "mpt", "olmo", "jais", "trillion", "granite-docling"},
       {{GPT2}}},
      {{"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"}, {{DIGIT}, {GPT2}}},
      {{"falcon"}, {{R"([\p{P}$+<=>^~|`]+)"}, {GPT2}, {"[0-9][0-9][0-9]"}}},
      {{"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"},
       {{LLAMA3(DIGITS3)}},
       {.ignoreMerges = true}},
      {{"dbrx", "smaug-bpe", "glm4", "glm5", "chatglm-bpe"}, {{LLAMA3(DIGITS3)}}},
      {{"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"}, {{LLAMA3(DIGIT)}}},
      {{"qwen35"},
       {{CONTRACTION R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)" SPACES}}},
      {{"ufakzeka"}, {{LETTERS R"(|\p{N}|)" SYMBOLS R"([\r\n]*|)" SPACES}}},
      {{"laguna"}, {{R"([^\n]+|\n+)"}, {LLAMA3(DIGIT)}}},
      {{"minicpm5"}, {{DIGITS3}, {LLAMA3(R"(\p{N}+)")}}, {.ignoreMerges = true}},
      {{"jais-2"},
       {{CONTRACTION "|" LETTERS "|" DIGITS3 "|" SYMBOLS
         R"([\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|)"
         R"(\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s)"}}},
      {{"bailingmoe", "bailingmoe2", "llada-moe"},
       {{CONTRACTION "|" LETTERS R"(|\p{N}|)" SYMBOLS R"([\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"}}},
      {{"seed-coder"}, {{CONTRACTION "|" LETTERS R"(|\p{N}| ?[^\s\p{L}\p{N}]+|)" SPACES}}},
      {{"exaone-moe"},
       {{CONTRACTION R"(|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*+(?: \p{L}\p{M}*+)*+)++|\p{N}|)" SYMBOLS R"([\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)"}}},
      {{"poro-chat", "bloom", "gpt3-finnish"},
       {{R"( ?[^(\s|.,!?\x{2026}\x{3002}\x{ff0c}\x{3001}\x{964}\x{6d4}\x{60c})]+)"}}},
      {{"viking"}, {{R"( ?[^(\s|.,!?\x{2026}\x{3002}\x{ff0c}\x{3001}\x{964}\x{6d4}\x{60c})]+)"}, {DIGIT}}},
  };
}

std::vector<Family> casedFamilies() {
  return {
      {{"tekken"}, {{CASED(UPPER, LOWER, "") R"(|\p{N}|)" SYMBOLS R"([\r\n/]*|)" SPACES}}, {.ignoreMerges = true}},
      {{"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"},
       {{CASED(UPPER, LOWER, "(?:" CONTRACTION ")?") "|" DIGITS3 "|" SYMBOLS R"([\r\n/]*|)" SPACES}}},
      {{"granite-embed-multi-97m"},
       {{CASED(MARKED_UPPER, MARKED_LOWER, "(?:" CONTRACTION ")?") "|" DIGITS3 "|" SYMBOLS R"([\r\n/]*|)" SPACES}},
       {.ignoreMerges = true}},
      {{"tiny_aya", "cohere2moe"},
       {{nullptr, Kind::digitsFromRight},
        {R"([^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?:)" CONTRACTION ")?|" DIGITS3 "|" SYMBOLS R"([\r\n/]*|)" SPACES}}},
      {{"kimi-k2"},
       {{HAN R"(+|[^\r\n\p{L}\p{N}]?)" LETTER_NOT_HAN "++(?:" CONTRACTION ")?|" DIGITS3 "|" SYMBOLS R"([\r\n]*|)" SPACES}},
       {.mergesOptional = true}},
  };
}

std::vector<Family> easternFamilies() {
  return {
      {{"deepseek-llm"},
       {{R"([\r\n])"},
        {R"(\s?)" CASED_LETTERS "+"},
        {R"(\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3001}\x{3002}]+)"},
        {R"(\s+\z)"},
        {EASTERN},
        {R"(\p{N}+)"}}},
      {{"deepseek-coder"}, {{R"([\r\n])"}, {R"(\s?\p{L}+)"}, {R"(\s?\p{P}+)"}, {EASTERN}, {DIGIT}}},
      {{"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"}, {{DIGITS3}, {HAN_AND_KANA}, {PUNCTUATED_WORD R"([\r\n]*|)" SPACES}}},
      {{"spark2_5"}, {{DIGITS3}, {HAN_AND_KANA}, {PUNCTUATED_WORD R"(|[\r\n]|\s+(?!\S)|\s+)"}, {DIGIT}}},
      {{"afmoe"}, {{nullptr, Kind::digitsFromRight}, {UNSPACED_SCRIPTS}, {PUNCTUATED_WORD R"([\r\n]*|)" SPACES}}},
      {{"youtu"},
       {{R"([\x{ac00}-\x{d7a3}\x{3131}-\x{318e}]+|[\x{ff01}\x{2026}\x{201c}\x{201d}\x{2018}\x{2019}\x{2014}\x{ff1a}\x{ff1b}\x{ff0c})"
         R"(\x{3001}-\x{303f}\x{fe30}-\x{fe4f}]+|[\x{3105}-\x{312f}]+|)" HAN_AND_KANA},
        {R"([^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?:)" CONTRACTION R"()?|\p{N}|)" SYMBOLS R"([\r\n/]*|)" SPACES}},
       {.ignoreMerges = true}},
      {{"chameleon"},
       {{"<sentinel:[0-9]+>"}, {"IMGIMG[A-I]{1,4}Z"}, {R"([\t\n]|    |  )"}, {DIGIT}, {R"([\p{P}!-/:-@\[-`{-~])"}, {GPT2}}},
      {{"superbpe"}, {{R"(\p{N}+)"}, {nullptr, Kind::thousandsCuts}}},
      {{"gemma4", "granite-embed-multi-311m"}, {{R"([^\n]+|\n+)"}}, {.rawUtf8 = true, .escapeSpaces = true, .wholeNewlines = true}},
      {{"sarvam-moe"}, {{R"([^\n]+|\n+)"}}, {.rawUtf8 = true, .escapeSpaces = true}},
      {{"whitespace"}, {{R"(\S+)"}}, {.rawUtf8 = true}},
  };
}

std::vector<Family> allFamilies() {
  std::vector<Family> all = plainFamilies();
  for (auto& more : {casedFamilies(), easternFamilies()}) all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace

std::optional<PreTokenizer> preTokenizer(std::string_view name) {
  for (const Family& family : allFamilies()) {
    if (std::ranges::find(family.names, name) == family.names.end()) continue;
    PreTokenizer out;
    for (const Step& s : family.steps) out.steps.push_back({s.kind, s.pattern ? expandPattern(s.pattern) : std::string()});
    out.rawUtf8 = family.flags.rawUtf8;
    out.escapeSpaces = family.flags.escapeSpaces;
    out.wholeNewlines = family.flags.wholeNewlines;
    out.ignoreMerges = family.flags.ignoreMerges;
    out.mergesOptional = family.flags.mergesOptional;
    return out;
  }
  return std::nullopt;
}

std::vector<std::string> knownPreTokenizers() {
  std::vector<std::string> names;
  for (const Family& family : allFamilies()) names.insert(names.end(), family.names.begin(), family.names.end());
  std::ranges::sort(names);
  return names;
}

std::string expandPattern(std::string_view pattern) {
  constexpr std::string_view spaces =
      R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
  struct Class {
    std::string_view name;
    std::string_view members;
  };
  const std::array<Class, 3> classes{{{R"(\s)", spaces}, {R"(\p{L})", R"(A-Za-z\p{L})"}, {R"(\p{N})", R"(0-9\p{N})"}}};
  std::string out;
  bool inside = false;
  for (size_t i = 0; i < pattern.size();) {
    const std::string_view rest = pattern.substr(i);
    const auto known = std::ranges::find_if(classes, [&](const Class& c) { return rest.starts_with(c.name); });
    if (known != classes.end()) {
      out += inside ? std::string(known->members) : "[" + std::string(known->members) + "]";
      i += known->name.size();
    } else if (rest.starts_with(R"(\S)")) {
      out += "[^" + std::string(spaces) + "]";  // never used inside a class
      i += 2;
    } else if (rest[0] == '\\') {
      out += rest.substr(0, 2);
      i += 2;
    } else {
      if (rest[0] == '[' && !inside) inside = true;
      else if (rest[0] == ']') inside = false;
      out += rest[0];
      ++i;
    }
  }
  return out;
}

}  // namespace winnow
