// SPDX-License-Identifier: GPL-3.0-or-later
// The names of tokenizer.ggml.pre and the split expressions they stand for. A GGUF stores only the name; the expressions are
// those of each model's tokenizer.json, in the form llama.cpp gives them (so that ids agree on every input), written for PCRE2.
#include <algorithm>
#include <map>

#include "engine/text/splitter.h"
#include "engine/text/tokenizer.h"

namespace winnow {
namespace {

using Patterns = std::vector<std::string>;

// Character classes of DeepSeek's, BLOOM's, AFMoE's and Youtu's expressions.
const std::string kCasedLetters =
    R"re([A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}\x{370})re"
    R"re(-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7})re"
    R"re(-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA})re"
    R"re(\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20})re"
    R"re(-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6})re"
    R"re(-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2})re"
    R"re(-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128})re"
    R"re(\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00})re"
    R"re(-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F})re"
    R"re(\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41})re"
    R"re(-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2})re"
    R"re(\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}])re";
const std::string kWesternPunctuation =
    R"re([!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}])re";
const std::string kBloomWord =
    R"re([^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})])re";
const std::string kAsianScripts =
    R"re([\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{8C48}-\x{FAFF}\x{3040}-\x{309F}\x{30A0}-\x{30FF}\x{FF65}-\x{FF9F})re"
    R"re(\x{2F00}-\x{2FDF}\x{E40}-\x{E7F}\x{E80}-\x{EFF}\x{1780}-\x{17FF}\x{1000}-\x{109F}\x{AA60}-\x{AA7F}\x{A9E0})re"
    R"re(-\x{A9FF}\x{AC00}-\x{D7AF}\x{1100}-\x{11FF}])re";
const std::string kYoutuRuns =
    R"re([\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+|[\x{FF01}\x{2026}\x{201C}\x{201D}\x{2018}\x{2019}\x{2014}\x{FF1A})re"
    R"re(\x{FF1B}\x{FF0C}\x{3001}-\x{303F}\x{FE30}-\x{FE4F}]+|[\x{3105}-\x{312F}]+|[\x{4E00}-\x{9FA5}\x{3040}-\x{309F})re"
    R"re(\x{30A0}-\x{30FF}]+)re";

const std::string kHanKana = R"re([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)re";
const std::string kHanHangul = R"re([\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+)re";

const std::string kContraction = R"re((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]))re";
const std::string kSpaces = R"re(\s*[\r\n]+|\s+(?!\S)|\s+)re";
const std::string kGpt2 = R"re('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))re";
// Words with an optional leading sign, digits in runs of `digits`, signs with trailing newlines (Llama 3, Qwen 2).
std::string words(const std::string& letters, const std::string& digits, const std::string& signs = R"re([^\s\p{L}\p{N}])re") {
  return kContraction + R"re(|[^\r\n\p{L}\p{N}]?)re" + letters + "+|" + digits + "| ?" + signs + R"re(+[\r\n]*|)re" + kSpaces;
}
// Words cut where lower case turns to upper case (Tekken, GPT-4o); `letter` decides what counts as one.
std::string camelWords(const std::string& letter, const std::string& suffix, const std::string& digits) {
  const std::string upper = "(?:(?=[" + letter + "])[^a-z])", lower = "(?:(?=[" + letter + "])[^A-Z])", sign = R"re([^\r\n\p{L}\p{N}]?)re";
  return sign + upper + "*" + lower + "+" + suffix + "|" + sign + upper + "+" + lower + "*" + suffix + "|" + digits +
         R"re(| ?[^\s\p{L}\p{N}]+[\r\n/]*|)re" + kSpaces;
}
// The same by Unicode category; `exclude` goes before each class.
std::string categoryWords(const std::string& exclude, const std::string& digits) {
  const std::string upper = "(?:" + exclude + R"re([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]))re", lower = "(?:" + exclude + R"re([\p{Ll}\p{Lm}\p{Lo}\p{M}]))re";
  const std::string sign = R"re([^\r\n\p{L}\p{N}]?)re", suffix = kContraction + "?";
  return sign + upper + "*" + lower + "+" + suffix + "|" + sign + upper + "+" + lower + "*" + suffix + "|" + digits +
         R"re(| ?[^\s\p{L}\p{N}]+[\r\n/]*|)re" + kSpaces;
}

const std::string kDeepSeekWords =
    R"re([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+)re";
const std::string kThousands = R"re(\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N})))re";  // digits in threes from the right

std::map<std::string, PreTokenizer, std::less<>> build() {
  std::map<std::string, PreTokenizer, std::less<>> table;
  const auto add = [&](std::initializer_list<const char*> names, Patterns patterns, bool byteAlphabet = true, bool escapeSpaces = false) {
    for (const char* name : names) table[name] = {patterns, byteAlphabet, escapeSpaces};
  };
  const std::string letters = R"re(\p{L})re", marked = R"re([\p{L}\p{M}])re", one = R"re(\p{N})re", three = R"re(\p{N}{1,3})re", any = R"re(\p{N}+)re";
  add({"default"}, {R"re([\p{P}\$\+<=>\^~\|]+)re", kGpt2, any, "[0-9][0-9][0-9]"});
  add({"gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum", "modern-bert", "jina-v1-en", "jina-v2-code",
       "roberta-bpe", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4"},
      {kGpt2});
  add({"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"}, {one, kGpt2});
  add({"falcon"}, {R"re([\p{P}\$\+<=>\^~\|`]+)re", kGpt2, "[0-9][0-9][0-9]"});
  add({"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano", "dbrx", "smaug-bpe", "chatglm-bpe", "glm4",
       "glm5"},
      {words(letters, three)});
  add({"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"}, {words(letters, one)});
  add({"qwen35"}, {words(marked, one, R"re([^\s\p{L}\p{M}\p{N}])re")});
  add({"minicpm5"}, {three, words(letters, any)});
  add({"laguna"}, {R"re([^\n]+|[\n]+)re", words(letters, one)});
  add({"ufakzeka"}, {R"re([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)re" + kSpaces});
  add({"jais-2"}, {kContraction + R"re(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|)re"
                                  R"re(\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})re"});
  add({"seed-coder"}, {kContraction + R"re(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|)re" + kSpaces});
  add({"exaone-moe"}, {kContraction + R"re(|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)re"});
  add({"bailingmoe", "bailingmoe2", "llada-moe"},
      {R"re('(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)re"});
  add({"deepseek-llm"}, {R"re([\r\n])re", R"re(\s?)re" + kCasedLetters + "+", R"re(\s?)re" + kWesternPunctuation + "+", R"re(\s+\z)re", kHanHangul, any});
  add({"deepseek-coder"}, {R"re([\r\n])re", R"re(\s?\p{L}+)re", R"re(\s?\p{P}+)re", kHanHangul, one});
  add({"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"}, {three, kHanKana, kDeepSeekWords + R"re([\r\n]*|)re" + kSpaces});
  add({"spark2_5"}, {three, kHanKana, kDeepSeekWords + R"re(|[\r\n]|\s+(?!\S)|\s+)re", one});
  add({"youtu"}, {kYoutuRuns, categoryWords("", one)});
  add({"afmoe"}, {kThousands, kAsianScripts + "+", kDeepSeekWords + R"re([\r\n]*|)re" + kSpaces});
  add({"poro-chat", "bloom", "gpt3-finnish"}, {" ?" + kBloomWord + "+"});
  add({"viking"}, {" ?" + kBloomWord + "+", one});
  add({"tekken"}, {camelWords(letters, "", one)});
  add({"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"}, {camelWords(letters, kContraction + "?", three)});
  add({"granite-embed-multi-97m"}, {camelWords(R"re(\p{L}\p{M})re", kContraction + "?", three)});
  add({"tiny_aya", "cohere2moe"}, {R"re(\d{1,3}(?=(?:\d{3})*\b))re", categoryWords("", three)});
  add({"kimi-k2"}, {R"re(\p{Han}+)re", categoryWords(R"re((?!\p{Han}))re", three)});
  add({"superbpe"}, {any, R"re(\d{1,3}(?=(?:\d{3})*(?!\d)))re"});
  add({"chameleon"}, {"<sentinel:[0-9]+>", "(?:IMGIMG)(?:A|B|C|D|E|F|G|H|I){1,4}Z", R"re([\t\n]|    |  )re", one, R"re([\p{P}!-/:-@\[-`{-~])re", kGpt2});
  add({"gemma4", "granite-embed-multi-311m", "sarvam-moe"}, {R"re([^\n]+|[\n]+)re"}, false, true);
  add({"whitespace"}, {R"re(\S+)re"}, false);
  return table;
}

const std::map<std::string, PreTokenizer, std::less<>>& table() {
  static const auto built = build();
  return built;
}

}  // namespace

const PreTokenizer* findPreTokenizer(std::string_view name) {
  const auto it = table().find(name);
  return it == table().end() ? nullptr : &it->second;
}

std::vector<std::string> knownPreTokenizers() {
  std::vector<std::string> names;
  for (const auto& [name, pre] : table()) names.push_back(name);
  return names;
}

}  // namespace winnow
