// SPDX-License-Identifier: GPL-3.0-or-later
// Activation sparsity (pruning_sharing_attribution.md E): thresholds against exact quantiles, products by channel against double precision, and sessions:
// nothing left out changes no bit, prompts are whole, more left out diverges more, changes act at the next token.
#include <algorithm>
#include <numeric>

#include "engine/cpu/sparse.h"
#include "engine/evaluate/perplexity.h"
#include "engine/sparsify/method.h"
#include "engine/sparsify/use.h"
#include "engine/weights/store.h"
#include "tests/support/engine.h"
#include "tests/support/normal.h"
#include "tests/support/random_model.h"

using namespace winnow;
using namespace winnow::test;

namespace {

std::string written(const char* name, const std::string& text) {
  const std::string path = (scratch() / name).string();
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

// Stories to calibrate on, and others to try on.
const std::string& stories() {
  static const std::string text = readFile(sharedData("corpora/tinystories_val.txt"));
  return text;
}
std::string calibrationStories() {
  static const std::string path = written("stories.txt", stories().substr(0, 20000));
  return path;
}
std::vector<int32_t> otherStory(const Engine& engine, size_t tokens) {
  auto ids = engine.tokenizer()->encode(stories().substr(40000, 8 * tokens), true);
  ids.resize(std::min(ids.size(), tokens));
  return ids;
}

Config sparse(const std::string& method, double share, Settings beside = {}) {
  return configure(beside).with("activation.method", method).with("activation.sparsity", share).with("calibration.text", calibrationStories()).with("calibration.tokens", int64_t{1024});
}

double share(const SparseUse& use, size_t place) {
  SparseCount all;
  for (const auto& layer : use.layers) {
    all.kept += layer[place].kept;
    all.of += layer[place].of;
  }
  return all.skipped();
}
constexpr size_t kDown = static_cast<size_t>(LinearInput::down);

// Logits of each token from `prompt` on, fed one by one.
std::vector<std::vector<float>> decoded(Session& session, std::span<const int32_t> ids, size_t prompt) {
  session.reset();
  ok(session.prefill(ids.first(prompt), {}));
  std::vector<std::vector<float>> out;
  for (const int32_t id : ids.subspan(prompt)) {
    ok(session.step(id));
    out.emplace_back(session.logits().begin(), session.logits().end());
  }
  return out;
}

double divergence(Session& session, const std::vector<std::vector<float>>& base, const std::vector<std::vector<float>>& other) {
  double sum = 0;
  for (size_t i = 0; i < base.size(); ++i) {
    Divergence d;
    const int32_t target = 0;
    session.compareLogits(base[i].data(), other[i].data(), {&target, 1}, &d);
    sum += d.kld;
  }
  return sum / static_cast<double>(base.size());
}

const std::vector<std::string>& methods() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const ActivationMethod& method : activationMethods()) out.push_back(method.name);
    return out;
  }();
  return names;
}

}  // namespace

TEST(thresholds_are_quantiles) {
  ModelConfig model = familyConfig("llama3");
  model.layers = 2;
  Ledger ledger;
  constexpr int kTokens = 300;
  const int cols = model.hidden;
  ActivationProfile profile(model, ledger, kTokens, std::vector<std::vector<float>>(2));
  auto x = normal(static_cast<size_t>(kTokens * cols), 3);
  for (size_t i = 0; i < x.size(); ++i) x[i] *= i % 7 == 0 ? 20.0f : 0.01f;  // two scales
  profile.take(1, LinearInput::ffn, x.data(), cols, kTokens, cols);
  ok(profile.sound());
  std::vector<float> sorted;
  for (const float v : x) sorted.push_back(std::fabs(v));
  std::ranges::sort(sorted);
  EXPECT_EQ(profile.counted(1, ActivationSite::ffn), static_cast<int64_t>(x.size()));
  EXPECT_EQ(profile.quantile(1, ActivationSite::ffn, 0), 0.0f);
  for (const double p : {0.05, 0.25, 0.5, 0.7, 0.9, 0.95}) {
    const float exact = sorted[static_cast<size_t>(p * static_cast<double>(sorted.size()))], got = profile.quantile(1, ActivationSite::ffn, p);
    EXPECT(std::fabs(got - exact) <= exact * 0x1p-7f, p, got, exact);  // the width of a bin
  }
  EXPECT_EQ(profile.quantile(0, ActivationSite::ffn, 0.5), 0.0f);  // nothing was counted
  const float bad = std::nanf("");
  profile.take(0, LinearInput::ffn, &bad, 1, 1, 1);
  EXPECT(!profile.sound());
}

