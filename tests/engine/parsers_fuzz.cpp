// SPDX-License-Identifier: GPL-3.0-or-later
// Mutated inputs for every parser of model files. `parsers_fuzz [TARGET [ITERATIONS [SEED]]]`; a crash leaves its input in the
// folder that is printed first. Built with -fsanitize=address,undefined it also sees reads outside of what was allocated.
#include <sys/resource.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <unistd.h>

#define main unusedMain  // this program has a command line of its own
#include "tests/engine/gguf/tiny.h"
#undef main

#include "engine/model/decode.h"
#include "engine/model/gguf.h"
#include "engine/model/synthetic_vocab.h"
#include "engine/model/tokenizer_model.h"
#include "tests/fuzz/mutate.h"

using namespace winnow;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

struct Target {
  std::string name;
  std::vector<std::string> corpus;
  std::function<bool(std::span<const std::byte>)> parse;
};

std::string optional(const std::string& relative) {
  const std::string path = std::string(WINNOW_SHARED_DATA) + "/" + relative;
  return std::filesystem::exists(path) ? test::readFile(path) : std::string();
}
std::string golden(const std::string& name) { return test::readFile(std::string(WINNOW_TESTS_DIR) + "/golden/hf/" + name); }
std::vector<std::string> present(std::vector<std::string> list) {
  std::erase_if(list, [](const std::string& s) { return s.empty(); });
  return list;
}
// In memory where there is a place for that: rewriting a file on a disk some thousand times a second is slow.
const std::filesystem::path& inputs() {
  static const std::filesystem::path path =
      (::access("/dev/shm", W_OK) == 0 ? std::filesystem::path("/dev/shm") : std::filesystem::temp_directory_path()) /
      ("winnow-fuzz-" + std::to_string(::getpid()));
  return path;
}
std::filesystem::path inFolder(const std::string& name) { return inputs() / name; }
void put(const std::string& name, std::span<const std::byte> bytes) {
  std::filesystem::create_directories(inFolder(name).parent_path());
  std::ofstream(inFolder(name), std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}
void put(const std::string& name, const std::string& text) { put(name, std::as_bytes(std::span(text.data(), text.size()))); }

// An opened model must be usable to the last row, and an error must be one line.
bool use(const Result<std::shared_ptr<const Model>>& opened) {
  if (!opened) {
    if (opened.error().message.empty() || opened.error().message.find('\n') != std::string::npos)
      throw std::runtime_error("bad sentence: " + opened.error().message);
    return false;
  }
  const Model& m = **opened;
  (void)m.validateValues();
  (void)ropeFrequencies(m.config().rope);
  std::vector<float> row;
  for (const MasterTensor& t : m.tensors()) {
    row.resize(static_cast<size_t>(t.cols));
    Model::decodeRows(t, 0, 1, row.data());
    Model::decodeRows(t, t.rows - 1, 1, row.data());
  }
  return true;
}
bool use(const Result<VocabData>& vocab) {
  if (!vocab && (vocab.error().message.empty() || vocab.error().message.find('\n') != std::string::npos))
    throw std::runtime_error("bad sentence: " + vocab.error().message);
  if (!vocab) return false;
  const VocabData& v = *vocab;
  if (v.types.size() != v.tokens.size() || (!v.scores.empty() && v.scores.size() != v.tokens.size()))
    throw std::runtime_error("tables of different lengths");
  for (const int id : v.endOfGeneration)
    if (id < 0 || static_cast<size_t>(id) >= v.tokens.size()) throw std::runtime_error("an id outside the table");
  return true;
}

// The container alone, from memory that ends where the file ends.
bool useGguf(std::span<const std::byte> input) {
  const std::vector<std::byte> exact(input.begin(), input.end());
  const auto file = GgufFile::parse(exact, "input");
  if (!file) return false;
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.merges", "general.name"}) (void)file->texts(key);
  for (const char* key : {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"}) (void)file->numbers(key);
  std::vector<float> values;
  for (const GgufTensor& t : file->tensors()) {
    if (!t.type) continue;
    values.resize(static_cast<size_t>(t.shape.back()));
    const DTypeTraits traits = dtypeTraits(*t.type);
    const size_t rowBytes = static_cast<size_t>(t.shape.back() / traits.blockValues * traits.blockBytes);
    decodeValues(*t.type, t.data + t.bytes - rowBytes, t.shape.back(), values.data());
  }
  return true;
}

std::string tinyWithVocab(const char* kind) {
  return test::ggufText(
      [&](GgufHeader& h) {
        test::llamaKeys(h, {});
        h.add("tokenizer.ggml.model", std::string_view(kind));
        h.add("tokenizer.ggml.pre", std::string_view("gpt-2"));
        h.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab", "<s>", "</s>"});
        h.add("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 1, 3, 3});
        h.add("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
        h.add("tokenizer.ggml.bos_token_id", uint32_t{3});
        h.add("llama.rope.scaling.type", std::string_view("linear"));
        h.add("llama.rope.scaling.factor", 2.0f);
      },
      test::llamaTensors({}));
}

std::string counted(char field, const std::string& bytes) {
  return std::string(1, static_cast<char>(field << 3 | 2)) + static_cast<char>(bytes.size()) + bytes;
}
std::string sentencePieceText() {
  std::string out;
  for (const auto& [text, type] :
       {std::pair{"<unk>", 2}, std::pair{"<s>", 3}, std::pair{"</s>", 3}, std::pair{"<0x41>", 6}, std::pair{"a", 1}, std::pair{"ab", 1}})
    out += counted(1, counted(1, text) + std::string("\x15\0\0\x80\xbf", 5) + "\x18" + static_cast<char>(type));
  return out + counted(2, "\x18\x02") + counted(3, "\x18\x01");
}

std::vector<Target> targets() {
  std::vector<Target> all;
  const std::vector<std::string> ggufs = present({test::tinyLlamaText(), tinyWithVocab("gpt2"), tinyWithVocab("llama"),
                                                  optional("models/stories260K-f32.gguf"), optional("models/random-llama-256-Q2_K.gguf")});
  all.push_back({"gguf_container", ggufs, useGguf});
  all.push_back({"gguf_model", {ggufs.begin(), ggufs.begin() + 3}, [](std::span<const std::byte> input) {
                   put("input.gguf", input);
                   use(Model::openVocab(inFolder("input.gguf").string()));
                   return use(Model::open(inFolder("input.gguf").string()));
                 }});
  all.push_back({"sentencepiece", {sentencePieceText()},
                 [](std::span<const std::byte> input) {
                   const std::vector<std::byte> exact(input.begin(), input.end());
                   return use(readSentencePieceModel(exact, "input"));
                 }});
#ifdef WINNOW_HAS_HUGGINGFACE
  for (const char* name : {"llama3", "gpt2"}) {
    const std::string family = name;
    const auto prepare = [family] {
      put(family + "/config.json", golden(family + "/config.json"));
      put(family + "/tokenizer.json", golden(family + "/tokenizer.json"));
      put(family + "/model.safetensors", golden(family + "/model.safetensors"));
    };
    const auto target = [&](const std::string& file) {
      all.push_back({file + "_" + family, {golden(family + "/" + file)}, [family, file, prepare](std::span<const std::byte> input) {
                       static std::string prepared;
                       if (prepared != family + file) prepare();
                       prepared = family + file;
                       put(family + "/" + file, input);
                       use(Model::openVocab(inFolder(family).string()));
                       return use(Model::open(inFolder(family).string()));
                     }});
    };
    target("model.safetensors");
    target("config.json");
    target("tokenizer.json");
  }
  all.push_back({"shard_index", {golden("qwen3/model.safetensors.index.json")}, [](std::span<const std::byte> input) {
                   static bool prepared = false;
                   for (const char* file :
                        {"config.json", "tokenizer.json", "model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
                         "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors"})
                     if (!prepared) put(std::string("qwen3/") + file, golden(std::string("qwen3/") + file));
                   prepared = true;
                   put("qwen3/model.safetensors.index.json", input);
                   return use(Model::open(inFolder("qwen3").string()));
                 }});
#endif
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  if (!kSanitized) {  // an allocation on a file's word alone shows as bad_alloc
    const rlimit limit{size_t{3} << 30, size_t{3} << 30};
    ::setrlimit(RLIMIT_AS, &limit);
  }
  std::printf("inputs are written to %s\n", inputs().c_str());
  int failures = 0, ran = 0;
  for (const Target& target : targets()) {
    if (argc > 1 && target.name.find(argv[1]) == std::string::npos) continue;
    fuzz::Options options;
    options.iterations = argc > 2 ? std::atoll(argv[2]) : 30000;
    options.seconds = argc > 2 ? 1e9 : 5;
    options.seed = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1;
    options.slowSeconds = kSanitized ? 20 : 4;
    const fuzz::Report report = fuzz::run(target.corpus, options, target.parse);
    std::printf("%-24s %7lld inputs, %6lld accepted, %lld failures, %.1f s\n", target.name.c_str(), static_cast<long long>(report.runs),
                static_cast<long long>(report.accepted), static_cast<long long>(report.failures), report.seconds);
    std::fflush(stdout);
    ++ran;
    const bool corpusOpens = report.accepted >= static_cast<int64_t>(target.corpus.size());
    if (!corpusOpens) std::printf("  the inputs it began with were not all accepted\n");
    if (report.failures > 0) {
      const std::filesystem::path kept = std::filesystem::temp_directory_path() / ("winnow-fuzz-" + target.name);
      std::ofstream(kept, std::ios::binary).write(report.firstBad.data(), static_cast<std::streamsize>(report.firstBad.size()));
      std::printf("  first: %s; input kept in %s\n", report.firstWhat.c_str(), kept.c_str());
    }
    failures += report.failures > 0 || !corpusOpens;
  }
  std::filesystem::remove_all(inputs());
  return failures > 0 || ran == 0 ? 1 : 0;
}
