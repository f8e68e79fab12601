// SPDX-License-Identifier: GPL-3.0-or-later
// SliceGPT: a stream that is turned and not sliced computes as before, what leaves it is what its least directions held, and everything that is made of
// weights goes on from the sliced ones (pruning_sharing_attribution.md, D8).
#include "engine/prune/slice.h"

#include <numeric>

#include "engine/cache/kv_cache.h"
#include "engine/run/core.h"
#include "engine/run/host_weights.h"
#include "engine/weights/export.h"
#include "engine/weights/report.h"
#include "engine/weights/symmetric_eigen.h"
#include "tests/support/compression_meter.h"
#include "tests/support/random_model.h"

using namespace winnow;
using namespace winnow::test;

namespace {

std::vector<double> randomSquare(int n, int rank, uint32_t seed) {  // the Gram matrix of so many rows
  const auto size = static_cast<size_t>(n);
  std::vector<double> rows(static_cast<size_t>(rank) * size), out(size * size);
  for (double& value : rows) value = static_cast<double>((seed = seed * 1664525u + 1013904223u) >> 8) / 8388608.0 - 1;
  for (size_t r = 0; r < static_cast<size_t>(rank); ++r)
    for (size_t i = 0; i < size; ++i)
      for (size_t j = 0; j < size; ++j) out[i * size + j] += rows[r * size + i] * rows[r * size + j] * static_cast<double>(r + 1);
  return out;
}

// The stream's energy along each direction, of passes of the engine itself.
class StreamEnergies final : public LinearInputTap {
 public:
  std::vector<std::vector<double>> sums;  // [points, width]
  explicit StreamEnergies(int points) : sums(static_cast<size_t>(points)) {}
  void take(int, LinearInput, const float*, int64_t, int, int) override {}
  void takeStream(int point, const float* x, int cols, int tokens) override {
    auto& sum = sums[static_cast<size_t>(point)];
    sum.resize(static_cast<size_t>(cols));
    for (int t = 0; t < tokens; ++t)
      for (int c = 0; c < cols; ++c) sum[static_cast<size_t>(c)] += double{x[t * cols + c]} * double{x[t * cols + c]};
  }
};

struct Sliced {
  EngineCore& core;
  ThreadPool pool{2};
  WeightTarget target;
  std::shared_ptr<const WeightSet> set;
  Bases bases;

  Sliced(const CompressionMeter& meter, double removed) : core(EngineCore::of(*meter.engine())) {
    target = core.targetOf(resolve(meter.with({{"prune.slice", "0.25"}}), core.model->config()).config);
    target.slice->removed = removed;
    target.key = target.slice->key();
    set = value(core.store.build(target, pool, core.measurements(), {}));
    bases = value(core.streamBases(*target.slice, {}));
  }
  std::vector<float> logits(const WeightSet& weights, const std::vector<int32_t>& tokens) {
    const ModelConfig& shape = core.model->config();
    const Plan plan = buildPlan(shape, noSharing(shape.layers), weights.parts, weights.sliceWidth > 0);
    const auto backend = core.device->makeBackend(core.ledger, pool, {64, 64, 0});
    const auto cache = backend->makeCache(64);
    cache->reserve(static_cast<int>(tokens.size()));
    const SequenceRows rows{cache.get(), 0, static_cast<int>(tokens.size())};
    backend->run({plan, weights, {&rows, 1}, tokens, Activations::f32, true});
    const auto found = backend->logits();
    return {found.begin(), found.end()};
  }
};

int64_t weightBytes(const Session& session) { return bytes(session.memory(), MemoryTag::weights) + bytes(session.memory(), MemoryTag::weightsMapped); }

}  // namespace

