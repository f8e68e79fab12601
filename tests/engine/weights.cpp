// SPDX-License-Identifier: GPL-3.0-or-later
// Weight versions: in place where possible, shared between sets, exact for the file's own blocks, the same bytes after a detour.
#include <cstring>

#include "engine/weights/converter.h"
#include "engine/weights/store.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

struct Shop {
  std::shared_ptr<const Model> model;
  Ledger ledger;
  WeightStore store;
  ThreadPool pool{2};
  explicit Shop(const char* file) : model(value(Model::open(sharedData(file)))), store(model, ledger) {}
  WeightTarget target(const Settings& settings) const { return weightTarget(*model, resolve(configure(settings), model->config()).config, ""); }
  std::shared_ptr<const WeightSet> build(const Settings& settings) { return value(store.build(target(settings), pool, {}, {})); }
};

const Matrix& matrixOf(const WeightSet& set, TensorRole role, int layer) {
  for (size_t i = 0; i < set.versions.size(); ++i)
    if (set.model->tensors()[i].role == role && set.model->tensors()[i].layer == layer) return set.versions[i]->matrix;
  throw std::runtime_error("no such tensor");
}

bool sameBytes(const Matrix& a, const Matrix& b) {
  const size_t codes = a.format.storage == Storage::packed ? a.format.codeBytes(a.rows, a.cols) : a.bytes();
  if (!(a.format == b.format) || std::memcmp(a.data, b.data, codes) != 0) return false;
  const size_t scales = a.format.scaleBytes(a.rows, a.cols);
  if (scales > 0 && std::memcmp(a.scales, b.scales, scales) != 0) return false;
  if (a.steps && std::memcmp(a.steps, b.steps, a.format.stepBytes(a.rows, a.cols)) != 0) return false;
  return !a.mins || std::memcmp(a.mins, b.mins, scales) == 0;
}

}  // namespace

TEST(plain_tensors_are_read_where_they_lie) {
  Shop shop(kChat);  // GPT-2: nothing to un-permute
  const auto set = shop.build({});
  EXPECT_EQ(shop.ledger.bytes(MemoryTag::weights), int64_t{0});
  EXPECT(shop.ledger.bytes(MemoryTag::weightsMapped) > shop.model->fileBytes() * 9 / 10);
  EXPECT_EQ(set->head == set->embedding, shop.model->config().tiedHead);
  EXPECT(!set->takesInt8);
}

TEST(a_tied_head_is_the_embedding) {
  const auto model = value(Model::open(std::string(WINNOW_TESTS_DIR) + "/golden/hf/qwen2"));
  Ledger ledger;
  WeightStore store(model, ledger);
  ThreadPool pool(1);
  for (const char* tensors : {"all", "head", "embedding"}) {
    const Config config = configure({{"weights.bits", "8"}, {"weights.tensors", tensors}});
    const auto set = value(store.build(weightTarget(*model, resolve(config, model->config()).config, ""), pool, {}, {}));
    EXPECT_EQ(set->head == set->embedding, model->config().tiedHead);
    EXPECT(set->head->format.storage == Storage::packed, tensors);
  }
}

TEST(a_format_whose_width_no_matrix_has_is_reported) {
  Shop shop(kStories);
  const auto target = [&](const Settings& settings) { return weightTarget(*shop.model, resolve(configure(settings), shop.model->config()).config, ""); };
  EXPECT(target({{"weights.format", "nf4"}}).adjustments.empty());
  const WeightTarget unused = target({{"weights.format", "nf4"}, {"weights.layers", "0:8"}});
  EXPECT(unused.adjustments.size() == 1 && unused.adjustments[0].knob == "weights.format" && toText(unused.adjustments[0].effective) == "integer");
}

TEST(blocks_of_256_take_the_bytes_of_the_file) {
  Shop blocks("models/random-llama-256-Q6_K.gguf");
  const WeightTarget exact = weightTarget(*blocks.model, Config(), "");
  for (size_t i = 0; i < exact.recipes.size(); ++i) {
    const MasterTensor& tensor = blocks.model->tensors()[i];
    if (!isMatrix(tensor.role)) continue;
    EXPECT_EQ(exact.recipes[i].format.describe(), std::string("6 bit g16/256 sym"));
    EXPECT(static_cast<int64_t>(exact.recipes[i].format.bytes(static_cast<int>(tensor.rows), static_cast<int>(tensor.cols))) ==
           static_cast<int64_t>(tensor.storedRowBytes) * tensor.rows);
  }
}