TEST(gates_are_counted_after_their_activation) {
  const ModelConfig model = familyConfig("llama3");
  Ledger ledger;
  ActivationProfile profile(model, ledger, 40, std::vector<std::vector<float>>(3));
  const auto gate = normal(static_cast<size_t>(40 * model.ffn), 5);
  profile.takeGate(2, gate.data(), model.ffn, 40, model.ffn);
  std::vector<double> sorted;
  for (const float g : gate) sorted.push_back(std::fabs(double{g} / (1 + std::exp(-double{g}))));
  std::ranges::sort(sorted);
  for (const double p : {0.1, 0.5, 0.9}) {
    const double exact = sorted[static_cast<size_t>(p * static_cast<double>(sorted.size()))];
    EXPECT_NEAR(profile.quantile(2, ActivationSite::gate, p), exact, exact * 0x1p-7);
  }
}

TEST(prompts_choose_neurons) {
  ModelConfig model = familyConfig("llama3");
  model.layers = 1;
  model.ffn = 4;
  Ledger ledger;
  // Two tokens: the second is ten times larger, so that it decides alone unless tokens are made unit vectors.
  const std::vector<float> h = {0, 3, 4, 0, /**/ 80, 0, 0, 60};
  PromptNeurons plain(model, {}, ledger, false), unit(model, {}, ledger, true);
  for (PromptNeurons* prompt : {&plain, &unit}) prompt->take(0, LinearInput::down, h.data(), 4, 2, 4);
  EXPECT_EQ(plain.tokens(), int64_t{2});
  const std::vector<float> squares = {0.64f, 0.36f, 0.64f, 0.36f};
  for (size_t j = 0; j < 4; ++j) EXPECT_NEAR(unit.squares(0)[j], squares[j], 1e-6);
  const ActivationMethod &griffin = *findActivationMethod("griffin"), &tda = *findActivationMethod("tda");
  EXPECT(griffin.neurons(unit, nullptr, 0, 0.5) == std::vector<int32_t>({0, 2}));
  EXPECT(griffin.neurons(unit, nullptr, 0, 0.25) == std::vector<int32_t>({0, 1, 2}));  // of equals the first stay
  EXPECT(griffin.neurons(unit, nullptr, 0, 0).size() == 4);
  EXPECT(griffin.neurons(unit, nullptr, 0, 1.0).size() == 1);
  // TDA: root mean squares times column norms: 80/sqrt 2, 3 * 100/sqrt 2, 4/sqrt 2, 60 * 0.01/sqrt 2, against what one window made of each.
  const std::vector<float> norms = {1, 100, 1, 0.01f};
  ActivationProfile profile(model, ledger, 2, {norms});
  profile.take(0, LinearInput::down, h.data(), 4, 2, 4);
  EXPECT(tda.neurons(plain, &profile, 0, 0.45) == std::vector<int32_t>({0, 1}));
  EXPECT(tda.neurons(plain, &profile, 0, 0.7) == std::vector<int32_t>({1}));
  EXPECT(tda.neurons(plain, &profile, 0, 1.0).size() == 1);
  plain.clear();
  EXPECT_EQ(plain.tokens(), int64_t{0});
  EXPECT_EQ(plain.squares(0)[0], 0.0f);
}