TEST(eigenvectors_are_orthonormal_and_diagonalize) {
  ThreadPool one(1), three(3);
  for (const auto& [n, rank] : {std::pair{1, 1}, {2, 2}, {3, 3}, {40, 40}, {64, 64}, {65, 20}, {66, 66}, {130, 150}, {200, 7}}) {
    const auto a = randomSquare(n, rank, static_cast<uint32_t>(n));
    const Eigen eigen = largeSymmetricEigen(a, n, one, {}), again = largeSymmetricEigen(a, n, three, {});
    EXPECT(eigen.values == again.values && eigen.vectors == again.vectors, n);
    const auto at = [&](int i, int c) { return eigen.vectors[static_cast<size_t>(i) * static_cast<size_t>(n) + static_cast<size_t>(c)]; };
    double orthonormal = 0, residual = 0;
    for (int i = 0; i < n; ++i) {
      EXPECT(i == 0 || eigen.values[static_cast<size_t>(i)] <= eigen.values[static_cast<size_t>(i - 1)], n, i);
      for (int j = 0; j < n; ++j) {
        double along = 0, turned = 0;
        for (int c = 0; c < n; ++c) along += at(i, c) * at(j, c), turned += a[static_cast<size_t>(j) * static_cast<size_t>(n) + static_cast<size_t>(c)] * at(i, c);
        orthonormal = std::max(orthonormal, std::fabs(along - (i == j)));
        residual = std::max(residual, std::fabs(turned - eigen.values[static_cast<size_t>(i)] * at(i, j)));
      }
    }
    EXPECT(orthonormal < 1e-10 && residual < 1e-12 * eigen.values[0], n, rank, orthonormal, residual);
    const Eigen jacobi = symmetricEigen(a, n);  // an algorithm of its own
    for (int i = 0; i < n; ++i) EXPECT_NEAR(eigen.values[static_cast<size_t>(i)], jacobi.values[static_cast<size_t>(i)], 1e-12 * jacobi.values[0]);
  }
  const Eigen zero = largeSymmetricEigen(std::vector<double>(70 * 70), 70, one, {});
  EXPECT(zero.values == std::vector<double>(70) && zero.vectors[0] + zero.vectors[1] == 1);
}

TEST(widths_are_multiples) {
  EXPECT_EQ(slicedWidth(64, 0.25), 48);
  EXPECT_EQ(slicedWidth(64, 0.01), 56);  // something goes
  EXPECT_EQ(slicedWidth(64, 0), 64);
  EXPECT_EQ(slicedWidth(2048, 0.3), 1440);
  EXPECT_EQ(slicedWidth(896, 0.5), 448);
  EXPECT_EQ(slicedWidth(100, 0.01), 96);
  ModelConfig narrow;
  narrow.hidden = 8;
  EXPECT(cannotSlice(narrow).has_value());
}

TEST(a_plan_has_a_shortcut_before_what_is_added) {
  ModelConfig model;
  model.layers = 2;
  model.heads = 1;
  const Plan plan = buildPlan(model, noSharing(2), {}, true);
  EXPECT_EQ(plan.ops.size(), size_t{2 + 2 * 7});
  for (size_t i = 1; i < plan.ops.size(); ++i) {
    if (plan.ops[i].kind != OpKind::linear) continue;
    const Op& before = plan.ops[i - 1];
    EXPECT(before.kind == OpKind::shortcut && before.layer == plan.ops[i].layer && before.down == plan.ops[i].down, i);
  }
  EXPECT(plan.print().find("layer 1  shortcut down") != std::string::npos, plan.print());
}

TEST(turning_alone_changes_nothing) {
  for (const char* file : {kStories, kSmallLlama}) {
    const CompressionMeter meter(file, 1, "512");
    Sliced sliced(meter, 0);
    EXPECT_EQ(sliced.bases->width(), sliced.core.model->config().hidden);
    const auto dense = value(sliced.core.store.build(sliced.core.targetOf(Config()), sliced.pool, {}, {}));
    const auto tokens = someTokens(40, sliced.core.model->config().vocab);
    const double error = relativeError(sliced.logits(*dense, tokens), sliced.logits(*sliced.set, tokens));
    EXPECT(error < 1e-4, file, error);
  }
}