TEST(permuted_rows_are_copied) {
  Shop shop(kStories);  // llama architecture: q and k are
  const auto set = shop.build({});
  const Matrix &q = matrixOf(*set, TensorRole::q, 0), &o = matrixOf(*set, TensorRole::o, 0);
  EXPECT(!q.mapped() && o.mapped());
  std::vector<float> rows(static_cast<size_t>(q.rows) * static_cast<size_t>(q.cols));
  Model::decodeRows(*shop.model->find(TensorRole::q, 0), 0, q.rows, rows.data());
  EXPECT(std::memcmp(rows.data(), q.data, q.bytes()) == 0);
}

TEST(equal_recipes_share_one_version) {
  Shop shop(kStories);
  const auto a = shop.build({{"weights.bits", "4"}}), b = shop.build({{"weights.bits", "4"}});
  EXPECT(a->versions == b->versions);
  const int64_t one = shop.ledger.bytes(MemoryTag::weights);
  const auto c = shop.build({{"weights.bits", "4"}, {"weights.tensors", "up,down"}});
  EXPECT(&matrixOf(*c, TensorRole::up, 1) == &matrixOf(*a, TensorRole::up, 1));
  EXPECT(&matrixOf(*c, TensorRole::v, 1) != &matrixOf(*a, TensorRole::v, 1));
  EXPECT_EQ(static_cast<int>(matrixOf(*c, TensorRole::v, 1).format.storage), static_cast<int>(Storage::f32));
  EXPECT(shop.ledger.bytes(MemoryTag::weights) >= one);
}

TEST(a_version_dies_with_its_last_user_and_comes_back_the_same) {
  Shop shop(kRandom);
  auto first = shop.build({{"weights.bits", "3"}});
  std::vector<uint8_t> before;
  const Matrix& m = matrixOf(*first, TensorRole::down, 2);
  before.assign(static_cast<const uint8_t*>(m.data), static_cast<const uint8_t*>(m.data) + m.format.codeBytes(m.rows, m.cols));
  const int64_t used = shop.ledger.bytes(MemoryTag::weights);
  first.reset();
  EXPECT_EQ(shop.ledger.bytes(MemoryTag::weights), int64_t{0});
  EXPECT_EQ(shop.ledger.bytes(MemoryTag::weightsMapped), int64_t{0});
  const auto again = shop.build({{"weights.bits", "3"}});
  EXPECT_EQ(shop.ledger.bytes(MemoryTag::weights), used);
  EXPECT(std::memcmp(matrixOf(*again, TensorRole::down, 2).data, before.data(), before.size()) == 0);
}

TEST(the_result_does_not_depend_on_threads) {
  for (const Settings& settings : {Settings{{"weights.bits", "5"}}, Settings{{"weights.bits", "2"}, {"weights.group", "64"}}, Settings{{"prune.ratio", "0.5"}}}) {
    Shop one(kStories), three(kStories);
    ThreadPool single(1), triple(3);
    const auto a = value(one.store.build(one.target(settings), single, {}, {}));
    const auto b = value(three.store.build(three.target(settings), triple, {}, {}));
    for (size_t i = 0; i < a->versions.size(); ++i) EXPECT(sameBytes(a->versions[i]->matrix, b->versions[i]->matrix), i);
  }
}

TEST(the_blocks_of_a_file_are_repacked_exactly) {
  for (const char* file : {"models/random-llama-256-Q8_0.gguf", "models/random-llama-256-Q4_0.gguf", "models/random-llama-256-Q4_1.gguf",
                           "models/random-llama-256-Q5_0.gguf", "models/random-llama-256-Q5_1.gguf"}) {
    Shop shop(file);
    const auto set = shop.build({});
    EXPECT(set->takesInt8, file);
    for (size_t i = 0; i < set->versions.size(); ++i) {
      const MasterTensor& tensor = shop.model->tensors()[i];
      const Matrix& m = set->versions[i]->matrix;
      if (m.format.storage != Storage::packed) continue;
      std::vector<float> expected(static_cast<size_t>(m.cols)), row(expected);
      for (int r = 0; r < m.rows; r += 7) {
        Model::decodeRows(tensor, r, 1, expected.data());
        dequantizeRow(m, r, row.data());
        EXPECT(relativeError(expected, row) < 1e-6, file, tensor.fileName, r);
      }
    }
  }
}

