// SPDX-License-Identifier: GPL-3.0-or-later
// Exported folders of Hugging Face: the same values, types, tokens and logits; names and configuration mapped back from GGUF; and what is refused.
#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "engine/evaluate/perplexity.h"
#include "engine/model/huggingface_write.h"
#include "engine/run/host_weights.h"
#include "engine/weights/export.h"
#include "tests/support/engine.h"
#include "tests/support/random_model.h"
#include "tests/support/shapes.h"

using namespace winnow;
using namespace winnow::test;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

struct Folder {
  fs::path path = fs::temp_directory_path() / ("winnow-safetensors-" + std::to_string(::getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  std::string file(const std::string& name) const { return (path / name).string(); }
  size_t files() const { return static_cast<size_t>(std::distance(fs::directory_iterator(path), fs::directory_iterator())); }
};

std::shared_ptr<Engine> engineFor(const std::string& path) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 2;
  return value(Engine::create(value(Model::open(path)), options));
}
std::string golden(const std::string& family) { return std::string(WINNOW_TESTS_DIR) + "/golden/hf/" + family; }
Json readJsonFile(const std::string& path) { return Json::parse(readFile(path)); }

struct Exported {
  std::shared_ptr<Engine> before, after;
  HostWeights weights;
  ExportSummary summary;
};

Exported exported(std::shared_ptr<Engine> engine, const Settings& settings, const std::string& path) {
  Exported out;
  out.before = std::move(engine);
  ThreadPool pool(2);
  out.weights = value(hostWeights(*out.before, configure(settings), pool, {}));
  out.summary = value(exportSafetensors(*out.weights.set, out.weights.target, "test", path, pool, {}));
  int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(path)) bytes += static_cast<int64_t>(entry.file_size());
  EXPECT_EQ(out.summary.bytes, bytes);
  out.after = engineFor(path);
  return out;
}

// What products see of a row: the matrix, and what lies beside it.
void rowOf(const WeightVersion& version, int row, float* out) {
  dequantizeRow(version.matrix, row, out);
  if (version.error) version.error.addRow(row, out);
  for (const WeightCorrection& c : version.corrections)
    if (c.row == row) out[c.column] += c.delta;
}

// Every matrix of the folder holds what the set holds, value for value.
void expectSameValues(const Exported& e) {
  const auto& tensors = e.before->model().tensors();
  EXPECT_EQ(e.after->model().tensors().size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const MasterTensor* now = e.after->model().find(tensors[i].role, tensors[i].layer);
    EXPECT(now && now->rows == tensors[i].rows && now->cols == tensors[i].cols, tensors[i].fileName);
    if (!now) continue;
    std::vector<float> was(static_cast<size_t>(now->cols)), is(was.size());
    for (int64_t r = 0; r < now->rows; ++r) {
      rowOf(*e.weights.set->versions[i], static_cast<int>(r), was.data());
      Model::decodeRows(*now, r, 1, is.data());
      const bool same = std::memcmp(was.data(), is.data(), was.size() * sizeof(float)) == 0;
      EXPECT(same, tensors[i].fileName, r);
      if (!same) break;
    }
  }
}

std::vector<float> logitsOf(Engine& engine, const Settings& settings) {
  const auto session = value(engine.createSession(configure(settings), {}, {}));
  std::vector<float> all;
  for (const int token : {1, 9, 260, 14, 3, 77}) {
    ok(session->step(token % session->vocab()));
    all.insert(all.end(), session->logits().begin(), session->logits().end());
  }
  return all;
}

void expectSameTokens(const Exported& e) {
  const auto before = e.before->tokenizer(), after = e.after->tokenizer();
  EXPECT((before != nullptr) == (after != nullptr));
  if (!before || !after) return;
  const std::string story = fs::exists(sharedData("corpora/tinystories_val.txt")) ? readFile(sharedData("corpora/tinystories_val.txt")).substr(0, 20000) : "";
  const std::string texts[] = {"Once upon a time, there was a little girl named Lily.", "  two  spaces,\ttabs\n\nand 1234567 numbers: 3.14!",
                               "Gr\xc3\xbc\xc3\x9f" "e, \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x99\x82 don't WON'T it's", "", story};
  for (const std::string& text : texts)
    for (const bool special : {false, true}) {
      EXPECT(before->encode(text, special, special) == after->encode(text, special, special), text.substr(0, 40), special);
      EXPECT(before->decode(before->encode(text, special)) == after->decode(after->encode(text, special)), text.substr(0, 40));
    }
  EXPECT(before->vocab().bos == after->vocab().bos && before->vocab().eos == after->vocab().eos && before->vocab().endOfGeneration == after->vocab().endOfGeneration);
  EXPECT_EQ(before->vocab().chatTemplate, after->vocab().chatTemplate);
}