// Of the text that was measured, in passes of the engine: every direction holds its eigenvalue, so that the statistics are those of the sliced model.
TEST(every_direction_holds_its_eigenvalue) {
  const CompressionMeter meter(kStories, 1, "512");
  Sliced sliced(meter, 0.25);
  const StreamBases& bases = *sliced.bases;
  StreamEnergies found(bases.points());
  const auto tokens = value(sliced.core.calibrationTokens(sliced.target.slice->calibration));
  ok(sliced.core.observe(sliced.target, sliced.core.measurements(), tokens.ids, tokens.window, sliced.pool, found, {}));
  for (int point = 0; point < bases.points(); ++point) {
    const auto energies = bases.energies(point);
    const double all = std::accumulate(energies.begin(), energies.end(), 0.0), gone = std::accumulate(energies.begin() + bases.width(), energies.end(), 0.0);
    EXPECT(gone > 0 && gone < 0.5 * all, point, gone / all);
    EXPECT_NEAR(bases.lost(point), gone, 1e-4 * gone);
    for (size_t i = 0; i < static_cast<size_t>(bases.width()); ++i) EXPECT_NEAR(found.sums[static_cast<size_t>(point)][i], energies[i], 1e-3 * energies[i] + 1e-7 * all);
    for (int i = 0; i < bases.width(); ++i)
      for (int j = 0; j <= i; ++j) {
        double along = 0;
        for (int c = 0; c < bases.hidden(); ++c) along += double{bases.directions(point)[i * bases.hidden() + c]} * double{bases.directions(point)[j * bases.hidden() + c]};
        EXPECT_NEAR(along, i == j ? 1.0 : 0.0, 1e-6);
      }
  }
}

TEST(a_shortcut_between_equal_directions_is_the_identity) {
  const CompressionMeter meter(kStories, 1, "512");
  Sliced sliced(meter, 0.25);
  const StreamBases& bases = *sliced.bases;
  const auto differing = SlicedTensor::shortcut(bases, 0, sliced.pool);
  std::copy_n(bases.directions(0), bases.width() * bases.hidden(), const_cast<float*>(bases.directions(1)));
  const auto repeated = SlicedTensor::shortcut(bases, 0, sliced.pool);
  double off = 0, other = 0;
  std::vector<float> row(static_cast<size_t>(bases.width())), first = row;
  for (int r = 0; r < bases.width(); ++r) {
    Model::decodeRows(repeated->tensor(), r, 1, row.data());
    Model::decodeRows(differing->tensor(), r, 1, first.data());
    for (int c = 0; c < bases.width(); ++c) {
      off = std::max(off, std::fabs(double{row[static_cast<size_t>(c)]} - (r == c)));
      other = std::max(other, std::fabs(double{first[static_cast<size_t>(c)]} - (r == c)));
    }
  }
  EXPECT(off < 1e-6 && other > 0.1, off, other);
}

TEST(quality_falls_with_the_share) {
  const CompressionMeter meter(kStories, 3);
  double before = 0;
  for (const char* share : {"0.25", "0.5"}) {
    const double now = meter({{"prune.slice", share}});
    EXPECT(now > before, share, now, before);
    before = now;
  }
  const CompressionMeter wide(kSmallLlama, 3);
  EXPECT(wide({{"prune.slice", "0.5"}}) > wide({{"prune.slice", "0.1"}}));
}

TEST(a_sliced_model_costs_what_the_plan_says) {
  const CompressionMeter meter(kStories, 1, "512");
  const auto dense = makeSession(meter.engine(), meter.with({}));
  const auto tokens = someTokens(100, dense->vocab());
  for (const char* bits : {"16", "4"}) {
    const Config config = meter.with({{"prune.slice", "0.25"}, {"weights.bits", bits}});
    const auto session = makeSession(meter.engine(), config);
    EXPECT(session->effective()->asRequested() && session->streamWidth() == 48, bits);
    const auto prefilled = logitsAfter(*session, tokens);
    EXPECT(std::isfinite(prefilled[0]));
    const MemoryByTag planned = value(meter.engine()->plan(config, {.context = 256}, 100)), used = session->memory();
    for (const MemoryTag tag : {MemoryTag::weights, MemoryTag::weightsMapped, MemoryTag::kv, MemoryTag::activations, MemoryTag::calibration})
      EXPECT(std::fabs(static_cast<double>(bytes(planned, tag) - bytes(used, tag))) <= (tag == MemoryTag::activations ? 65536 : 0), bits, memoryTagName(tag), bytes(planned, tag), bytes(used, tag));
    session->reset();
    for (const int32_t id : tokens) ok(session->step(id));
    EXPECT(relativeError(session->logits(), prefilled) < 4e-3, bits);
    session->observeOps(true);
    ok(session->step(3));
    int64_t shortcuts = 0, matrices = 0;
    for (const OpTime& time : session->opTimes()) {
      const OpKind kind = session->plan().ops[static_cast<size_t>(time.op)].kind;
      if (kind == OpKind::shortcut) {
        shortcuts += time.bytes;
        EXPECT(time.flops == 2 * 48 * 48 && time.ns > 0, time.ns);
      }
      if (kind != OpKind::attend && kind != OpKind::embed) matrices += time.bytes;
    }
    EXPECT_EQ(shortcuts, int64_t{2 * 5 * 48 * 48 * 4});
    EXPECT(matrices <= session->weightBytesPerToken() && matrices > session->weightBytesPerToken() * 9 / 10, matrices, session->weightBytesPerToken());
  }
}