namespace {

// Products of one matrix by channel, on every instruction set and for several threads, against double precision. In f32 the error of a sum of n products in
// any order is at most (n + 3) 2^-24 of the sum of their magnitudes, scales and minimums included.
void checkChannels(const Matrix& w, const std::string& name) {
  const int rows = w.rows, cols = w.cols;
  Ledger ledger;
  ThreadPool filling(2);
  ChannelMajor byColumn = ChannelMajor::allocate(ledger, w, true);
  EXPECT(byColumn.fill(w, filling, {}));
  std::optional<ChannelMajor> byRow;
  if (w.format.storage == Storage::packed) {
    byRow = ChannelMajor::allocate(ledger, w, false);
    EXPECT(byRow->fill(w, filling, {}));
  }
  auto x = normal(static_cast<size_t>(cols), 9);
  std::vector<int32_t> columns, listed;
  cpu::keepAbove(x.data(), cols, 0.6f, columns);
  for (const float v : x) EXPECT(v == 0 || std::fabs(v) > 0.6f);
  EXPECT(!columns.empty() && static_cast<int>(columns.size()) < cols);
  for (int r = 0; r < rows; r += 1 + r % 3) listed.push_back(r);
  const auto bias = normal(static_cast<size_t>(rows), 10), before = normal(static_cast<size_t>(rows), 11);
  std::vector<double> exact(static_cast<size_t>(rows)), bound(exact);
  std::vector<float> row(static_cast<size_t>(cols));
  for (int r = 0; r < rows; ++r) {
    dequantizeRow(w, r, row.data());
    double sum = bias[static_cast<size_t>(r)], magnitude = std::fabs(sum), largest = 0;
    for (const float v : row) largest = std::max(largest, std::fabs(double{v}));
    for (int c = 0; c < cols; ++c) {
      sum += double{row[static_cast<size_t>(c)]} * x[static_cast<size_t>(c)];
      magnitude += 2 * largest * std::fabs(double{x[static_cast<size_t>(c)]});  // codes and minimums alone may be twice what they make together
    }
    exact[static_cast<size_t>(r)] = sum;
    bound[static_cast<size_t>(r)] = (cols + 3) * 0x1p-24 * magnitude;
  }
  for (const cpu::Isa isa : cpu::availableIsas()) {
    std::vector<float> first;
    for (const int threads : {1, 3}) {
      ThreadPool pool(threads);
      cpu::Context context(pool, isa);
      std::vector<float> y = before, z(static_cast<size_t>(rows), 7.0f);
      const cpu::SparseTarget added{&w, &byColumn, y.data(), bias.data(), true, ActivationMode::f32};
      cpu::multiplyColumns(context, {&added, 1}, columns, x.data());
      for (size_t r = 0; r < y.size(); ++r)
        EXPECT(std::fabs(y[r] - (exact[r] + before[r])) <= bound[r] + 0x1p-23 * std::fabs(before[r]), name, cpu::isaName(isa), r, y[r], exact[r] + before[r]);
      const cpu::SparseTarget some{&w, byRow ? &*byRow : nullptr, z.data(), bias.data(), false, ActivationMode::f32};
      cpu::multiplyRows(context, {&some, 1}, listed, x.data());
      for (const int32_t r : listed) EXPECT(std::fabs(z[static_cast<size_t>(r)] - exact[static_cast<size_t>(r)]) <= bound[static_cast<size_t>(r)], name, cpu::isaName(isa), "row", r);
      for (int r = 0; r < rows; ++r)
        if (!std::ranges::binary_search(listed, r)) EXPECT_EQ(z[static_cast<size_t>(r)], 7.0f);
      if (!byRow) {  // rows of a plain matrix: to the bit what the whole product makes of them
        std::vector<float> whole(static_cast<size_t>(rows));
        const cpu::MatmulTarget all{&w, whole.data(), rows, bias.data(), false};
        cpu::matmul(context, {&all, 1}, x.data(), cols, 1, ActivationMode::f32);
        for (const int32_t r : listed) EXPECT_EQ(z[static_cast<size_t>(r)], whole[static_cast<size_t>(r)]);
      }
      y.insert(y.end(), z.begin(), z.end());
      if (first.empty()) first = y;
      EXPECT(first == y, name, cpu::isaName(isa), threads);
    }
  }
}

}  // namespace