TEST(fewer_bits_are_less_memory) {
  Shop shop(kRandom);
  int64_t before = INT64_MAX;
  for (const char* bits : {"8", "6", "5", "4"}) {
    const auto set = shop.build({{"weights.bits", bits}});
    const int64_t now = shop.ledger.bytes(MemoryTag::weights);
    EXPECT(now < before, bits, now, before);
    before = now;
  }
  // 4 bits in groups of 32 are 4.5 bits per weight, plus f32 norms.
  const auto set = shop.build({{"weights.bits", "4"}});
  int64_t matrices = 0;
  for (const MasterTensor& t : shop.model->tensors())
    if (isMatrix(t.role)) matrices += t.rows * t.cols;
  EXPECT_NEAR(static_cast<double>(shop.ledger.bytes(MemoryTag::weights)), static_cast<double>(matrices) * 4.5 / 8, static_cast<double>(matrices) * 0.01);
}

TEST(pruning_zeroes_the_asked_share_and_nothing_else) {
  for (const char* file : {kRandom, "models/random-llama-256-Q4_0.gguf", "models/random-llama-256-Q4_1.gguf"}) {
    Shop shop(file);
    const auto dense = shop.build({}), pruned = shop.build({{"prune.ratio", "0.5"}});
    for (const TensorRole role : {TensorRole::q, TensorRole::gate, TensorRole::down}) {
      const Matrix &a = matrixOf(*dense, role, 1), &b = matrixOf(*pruned, role, 1);
      std::vector<float> x(static_cast<size_t>(a.cols)), y(x);
      int64_t zero = 0;
      for (int r = 0; r < a.rows; ++r) {
        dequantizeRow(a, r, x.data());
        dequantizeRow(b, r, y.data());
        for (int c = 0; c < a.cols; ++c) {
          const float was = x[static_cast<size_t>(c)], is = y[static_cast<size_t>(c)];
          zero += is == 0;
          if (is != 0) EXPECT(std::fabs(is - was) <= 1e-3f * std::fabs(was), file, r, c, was, is);
        }
      }
      const auto numel = static_cast<double>(a.rows) * a.cols;
      EXPECT(static_cast<double>(zero) >= std::floor(numel * 0.5), file, zero);
      if (file == std::string(kRandom)) EXPECT_EQ(zero, static_cast<int64_t>(numel * 0.5));
    }
    EXPECT(&matrixOf(*dense, TensorRole::tokenEmbedding, -1) == &matrixOf(*pruned, TensorRole::tokenEmbedding, -1), "embeddings are not pruned");
  }
}

TEST(an_unknown_tensor_name_is_answered_and_all_are_taken) {
  Shop shop(kStories);
  const WeightTarget target = shop.target({{"weights.bits", "4"}, {"weights.tensors", "up,dwn"}});
  EXPECT_EQ(target.adjustments.size(), size_t{1});
  EXPECT(target.adjustments[0].reason.find("dwn") != std::string::npos && target.adjustments[0].reason.find("down") != std::string::npos,
         target.adjustments[0].reason);
  EXPECT_EQ(target.key, shop.target({{"weights.bits", "4"}}).key);
}

TEST(a_cancelled_conversion_leaves_nothing) {
  Shop shop(kRandom);
  std::stop_source stop;
  Progress progress;
  progress.stop = stop.get_token();
  progress.report = [&](double fraction, std::string_view) {
    if (fraction > 0.3) stop.request_stop();
  };
  const auto built = shop.store.build(shop.target({{"weights.bits", "4"}}), shop.pool, {}, progress);
  EXPECT(!built.ok() && built.error().code == ErrorCode::cancelled);
  EXPECT_EQ(shop.ledger.total(), int64_t{0});
}

TEST(the_converter_publishes_all_at_once_and_drops_what_is_superseded) {
  Shop shop(kRandom);
  Converter converter(shop.store, 2, {});
  const auto first = converter.submit(shop.target({{"weights.bits", "6"}}));
  first->cancel();
  const auto second = converter.submit(shop.target({{"weights.bits", "4"}}));
  while (!second->finished()) std::this_thread::yield();
  EXPECT(first->finished() && (first->set() || first->error()->code == ErrorCode::cancelled));
  EXPECT(second->set() && second->set()->takesInt8 && !second->error());
  EXPECT_NEAR(second->fraction(), 1.0, 1e-9);
}