TEST(the_stream_is_sliced_and_made_whole_between_tokens) {
  const CompressionMeter meter(kStories, 1, "512");
  const auto session = makeSession(meter.engine(), meter.with({}));
  const auto tokens = someTokens(40, session->vocab());
  const auto whole = logitsAfter(*session, tokens);
  const int64_t before = weightBytes(*session);
  const auto change = [&](const Settings& settings) {
    session->request(meter.with(settings));
    ok(session->finishPending({}));
    EXPECT(session->effective()->asRequested());
    ok(session->step(5));
  };
  change({{"prune.slice", "0.25"}});
  EXPECT(session->cacheMixed() && session->streamWidth() == 48 && session->plan().shortcuts);
  const auto sliced = logitsAfter(*session, tokens);
  change({{"prune.slice", "0.5"}, {"weights.bits", "4"}});
  EXPECT_EQ(session->streamWidth(), 32);
  change({{"prune.slice", "0.25"}});
  EXPECT(logitsAfter(*session, tokens) == sliced);
  change({});
  EXPECT(!session->plan().shortcuts && session->streamWidth() == 64 && weightBytes(*session) == before);
  EXPECT(logitsAfter(*session, tokens) == whole);
}

TEST(sliced_weights_do_not_depend_on_threads) {
  const CompressionMeter meter(kStories, 1, "512");
  std::vector<float> first;
  for (const int threads : {1, 3}) {
    const auto engine = openEngine(kStories, threads);
    const auto session = makeSession(engine, meter.with({{"prune.slice", "0.25"}}), {.context = 128});
    const auto logits = logitsAfter(*session, someTokens(20, engine->model().config().vocab));
    if (first.empty()) first = logits;
    EXPECT(logits == first, threads);
  }
}

// Statistics are of the sliced model: methods that correct weights by them lose less than those that look at nothing.
TEST(everything_goes_on_from_sliced_weights) {
  const CompressionMeter meter(kStories, 2, "1024");
  const double alone = meter({{"prune.slice", "0.25"}});
  std::map<std::string, double> lost;
  for (const char* method : {"rtn", "gptq", "awq", "smoothquant", "aser"}) {
    const auto session = makeSession(meter.engine(), meter.with({{"prune.slice", "0.25"}, {"weights.bits", "4"}, {"weights.method", method}}), {.context = 128});
    EXPECT(session->effective()->asRequested() && session->streamWidth() == 48, method);
    lost[method] = meter({{"prune.slice", "0.25"}, {"weights.bits", "3"}, {"weights.method", method}});
    EXPECT(lost[method] < alone + 3, method, lost[method], alone);
  }
  EXPECT(lost["gptq"] < lost["rtn"] && lost["aser"] < lost["rtn"], lost["gptq"], lost["aser"], lost["rtn"]);
  for (const char* method : {"magnitude", "wanda", "sparsegpt", "sds"}) lost[method] = meter({{"prune.slice", "0.25"}, {"prune.ratio", "0.5"}, {"prune.method", method}});
  EXPECT(lost["sparsegpt"] < lost["magnitude"] && lost["sparsegpt"] > alone, lost["sparsegpt"], lost["magnitude"], alone);
  EXPECT(meter({{"prune.slice", "0.25"}, {"prune.ratio", "0.5"}, {"prune.recovery", "least-squares"}}) < lost["magnitude"]);
}

TEST(files_of_codes_are_sliced_in_16_bits) {
  const auto engine = openEngine("models/random-llama-256-Q4_0.gguf");
  const std::string text = sharedData("corpora/tinystories_60k.txt");
  const auto session = makeSession(engine, configure({{"prune.slice", "0.2"}, {"calibration.text", text.c_str()}, {"calibration.tokens", "512"}}), {.context = 64});
  const auto tokens = someTokens(30, session->vocab());
  const auto prefilled = logitsAfter(*session, tokens);
  EXPECT(session->streamWidth() == 208 && std::isfinite(prefilled[0]));
  session->reset();
  for (const int32_t id : tokens) ok(session->step(id));
  EXPECT(relativeError(session->logits(), prefilled) < 4e-3);
}