void expectSameConfig(const ModelConfig& a, const ModelConfig& b) {
  EXPECT(a.architecture == b.architecture && a.layers == b.layers && a.hidden == b.hidden && a.heads == b.heads && a.kvHeads == b.kvHeads && a.headDim == b.headDim);
  EXPECT(a.ffn == b.ffn && a.vocab == b.vocab && a.context == b.context && a.slidingWindow == b.slidingWindow && a.norm == b.norm && a.normEps == b.normEps);
  EXPECT(a.activation == b.activation && a.gatedFfn == b.gatedFfn && a.position == b.position && a.tiedHead == b.tiedHead && a.qkNorm == b.qkNorm);
  EXPECT(a.parameters == b.parameters && (a.position == PositionKind::learned || ropeFrequencies(a.rope) == ropeFrequencies(b.rope)), a.architecture);
}

}  // namespace

TEST(folders_come_back_bit_for_bit) {
  const Folder folder;
  for (const char* family : {"llama3", "llama-linear", "mistral", "qwen2", "qwen3", "gpt2"}) {
    const std::string path = folder.file(family);
    const Exported e = exported(engineFor(golden(family)), {}, path);
    expectSameValues(e);
    expectSameConfig(e.before->model().config(), e.after->model().config());
    expectSameTokens(e);
    EXPECT_EQ(e.summary.plain, 0);
    EXPECT(e.summary.notes.empty() && e.summary.blocks == 0, family);
    EXPECT(logitsOf(*e.before, {}) == logitsOf(*e.after, {}), family);
    // Tokenizer and configuration are the folder's own, but for the type of the weights.
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
      if (fs::exists(golden(family) + "/" + name)) EXPECT(readFile(golden(family) + "/" + name) == readFile(path + "/" + name), family, name);
    Json was = readJsonFile(golden(family) + "/config.json"), is = readJsonFile(path + "/config.json");
    EXPECT_EQ(is["torch_dtype"].get<std::string>(), std::string("float32"));
    for (Json* json : {&was, &is}) json->erase("torch_dtype"), json->erase("dtype");
    EXPECT(was == is, family);
  }
  EXPECT_EQ(folder.files(), size_t{6});
}

// Random models of every family as GGUF: names, shapes, configuration and values as a folder has them, and the logits of the file.
TEST(gguf_of_every_family_become_folders) {
  const Folder folder;
  for (const char* family : {"llama3", "llama-linear", "mistral", "qwen2", "qwen3", "gpt2"})
    for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
      EngineOptions options;
      options.device = "cpu";
      options.threads = 2;
      const std::string path = folder.file(std::string(family) + std::string(dtypeTraits(type).name));
      const Exported e = exported(value(Engine::create(randomModel(familyConfig(family), type), options)), {}, path);
      expectSameValues(e);
      expectSameConfig(e.before->model().config(), e.after->model().config());
      EXPECT(logitsOf(*e.before, {}) == logitsOf(*e.after, {}), family, dtypeTraits(type).name);
      for (const MasterTensor& t : e.after->model().tensors())
        if (isMatrix(t.role)) EXPECT(t.type == type, t.fileName);
    }
}

// Real vocabularies: SentencePiece, whose merges are made of scores, and byte-level BPE, whose splits are written out.
TEST(files_with_tokenizers_become_folders) {
  const Folder folder;
  int at = 0;
  for (const std::string& path : {sharedData(kStories), sharedData(kChat), std::string(WINNOW_TESTS_DIR) + "/../resources/starter/starter.gguf"}) {
    const Exported e = exported(engineFor(path), {}, folder.file(std::to_string(at++)));
    expectSameValues(e);
    expectSameConfig(e.before->model().config(), e.after->model().config());
    EXPECT(e.before->tokenizer() != nullptr);
    expectSameTokens(e);
    if (e.before->model().find(TensorRole::q, 0)->type != DType::q8_0) EXPECT(logitsOf(*e.before, {}) == logitsOf(*e.after, {}), path);
  }
}