TEST(products_by_channel_are_those_of_the_matrix) {
  const auto path = scratch() / "channels.gguf";
  int tried = 0;
  ThreadPool pool(2);
  const auto check = [&](const std::shared_ptr<const Model>& model, const Settings& settings) {
    Ledger ledger;
    WeightStore store(model, ledger);
    const auto set = value(store.build(weightTarget(*model, resolve(configure(settings), model->config()).config, ""), pool, {}, {}));
    for (const Matrix* w : {set->layers[0].k, set->layers[1].up, set->layers[0].down}) checkChannels(*w, w->format.describe());
    ++tried;
  };
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    writeRandomModel(familyConfig("llama3"), type, path.string());
    const std::shared_ptr<const Model> model = value(Model::open(path.string()));
    check(model, {});
    if (type != DType::f32) continue;
    for (const char* bits : {"2", "3", "4", "5", "6", "8"})
      for (const char* symmetric : {"true", "false"}) check(model, {{"weights.bits", bits}, {"weights.symmetric", symmetric}});
    for (const char* group : {"64", "128", "row"}) check(model, {{"weights.bits", "4"}, {"weights.group", group}});
    for (const char* format : {"nf4", "mxfp4", "fp8-e4m3", "fp8-e5m2"}) check(model, {{"weights.format", format}});
  }
  for (const char* type : {"Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0"}) check(value(Model::open(sharedData("models/random-llama-256-" + std::string(type) + ".gguf"))), {});
  EXPECT_EQ(tried, 28);
}

TEST(nothing_left_out_is_the_dense_model_to_the_bit) {
  const auto engine = openEngine(kStories);
  const auto ids = otherStory(*engine, 60);
  const auto dense = makeSession(engine);
  const auto base = decoded(*dense, ids, 30);
  for (const std::string& method : methods()) {
    const auto session = makeSession(engine, sparse(method, 0));
    EXPECT(session->effective()->asRequested(), method);
    EXPECT(decoded(*session, ids, 30) == base, method);
    EXPECT_EQ(session->logitsHash(), dense->logitsHash());
    EXPECT_EQ(sparseUse(*session).steps, int64_t{0});
    // Thresholds that are next to nothing: the same sums by other roads. TDA's is the least that whole windows made of a neuron, and a short prompt makes less of some.
    if (method == "tda") continue;
    session->request(sparse(method, 1e-6));
    const auto near = decoded(*session, ids, 30);
    EXPECT(sparseUse(*session).steps == 30, method, sparseUse(*session).steps);
    for (size_t i = 0; i < near.size(); ++i) EXPECT(relativeError(base[i], near[i]) < 2e-3, method, i, relativeError(base[i], near[i]));
  }
}

TEST(prompts_are_computed_whole_and_more_left_out_diverges_more) {
  const auto engine = openEngine(kStories);
  const auto ids = otherStory(*engine, 160);
  const auto dense = makeSession(engine);
  const auto base = decoded(*dense, ids, 60);
  const std::vector<float> prompt = logitsAfter(*dense, std::span(ids).first(60));
  for (const std::string& method : methods()) {
    double last = 0;
    for (const double asked : {0.1, 0.3, 0.5, 0.7, 0.9}) {
      const auto session = makeSession(engine, sparse(method, asked));
      EXPECT(logitsAfter(*session, std::span(ids).first(60)) == prompt, method);
      const double now = divergence(*session, base, decoded(*session, ids, 60));
      EXPECT(now > last * 0.98, method, asked, now, last);  // 2 % for chance
      last = now;
      const SparseUse& use = sparseUse(*session);
      EXPECT_EQ(use.steps, int64_t{100});
      const bool inputs = findActivationMethod(method)->place == SparsePlace::inputs;
      // Texts of one kind, and a model that is still itself. GRIFFIN keeps an exact share; TDA's prompt is shorter than the windows it was calibrated on.
      if (asked > 0.5) {
        EXPECT(use.bytes > 0 && session->weightBytesPerToken() < dense->weightBytesPerToken(), method);  // below, the padding of 64 values to 128 outweighs it
        continue;
      }
      EXPECT_NEAR(share(use, inputs ? kDown : SparseUse::kNeurons), asked, method == "griffin" ? 0.01 : method == "tda" ? 0.15 : 0.08);
      if (inputs)
        for (size_t place = 0; place <= kDown; ++place) EXPECT_NEAR(share(use, place), asked, 0.1);
    }
    EXPECT(last > 1e-3, method, last);
  }
}