TEST(a_report_holds_sliced_weights_against_sliced_masters) {
  const CompressionMeter meter(kStories, 1, "512");
  ThreadPool pool(2);
  const auto report = [&](const char* bits) {
    const HostWeights weights = value(hostWeights(*meter.engine(), meter.with({{"prune.slice", "0.25"}, {"weights.bits", bits}, {"weights.method", std::string_view(bits) == "16" ? "none" : "gptq"}}), pool, {}));
    return value(reportWeights(*weights.set, weights.calibration.get(), pool, {}));
  };
  for (const TensorReport& row : report("16").tensors) EXPECT(row.exact() && (row.cols == 48 || row.rows == 48), row.name);
  for (const TensorReport& row : report("4").tensors)
    if (row.role == TensorRole::attnShortcut || row.role == TensorRole::ffnShortcut)
      EXPECT(row.exact(), row.name, row.sqnr());  // f32, as the file
    else
      EXPECT(row.sqnr() > 12 && row.sqnr() < 40, row.name, row.sqnr());
}

namespace {

// The report adds up to what the set takes; each matrix that the stream has of its own is in it, and has values to count.
void namesWhatIsAdded(const WeightSet& set, ThreadPool& pool) {
  const WeightReport report = value(reportWeights(set, nullptr, pool, {}));
  const std::vector<MasterTensor>& tensors = set.model->tensors();
  const int layers = set.model->config().layers;
  int64_t vectors = 0;
  for (size_t i = 0; i < tensors.size(); ++i)
    if (!isMatrix(tensors[i].role)) vectors += static_cast<int64_t>(set.versions[i]->matrix.bytes());
  const MemoryByTag memory = set.memory(buildPlan(set.model->config(), noSharing(layers), set.parts, true));
  EXPECT_EQ(report.bytes + vectors, bytes(memory, MemoryTag::weights) + bytes(memory, MemoryTag::weightsMapped));
  EXPECT_EQ(set.added.size(), static_cast<size_t>(2 * layers + set.model->config().tiedHead));
  for (size_t k = 0; k < set.added.size(); ++k) {
    const auto row = std::ranges::find(report.tensors, static_cast<int>(tensors.size() + k), &TensorReport::tensor);
    if (row == report.tensors.end()) throw std::runtime_error("no row of " + std::to_string(k));
    const bool head = static_cast<int>(k) == 2 * layers;
    EXPECT(row->role == (head ? TensorRole::head : k % 2 == 0 ? TensorRole::attnShortcut : TensorRole::ffnShortcut), row->name);
    EXPECT_EQ(row->layer, head ? -1 : static_cast<int>(k / 2));
    EXPECT_EQ(row->bytes, static_cast<int64_t>(set.added[k]->matrix.bytes()));
    EXPECT_EQ(row->cols, set.sliceWidth);
    EXPECT(head || (row->rows == set.sliceWidth && row->exact()), row->name, row->sqnr());  // f32, as the files
    EXPECT(!head || (row->rows == set.model->config().vocab && row->sqnr() > 12 && row->sqnr() < 40), row->sqnr());
    const auto histogram = value(weightHistogram(set, row->tensor, 10, pool, {}));
    EXPECT_EQ(std::accumulate(histogram.after.begin(), histogram.after.end(), int64_t{0}), int64_t{row->rows} * row->cols);
  }
}

}  // namespace

TEST(a_report_names_what_a_sliced_stream_adds) {
  const CompressionMeter meter(kStories, 1, "512");
  ThreadPool pool(2);
  namesWhatIsAdded(*value(hostWeights(*meter.engine(), meter.with({{"prune.slice", "0.25"}, {"weights.bits", "4"}}), pool, {})).set, pool);
}