TEST(compressed_weights_come_back_value_for_value) {
  const Folder folder;
  const std::string text = std::string(WINNOW_TESTS_DIR) + "/../resources/texts/sample.txt";
  const Settings all[] = {{{"prune.ratio", "0.5"}}, {{"weights.bits", "4"}}, {{"weights.bits", "2"}, {"weights.symmetric", "false"}}, {{"weights.format", "mxfp4"}},
                          {{"weights.format", "nf4"}},
                          {{"weights.bits", "4"}, {"weights.super", "keep"}},
                          {{"weights.bits", "3"}, {"weights.error_rank", "4"}, {"calibration.text", text.c_str()}, {"calibration.tokens", "256"}}};
  int at = 0;
  for (const Settings& settings : all) {
    const Exported e = exported(openEngine(kStories), settings, folder.file(std::to_string(at++)));
    expectSameValues(e);
    EXPECT(e.summary.plain > 0);
    // Products with packed weights take activations in f16, those with f32 take them as they are: steps of 2^-11 in each of two products per layer's chain.
    const auto was = logitsOf(*e.before, settings), is = logitsOf(*e.after, {});
    EXPECT(relativeError(was, is) < 1e-2, at, relativeError(was, is));
    EXPECT(logitsOf(*e.before, {}) != is);
  }
  // Powers of two times small numbers need no more than 16 bits; a scale of 11 bits times a code of 4 does.
  const auto typeOf = [&](int i) { return value(Model::open(folder.file(std::to_string(i))))->find(TensorRole::down, 0)->type; };
  EXPECT(typeOf(3) != DType::f32 && typeOf(1) == DType::f32 && typeOf(0) == DType::f32);
}

TEST(narrowed_feed_forwards_are_that_wide_in_the_folder) {
  const Folder folder;
  for (const char* family : {"llama3", "gpt2"}) {
    const Settings settings = {{"prune.width", "0.5"}, {"prune.width_method", "random"}};
    const Exported e = exported(engineFor(golden(family)), settings, folder.file(family));
    const int width = value(commonWidth(*e.weights.set));
    EXPECT(width < e.before->model().config().ffn && e.after->model().config().ffn == width, family, width);
    EXPECT(logitsOf(*e.before, settings) == logitsOf(*e.after, {}), family);
  }
}

TEST(the_perplexity_of_the_folder_is_that_of_the_setting) {
  const Folder folder;
  const std::string text = readFile(sharedData("corpora/tinystories_val.txt")).substr(0, 12000);
  PerplexityRequest request;
  request.context = 128;
  request.chunks = 4;
  const auto perplexity = [&](Engine& engine, const Settings& settings) {
    const auto session = value(engine.createSession(configure(settings), {}, {}));
    return value(measurePerplexity(*session, nullptr, *engine.tokenizer(), text, request, {})).perplexity;
  };
  int at = 0;
  for (const Settings& settings : {Settings{{"weights.bits", "4"}}, Settings{{"prune.ratio", "0.5"}}}) {
    const Exported e = exported(openEngine(kStories), settings, folder.file(std::to_string(at++)));
    const double was = perplexity(*e.before, settings), is = perplexity(*e.after, {});
    const bool packed = settings[0].first == std::string("weights.bits");
    EXPECT_NEAR(is / was, 1.0, packed ? 2e-3 : 0.0);  // f16 products for packed weights, f32 for plain ones
    EXPECT(perplexity(*e.before, {}) != was);
  }
}

// As the library expects it: a length, JSON of dtype, shape and offsets without gaps, the data; metadata that names the framework.
TEST(the_file_is_what_the_format_says) {
  const Folder folder;
  const Exported e = exported(engineFor(golden("gpt2")), {{"prune.ratio", "0.25"}}, folder.file("out"));
  const std::string bytes = readFile(folder.file("out/model.safetensors"));
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  EXPECT_EQ(length % 8, uint64_t{0});
  const Json header = Json::parse(bytes.substr(8, length));
  EXPECT_EQ(header["__metadata__"]["format"].get<std::string>(), std::string("pt"));
  EXPECT_EQ(header["__metadata__"]["winnow.settings"].get<std::string>(), std::string("test"));
  const int64_t hidden = e.before->model().config().hidden;
  EXPECT(header["h.0.attn.c_attn.weight"]["shape"] == Json({hidden, 3 * hidden}));
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto& [name, entry] : header.items())
    if (name != "__metadata__") ranges.emplace_back(entry["data_offsets"][0].get<uint64_t>(), entry["data_offsets"][1].get<uint64_t>());
  std::ranges::sort(ranges);
  uint64_t at = 0;
  for (const auto& [begin, end] : ranges) {
    EXPECT_EQ(begin, at);
    at = end;
  }
  EXPECT_EQ(8 + length + at, uint64_t{bytes.size()});
}

TEST(the_name_of_the_weights_may_be_given) {
  const Folder folder;
  const auto engine = engineFor(golden("llama3"));
  ThreadPool pool(2);
  const HostWeights weights = value(hostWeights(*engine, {}, pool, {}));
  const auto write = [&](const std::string& path) { return exportSafetensors(*weights.set, weights.target, "", path, pool, {}); };
  value(write(folder.file("named/small.safetensors")));
  EXPECT(fs::exists(folder.file("named/small.safetensors")) && fs::exists(folder.file("named/config.json")));
  EXPECT(logitsOf(*engineFor(folder.file("named")), {}) == logitsOf(*engine, {}));
  fs::create_directory(folder.file("empty"));
  value(write(folder.file("empty/")));
  EXPECT(fs::exists(folder.file("empty/model.safetensors")));
  EXPECT_EQ(folder.files(), size_t{2});
}