TEST(another_share_acts_at_the_next_token_and_goes_back) {
  const auto engine = openEngine(kStories);
  const auto ids = otherStory(*engine, 50);
  for (const std::string& method : methods()) {
    const auto session = makeSession(engine, sparse(method, 0.5));
    const auto first = decoded(*session, ids, 40);
    session->reset();
    ok(session->prefill(std::span(ids).first(40), {}));
    ok(session->step(ids[40]));
    EXPECT(std::equal(first[0].begin(), first[0].end(), session->logits().begin()), method);
    session->request(sparse(method, 0.8));
    EXPECT(!session->pending(), method);  // nothing is prepared anew
    ok(session->step(ids[41]));
    EXPECT(!std::equal(first[1].begin(), first[1].end(), session->logits().begin()), method);
    EXPECT_EQ(sparseUse(*session).steps, int64_t{1});
    bool told = false;
    for (const EngineEvent& event : session->takeEvents()) told |= event.kind == EngineEvent::Kind::epoch && event.token == 41;
    EXPECT(told, method);
    session->request(sparse(method, 0.5));
    EXPECT(decoded(*session, ids, 40) == first, method);
  }
}

TEST(a_method_chosen_in_the_middle_acts_when_it_is_prepared) {
  const auto engine = openEngine(kStories);
  const auto ids = otherStory(*engine, 60);
  const auto session = makeSession(engine);
  ok(session->prefill(std::span(ids).first(40), {}));
  session->request(sparse("teal", 0.6));
  ok(session->finishPending({}));
  EXPECT_EQ(session->effective()->config.text("activation.method"), std::string("teal"));
  ok(session->step(ids[40]));
  EXPECT_EQ(sparseUse(*session).steps, int64_t{1});
  // The prompt was not watched: it has to be seen again.
  session->request(sparse("griffin", 0.6));
  ok(session->finishPending({}));
  session->takeEvents();
  ok(session->step(ids[41]));
  EXPECT_EQ(sparseUse(*session).steps, int64_t{0});
  const auto events = session->takeEvents();
  EXPECT_EQ(std::ranges::count_if(events, [](const EngineEvent& e) { return e.code == "activation.whole"; }), std::ptrdiff_t{1});
  ok(session->rebuildCache({}));
  ok(session->step(ids[42]));
  EXPECT_EQ(sparseUse(*session).steps, int64_t{1});
  session->request(Config());
  ok(session->finishPending({}));
  ok(session->step(ids[43]));
  const auto dense = makeSession(engine);
  EXPECT(logitsAfter(*session, ids) == logitsAfter(*dense, ids));
}

TEST(what_a_prompt_chose_stays_until_another_comes) {
  const auto engine = openEngine(kStories);
  const auto ids = otherStory(*engine, 200);
  const auto session = makeSession(engine, sparse("griffin", 0.5)), same = makeSession(engine, sparse("griffin", 0.5));
  // Too short: whole, which is said once.
  const auto dense = makeSession(engine);
  EXPECT(decoded(*session, std::span(ids).first(20), 8) == decoded(*dense, std::span(ids).first(20), 8));
  const auto events = session->takeEvents();
  EXPECT_EQ(std::ranges::count_if(events, [](const EngineEvent& e) { return e.code == "activation.whole"; }), std::ptrdiff_t{1});
  // Decoded tokens change nothing: with the second half prefilled instead, another set is chosen.
  decoded(*session, std::span(ids).first(120), 60);
  decoded(*same, std::span(ids).first(120), 120);
  ok(session->step(ids[120]));
  ok(same->step(ids[120]));
  EXPECT(!std::equal(session->logits().begin(), session->logits().end(), same->logits().begin()));
  EXPECT_EQ(session->rewind(30), int64_t{0});  // what the prompt did can't be taken back
  const auto teal = makeSession(engine, sparse("teal", 0.5));
  ok(teal->prefill(std::span(ids).first(60), {}));
  EXPECT_EQ(teal->rewind(30), int64_t{30});
}

