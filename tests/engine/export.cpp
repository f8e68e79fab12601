// SPDX-License-Identifier: GPL-3.0-or-later
// Exported models: the same values, the same bytes where nothing changed, the same logits; and what is refused.
#include <cstring>
#include <filesystem>
#include <fstream>

#include "engine/evaluate/perplexity.h"
#include "engine/run/host_weights.h"
#include "engine/weights/export.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;
namespace fs = std::filesystem;

namespace {

struct Folder {
  fs::path path = fs::temp_directory_path() / ("winnow-export-" + std::to_string(::getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  std::string file(const char* name) const { return (path / name).string(); }
  size_t files() const { return static_cast<size_t>(std::distance(fs::directory_iterator(path), fs::directory_iterator())); }
};

struct Exported {
  std::shared_ptr<Engine> before, after;
  HostWeights weights;
  ExportSummary summary;
};

Exported exported(const std::string& model, const Settings& settings, const std::string& path) {
  Exported out;
  out.before = openEngine(model);
  ThreadPool pool(2);
  out.weights = value(hostWeights(*out.before, configure(settings), pool, {}));
  out.summary = value(exportGguf(*out.weights.set, out.weights.target, "test", path, pool, {}));
  EXPECT_EQ(out.summary.bytes, static_cast<int64_t>(fs::file_size(path)));
  EngineOptions options;
  options.device = "cpu";
  options.threads = 2;
  out.after = value(Engine::create(value(Model::open(path)), options));
  return out;
}

// Every matrix of the file holds what the set holds, value for value.
void expectSameValues(const Exported& e) {
  const auto& tensors = e.before->model().tensors();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const MasterTensor* now = e.after->model().find(tensors[i].role, tensors[i].layer);
    EXPECT(now && now->rows == tensors[i].rows && now->cols == tensors[i].cols, tensors[i].fileName);
    if (!now) continue;
    const auto cols = static_cast<size_t>(now->cols);
    std::vector<float> was(cols), is(cols);
    for (int64_t r = 0; r < now->rows; ++r) {
      dequantizeRow(e.weights.set->versions[i]->matrix, static_cast<int>(r), was.data());
      Model::decodeRows(*now, r, 1, is.data());
      bool same = true;
      for (size_t c = 0; c < cols; ++c) same &= was[c] == is[c];
      EXPECT(same, tensors[i].fileName, r);
      if (!same) break;
    }
  }
}

uint64_t hashOf(Engine& engine, const Settings& settings) {
  const auto session = value(engine.createSession(configure(settings), {}, {}));
  for (const int token : {1, 9, 260, 14, 3, 77}) ok(session->step(token % session->vocab()));
  return session->logitsHash();
}

}  // namespace

TEST(every_width_comes_back_value_for_value) {
  const Folder folder;
  const std::string path = folder.file("out.gguf");
  for (const char* bits : {"8", "6", "5", "4", "3", "2"})
    for (const char* symmetric : {"true", "false"})
      for (const char* group : {"32", "64"}) {
        const Exported e = exported(kStories, {{"weights.bits", bits}, {"weights.symmetric", symmetric}, {"weights.group", group}}, path);
        expectSameValues(e);
        const bool noBlock = symmetric == std::string("false") && (bits == std::string("8") || bits == std::string("6"));
        EXPECT_EQ(e.summary.blocks > 0, !noBlock);
        EXPECT(!e.summary.notes.empty());  // rows of 172 values are no whole blocks of 32
      }
  EXPECT_EQ(folder.files(), size_t{1});
}

TEST(exact_blocks_give_the_same_logits_bit_for_bit) {
  const Folder folder;
  for (const char* bits : {"8", "5", "4"}) {
    const Exported e = exported(kRandom, {{"weights.bits", bits}}, folder.file("out.gguf"));
    EXPECT(e.summary.plain == 0 && e.summary.notes.empty());
    EXPECT_EQ(hashOf(*e.before, {{"weights.bits", bits}}), hashOf(*e.after, {}));
    EXPECT(hashOf(*e.before, {}) != hashOf(*e.after, {}));
  }
}

TEST(mxfp4_comes_back_as_its_block_type_and_what_has_none_as_values) {
  const Folder folder;
  const Exported e = exported(kRandom, {{"weights.format", "mxfp4"}}, folder.file("out.gguf"));
  EXPECT(e.summary.plain == 0 && e.summary.notes.empty() && e.summary.blocks > 0);
  for (const MasterTensor& tensor : e.after->model().tensors())
    if (isMatrix(tensor.role)) EXPECT(tensor.type == DType::mxfp4, tensor.fileName);
  EXPECT_EQ(hashOf(*e.before, {{"weights.format", "mxfp4"}}), hashOf(*e.after, {}));
  for (const char* format : {"nf4", "fp8-e4m3", "fp8-e5m2"}) {
    const Exported plain = exported(kRandom, {{"weights.format", format}}, folder.file("out.gguf"));
    expectSameValues(plain);
    EXPECT(plain.summary.blocks == 0 && plain.summary.notes.size() == 1 && plain.summary.notes[0].starts_with(format));
  }
}

TEST(fused_and_mixed_tensors_go_back_where_they_lay) {
  const Folder folder;
  const Settings settings{{"weights.layers", "0:8 1.q:4 2.down:3"}, {"prune.ratios", "3:0.5"}};
  const Exported e = exported(kChat, settings, folder.file("out.gguf"));  // GPT-2: q, k and v lie in one tensor
  expectSameValues(e);
  EXPECT(e.summary.copied > 0 && e.summary.blocks > 0 && e.summary.plain > 0);
}

TEST(what_did_not_change_is_copied_byte_for_byte) {
  const Folder folder;
  const Exported e = exported("models/random-llama-256-Q4_K.gguf", {{"weights.layers", "0.down:4"}}, folder.file("out.gguf"));
  EXPECT_EQ(e.summary.blocks, 1);
  int compared = 0;
  for (const MasterTensor& was : e.before->model().tensors()) {
    const MasterTensor* is = e.after->model().find(was.role, was.layer);
    if (!is || (was.role == TensorRole::down && was.layer == 0)) continue;
    EXPECT(is->type == was.type && std::memcmp(is->data, was.data, was.storedRowBytes * static_cast<size_t>(was.rows)) == 0, was.fileName);
    ++compared;
  }
  EXPECT(compared > 10);
  EXPECT(e.after->tokenizer() || !e.before->tokenizer());
}

TEST(the_perplexity_of_the_file_is_that_of_the_setting) {
  const Folder folder;
  std::ifstream in(sharedData("corpora/tinystories_val.txt"));
  std::string text(12000, ' ');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  PerplexityRequest request;
  request.context = 128;
  request.chunks = 4;
  const auto perplexity = [&](Engine& engine, const Settings& settings) {
    const auto session = value(engine.createSession(configure(settings), {}, {}));
    return value(measurePerplexity(*session, nullptr, *engine.tokenizer(), text, request, {})).perplexity;
  };
  for (const Settings& settings : {Settings{{"weights.bits", "4"}}, Settings{{"weights.bits", "3"}}, Settings{{"weights.bits", "8"}, {"weights.symmetric", "false"}},
                                   Settings{{"prune.ratio", "0.5"}}}) {
    const Exported e = exported(kStories, settings, folder.file("out.gguf"));
    const double was = perplexity(*e.before, settings), is = perplexity(*e.after, {});
    EXPECT_NEAR(is / was, 1.0, 2e-3);  // f16 products for packed weights, f32 for plain ones
    EXPECT(perplexity(*e.before, {}) != was);
  }
}

TEST(what_cannot_be_written_is_refused_and_leaves_nothing) {
  const Folder folder;
  const auto engine = openEngine(kStories);
  ThreadPool pool(2);
  const HostWeights weights = value(hostWeights(*engine, configure({{"weights.bits", "4"}}), pool, {}));
  const auto attempt = [&](const std::string& path, const Progress& progress) { return exportGguf(*weights.set, weights.target, "", path, pool, progress); };
  const auto missing = attempt(folder.file("none/out.gguf"), {});
  EXPECT(!missing.ok() && missing.error().message.find("does not exist") != std::string::npos);
  const auto self = attempt(engine->model().path(), {});
  EXPECT(!self.ok() && self.error().message.find("own compressed form") != std::string::npos);
  std::stop_source stop;
  const auto stopped = attempt(folder.file("out.gguf"), {[&](double, std::string_view) { stop.request_stop(); }, stop.get_token()});
  EXPECT(!stopped.ok() && stopped.error().code == ErrorCode::cancelled);
  EXPECT_EQ(folder.files(), size_t{0});
}