TEST(a_report_names_the_head_of_a_tied_model) {
  const auto model = randomModel(familyConfig("llama-linear"));
  EXPECT(model->config().tiedHead);
  Ledger ledger;
  ThreadPool pool(2);
  const WeightTarget target = weightTarget(*model, resolve(configure({{"prune.slice", "0.25"}, {"weights.bits", "4"}}), model->config()).config, "");
  Measurements measurements;
  measurements.stream = [&](const SliceChoice& choice, const Progress& progress) {
    return measureStream(*model, slicedWidth(model->config().hidden, choice.removed), choice.key(), someTokens(256, model->config().vocab), 64, ledger, pool, progress);
  };
  namesWhatIsAdded(*value(WeightStore(model, ledger).build(target, pool, measurements, {})), pool);
}

TEST(what_cannot_be_sliced_says_why) {
  ModelConfig model;
  model.layers = 4;
  model.hidden = 64;
  model.ffn = 256;
  const auto refusal = [&](const Settings& settings, const char* knob) {
    const Effective effective = resolve(configure(settings), model);
    EXPECT(effective.adjustments.size() == 1 && effective.adjustments[0].knob == knob, knob, effective.adjustments.size());
    return effective;
  };
  EXPECT(resolve(configure({{"prune.slice", "0.25"}}), model).asRequested());
  for (const char* other : {"prune.layers", "prune.width"}) {
    const Settings settings = {{"prune.slice", "0.25"}, {other, std::string_view(other) == "prune.layers" ? "1" : "0.25"}};
    EXPECT(refusal(settings, "prune.slice").config.real("prune.slice") == 0, other);
  }
  EXPECT(refusal({{"prune.slice", "0.25"}, {"prune.ratio", "0.5"}, {"prune.method", "barber"}}, "prune.method").config.text("prune.method") == "wanda");
  EXPECT(refusal({{"prune.slice", "0.25"}, {"weights.super", "zero"}}, "weights.super").config.text("weights.super") == "off");
  EXPECT(refusal({{"prune.slice", "0.25"}, {"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}, {"share.align", "true"}}, "share.align").config.real("prune.slice") == 0.25);
  EXPECT(refusal({{"prune.slice", "0.25"}, {"activation.method", "cats"}}, "activation.method").config.real("prune.slice") == 0.25);
  model.norm = NormKind::layer;
  EXPECT(refusal({{"prune.slice", "0.25"}}, "prune.slice").adjustments[0].reason.find("RMSNorm") != std::string::npos);
  for (const char* bad : {"0.6", "-0.1", "nan", "half"}) EXPECT(!Config().parsed("prune.slice", bad).ok(), bad);

  const auto engine = openEngine(kStories, 1);
  const auto missing = engine->createSession(configure({{"prune.slice", "0.5"}, {"calibration.text", "no-such-file.txt"}}), {.context = 64}, {});
  EXPECT(!missing.ok() && missing.error().message.find("no-such-file.txt") != std::string::npos);
  const CompressionMeter meter(kStories, 1, "512");
  ThreadPool pool(1);
  const HostWeights weights = value(hostWeights(*meter.engine(), meter.with({{"prune.slice", "0.25"}}), pool, {}));
  const auto exported = exportGguf(*weights.set, weights.target, "test", (scratch() / "sliced.gguf").string(), pool, {});
  EXPECT(!exported.ok() && exported.error().hint.find("prune.slice") != std::string::npos);
}

TEST(a_text_that_chose_the_directions_is_no_evidence) {
  const auto engine = openEngine(kStories, 1);
  const std::string path = sharedData("corpora/tinystories_60k.txt"), text = readFile(path);
  const auto session = makeSession(engine, configure({{"prune.slice", "0.25"}, {"calibration.text", path.c_str()}, {"calibration.tokens", "512"}}), {.context = 128});
  PerplexityRequest request;
  request.context = 128;
  request.chunks = 1;
  EXPECT(!measurePerplexity(*session, nullptr, *engine->tokenizer(), text, request, {}).ok());
}

TEST(a_cancelled_change_leaves_the_stream) {
  const CompressionMeter meter(kStories, 1, "512");
  EngineCore& core = EngineCore::of(*meter.engine());
  ThreadPool pool(1);
  std::stop_source stop;
  stop.request_stop();
  const auto built = core.store.build(core.targetOf(resolve(meter.with({{"prune.slice", "0.5"}}), core.model->config()).config), pool, core.measurements(), Progress{{}, stop.get_token()});
  EXPECT(!built.ok() && built.error().code == ErrorCode::cancelled);
}