TEST(neurons_of_narrowed_feed_forwards_are_chosen_anew) {
  const auto engine = openEngine(kStories);
  const auto ids = otherStory(*engine, 100);
  for (const std::string& method : methods()) {
    const Settings narrow = {{"prune.width", "0.4"}};
    const auto session = makeSession(engine, sparse(method, 0.6, narrow)), whole = makeSession(engine, sparse(method, 0.6));
    const auto expected = decoded(*session, ids, 50);
    const SparseUse used = sparseUse(*session);
    const size_t place = findActivationMethod(method)->place == SparsePlace::inputs ? kDown : SparseUse::kNeurons;
    for (size_t layer = 0; layer < used.layers.size(); ++layer)  // of the neurons that are left
      EXPECT_EQ(used.layers[layer][place].of, int64_t{50} * session->ffnWidth(static_cast<int>(layer)));
    // Narrowed in the middle: neurons are others than the prompt was seen to use, so it has to be seen again.
    decoded(*whole, ids, 50);
    whole->request(sparse(method, 0.6, narrow));
    ok(whole->finishPending({}));
    ok(whole->step(ids[50]));
    EXPECT_EQ(sparseUse(*whole).steps, findActivationMethod(method)->place == SparsePlace::prompt ? int64_t{0} : int64_t{1});
    EXPECT(decoded(*whole, ids, 50) == expected, method);
  }
}

TEST(sequences_together_skip_as_alone) {
  const auto engine = openEngine(kStories);
  const auto ids = otherStory(*engine, 120);
  for (const std::string& method : methods()) {
    std::vector<std::unique_ptr<Session>> alone, together;
    std::vector<Session*> pointers;
    for (const size_t prompt : {20u, 5u, 33u}) {
      for (auto* list : {&alone, &together}) {
        list->push_back(makeSession(engine, sparse(method, 0.5)));
        ok(list->back()->prefill(std::span(ids).first(prompt), {}));
      }
      pointers.push_back(together.back().get());
    }
    for (int step = 0; step < 5; ++step) {
      const std::vector<int32_t> next(3, ids[60 + static_cast<size_t>(step)]);
      ok(Session::stepTogether(pointers, next));
      for (size_t i = 0; i < alone.size(); ++i) {
        ok(alone[i]->step(next[i]));
        EXPECT(std::ranges::equal(alone[i]->logits(), together[i]->logits()), method, i, step);
      }
    }
  }
}