namespace {

// Files end here, as on a disk that is full.
struct SmallFiles {
  rlimit before{};
  explicit SmallFiles(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    const rlimit small{bytes, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallFiles() { setrlimit(RLIMIT_FSIZE, &before); }
};

}  // namespace

TEST(what_cannot_be_written_is_refused_and_leaves_nothing) {
  const Folder folder;
  const auto engine = engineFor(golden("llama3"));
  ThreadPool pool(2);
  const HostWeights weights = value(hostWeights(*engine, configure({{"prune.ratio", "0.5"}}), pool, {}));
  const auto attempt = [&](const std::string& path, const Progress& progress = {}) {
    const auto written = exportSafetensors(*weights.set, weights.target, "", path, pool, progress);
    EXPECT(!written.ok());
    return written.ok() ? std::string() : written.error().message + " " + written.error().hint;
  };
  std::ofstream(folder.file("note.txt")) << "mine";
  EXPECT(attempt(folder.path.string()).find("other files are in this folder") != std::string::npos);
  EXPECT(attempt(folder.file("model.safetensors")).find("other files") != std::string::npos);
  EXPECT(attempt(folder.file("note.txt")).find("this is a file") != std::string::npos);
  EXPECT(attempt(golden("llama3")).find("other files") != std::string::npos);
  EXPECT(attempt(folder.file("none/out")).find("does not exist") != std::string::npos);
  EXPECT_EQ(readFile(folder.file("note.txt")), std::string("mine"));
  {
    const SmallFiles full(1 << 16);  // the tokenizer fits, the weights do not
    EXPECT(attempt(folder.file("out")).find("writing failed") != std::string::npos);
  }
  EXPECT_EQ(folder.files(), size_t{1});
  for (const double until : {0.0, 0.5}) {  // while types are chosen, and while values are written
    std::stop_source stop;
    const auto stopped = exportSafetensors(*weights.set, weights.target, "", folder.file("out"), pool,
                                           {[&](double done, std::string_view) { if (done >= until) stop.request_stop(); }, stop.get_token()});
    EXPECT(!stopped.ok() && stopped.error().code == ErrorCode::cancelled);
    EXPECT_EQ(folder.files(), size_t{1});
  }
  const std::string text = std::string(WINNOW_TESTS_DIR) + "/../resources/texts/sample.txt";
  const Settings shorter = {{"prune.layers", "1"}, {"prune.layers_protect", "0"}, {"calibration.text", text.c_str()}, {"calibration.tokens", "256"}};
  const HostWeights dropped = value(hostWeights(*engine, configure(shorter), pool, {}));
  const auto gaps = exportSafetensors(*dropped.set, dropped.target, "", folder.file("out"), pool, {});
  EXPECT(!gaps.ok() && gaps.error().hint.find("prune.layers=0") != std::string::npos);
  EXPECT_EQ(folder.files(), size_t{1});
}

TEST(tokenizers_that_json_cannot_say_are_refused) {
  const auto refused = [](const VocabData& vocab) {
    const auto files = huggingFaceTokenizer(vocab, "m.gguf");
    return files.ok() ? std::string() : files.error().message + " " + files.error().hint;
  };
  VocabData spm;
  spm.kind = VocabData::Kind::spm;
  spm.tokens = {"<unk>", "a", "b", "c", "ab", "bc"};
  spm.scores = {0, 0, 0, 0, -1, -2};
  spm.types.assign(spm.tokens.size(), VocabData::TokenType::normal);
  spm.unk = 0;
  EXPECT(refused(spm).empty(), refused(spm));
  VocabData even = spm;
  even.scores[5] = -1;
  EXPECT(refused(even).find("same score") != std::string::npos && refused(even).find("--out NAME.gguf") != std::string::npos, refused(even));
  VocabData twice = spm;
  twice.tokens[3] = "a";
  EXPECT(refused(twice).find("are both") != std::string::npos, refused(twice));
  VocabData raw = spm;
  raw.tokens[3] = "\xff";
  EXPECT(refused(raw).find("UTF-8") != std::string::npos, refused(raw));
  VocabData bpe = spm;
  bpe.kind = VocabData::Kind::bpe;
  bpe.scores.clear();
  bpe.merges = {"a b", "b c"};
  bpe.pre = "gpt-2";
  EXPECT(refused(bpe).empty(), refused(bpe));
  bpe.pre = "nobody-knows";
  EXPECT(refused(bpe).find("nobody-knows") != std::string::npos, refused(bpe));
}