TEST(quantized_models_skip_too) {
  const auto engine = openEngine(kStories);
  const auto ids = otherStory(*engine, 100);
  for (const Settings& beside : {Settings{{"weights.bits", "4"}}, Settings{{"weights.bits", "3"}, {"compute.activations", "int8"}}, Settings{{"weights.bits", "4"}, {"weights.error_rank", "8"}},
                                 Settings{{"prune.ratio", "0.3"}, {"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}, Settings{{"prune.layers", "1"}, {"weights.format", "nf4"}},
                                 Settings{{"prune.width", "0.3"}, {"weights.bits", "4"}}, Settings{{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}, {"share.align", "true"}, {"share.refit", "true"}}}) {
    Config plain = configure(beside).with("calibration.text", calibrationStories()).with("calibration.tokens", int64_t{1024});
    const auto base = makeSession(engine, plain);
    const auto whole = decoded(*base, ids, 50);
    for (const std::string& method : methods()) {
      const auto session = makeSession(engine, sparse(method, 1e-6, beside));
      const double nothing = divergence(*session, whole, decoded(*session, ids, 50));
      EXPECT(nothing < (method == "tda" ? 0.1 : 1e-3), method, beside[0].first, beside[0].second, nothing);
      session->request(sparse(method, 0.5, beside));
      const double half = divergence(*session, whole, decoded(*session, ids, 50));
      EXPECT(half > nothing && half < 3, method, half, nothing);
    }
  }
}

TEST(memory_and_bytes_are_what_is_taken_and_read) {
  const auto engine = openEngine(kStories);
  const auto ids = otherStory(*engine, 60);
  const auto dense = makeSession(engine);
  for (const std::string& method : methods()) {
    const Config config = sparse(method, 0.5);
    SessionOptions options;
    options.context = 256;
    const int64_t planned = bytes(value(engine->plan(config, options, 60)), MemoryTag::weights);
    const auto session = makeSession(engine, config, options);
    EXPECT_EQ(planned, bytes(session->memory(), MemoryTag::weights));
    EXPECT(planned > bytes(dense->memory(), MemoryTag::weights), method);
    ok(session->prefill(std::span(ids).first(40), {}));
    ok(dense->prefill(std::span(ids).first(40), {}));
    for (Session* each : {session.get(), dense.get()}) {
      each->observeOps(true);
      ok(each->step(ids[40]));
    }
    const auto sum = [](std::span<const OpTime> times) { return std::accumulate(times.begin(), times.end(), int64_t{0}, [](int64_t s, const OpTime& t) { return s + t.bytes; }); };
    EXPECT_EQ(sum(dense->opTimes()) - sum(session->opTimes()), sparseUse(*session).bytes);
    dense->reset();
    dense->observeOps(false);
  }
}

TEST(what_cannot_be_done_says_why) {
  const auto engine = openEngine(kStories);
  SessionOptions options;
  options.context = 64;
  const auto failure = [&](const Config& config) {
    const auto made = engine->createSession(config, options, {});
    EXPECT(!made);
    return made ? std::string() : made.error().message;
  };
  const std::string tiny = written("tiny.txt", "Once.");
  EXPECT(failure(sparse("teal", 0.5).with("calibration.text", tiny)).find("at least 32 are needed") != std::string::npos);
  EXPECT(failure(sparse("cats", 0.5).with("calibration.text", std::string("/nowhere.txt"))).find("/nowhere.txt") != std::string::npos);
  Progress stopped;
  std::stop_source stop;
  stop.request_stop();
  stopped.stop = stop.get_token();
  const auto cancelled = engine->createSession(sparse("teal", 0.5), options, stopped);
  EXPECT(!cancelled && cancelled.error().code == ErrorCode::cancelled);

  // No gate: CATS is refused, the others work.
  const auto path = scratch() / "gpt2.gguf";
  writeRandomModel(familyConfig("gpt2"), DType::f32, path.string());
  EngineOptions cpuOnly;
  cpuOnly.device = "cpu";
  const auto gpt2 = value(Engine::create(value(Model::open(path.string())), cpuOnly));
  const Effective refused = gpt2->resolved(configure({{"activation.method", "cats"}}));
  EXPECT_EQ(refused.config.text("activation.method"), std::string("none"));
  EXPECT(refused.adjustments.size() == 1 && refused.adjustments[0].reason.find("gate") != std::string::npos);
  const auto ids = someTokens(40, 607);
  const auto dense = makeSession(gpt2), griffin = makeSession(gpt2, configure({{"activation.method", "griffin"}, {"activation.sparsity", "0.001"}}));
  const auto base = decoded(*dense, ids, 30), got = decoded(*griffin, ids, 30);
  EXPECT_EQ(sparseUse(*griffin).steps, int64_t{10});
  for (size_t i = 0; i < base.size(); ++i) EXPECT(relativeError(base[i], got[i]) < 1e-4, i, relativeError(base[i], got[i]));
}

TEST(evaluation_steps_by_itself) {
  PerplexityRequest request;
  EXPECT(!scoresStepwise(request, Config()));
  EXPECT(scoresStepwise(request, configure({{"activation.method", "teal"}})));
  request.stepwise = false;
  EXPECT(!scoresStepwise(request, configure({{"activation.method", "teal"}})));
}
