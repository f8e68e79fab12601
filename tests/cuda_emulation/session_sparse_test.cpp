// SPDX-License-Identifier: GPL-3.0-or-later
// activation.method in whole sessions on the device, against the CPU. An entry that lies next to a threshold may be out on one of the two alone, and moves
// others behind it: one of the fifty sessions here, when they were written. Where what was left out is counted alike to the entry, logits are within the bound; that is asked
// of three sessions in four, and of the others that their counts differ by 1 % at most.
#include "engine/sparsify/method.h"
#include "engine/sparsify/use.h"
#include "tests/cuda_emulation/calibration_text.h"
#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

namespace {

std::vector<const char*> methods(const ModelConfig& model) {
  std::vector<const char*> names;
  for (const ActivationMethod& method : activationMethods())
    if (method.place != SparsePlace::gate || model.gatedFfn) names.push_back(method.name.c_str());
  return names;
}

Settings sparse(const char* method, const char* share, Settings more = {}) {
  more.insert(more.begin(), {{"activation.method", method}, {"activation.sparsity", share}, {"calibration.text", calibrationText()}, {"calibration.tokens", "256"}});
  return more;
}

SessionOptions sizes() {
  SessionOptions options;
  options.context = 64;
  options.maxBatch = 12;
  return options;
}

struct Agreement {
  int sessions = 0, alike = 0;
  ~Agreement() { EXPECT(4 * alike >= 3 * sessions, alike, sessions); }

  // Of what was decoded, `distance` apart at most; something was left out, where that was asked for.
  void add(const Both& both, double distance, const std::string& where, bool asked = true) {
    const SparseUse &a = sparseUse(*both.cpu), &b = sparseUse(*both.gpu);
    EXPECT(a.steps == b.steps && (b.steps > 0) == asked && a.layers.size() == b.layers.size(), where, a.steps, b.steps);
    SparseCount all;
    int64_t apart = 0;
    for (size_t layer = 0; layer < a.layers.size(); ++layer)
      for (size_t place = 0; place < a.layers[layer].size(); ++place) {
        const SparseCount &x = a.layers[layer][place], &y = b.layers[layer][place];
        EXPECT(x.of == y.of, where, layer, place);
        apart += std::abs(x.kept - y.kept);
        all.kept += y.kept;
        all.of += y.of;
      }
    if (asked) EXPECT(all.kept > 0 && all.kept < all.of, where);
    EXPECT(100 * apart <= all.of, where, apart, all.of);
    ++sessions;
    if (apart > 0) return;
    ++alike;
    EXPECT(a.bytes == b.bytes && distance <= kBound, where, a.bytes, b.bytes, distance);
  }
};

}  // namespace

TEST(every_method_leaves_out_what_the_cpu_does) {
  Agreement agreement;
  for (const char* family : {"llama3", "gpt2", "qwen3", "mistral"})
    for (const char* method : methods(openFamily(family)->config())) {
      Both both(family, sparse(method, "0.5"));
      EXPECT(both.gpu->effective()->asRequested(), family, method);
      EXPECT(both.prompt(24) <= kBound, family, method);
      agreement.add(both, both.steps(6), std::string(family) + " " + method);
    }
}

TEST(every_format_is_read_by_channel) {
  Agreement agreement;
  for (const Settings& format : {Settings{{"weights.bits", "8"}}, Settings{{"weights.bits", "4"}}, Settings{{"weights.bits", "3"}, {"weights.symmetric", "false"}, {"weights.group", "64"}},
                                 Settings{{"weights.format", "nf4"}}, Settings{{"weights.format", "fp8-e4m3"}}, Settings{{"weights.format", "mxfp4"}},
                                 Settings{{"weights.bits", "4"}, {"weights.error_rank", "5"}}, Settings{{"prune.width", "0.3"}}})
    for (const char* method : {"cats", "teal", "griffin"}) {
      Settings beside = format;
      beside.insert(beside.begin(), {"compute.activations", "f32"});  // rounding to 16 bits moves thresholds
      Both both("llama3", sparse(method, "0.4", beside));
      EXPECT(both.prompt(20) <= kBound, method);
      agreement.add(both, both.steps(3), std::string(method) + " " + format.back().first + " " + format.back().second);
    }
}

TEST(sharing_and_dropped_layers_leave_out_too) {
  Agreement agreement;
  for (const Settings& more : {Settings{{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}, Settings{{"prune.layers", "1"}}})
    for (const char* method : {"cats", "teal", "tda"}) {
      Both both("llama3", sparse(method, "0.5", more));
      EXPECT(both.prompt(24) <= kBound, method);
      agreement.add(both, both.steps(4), std::string(method) + " " + more[0].first);
    }
}

TEST(int8_activations_of_what_takes_part) {
  for (const char* method : {"cats", "griffin"}) {
    Both both("llama3", sparse(method, "0.4", {{"weights.bits", "4"}, {"compute.activations", "int8"}}));
    const double prompt = both.prompt(24), decode = both.steps(5);
    EXPECT(prompt <= kInt8Bound && decode <= kInt8Bound, method, prompt, decode);
  }
}

TEST(nothing_left_out_is_the_dense_model_to_the_bit) {
  const auto engine = engineOn("cuda", openFamily("llama3"));
  const auto hashOf = [&](const Settings& settings) {
    const auto session = value(engine->createSession(configure(settings), sizes(), {}));
    ok(session->prefill(someTokens(24, 64), {}));
    generate(*session, 10);
    return session->logitsHash();
  };
  const uint64_t dense = hashOf({});
  for (const char* method : methods(engine->model().config())) {
    EXPECT(hashOf(sparse(method, "0")) == dense, method);
    EXPECT(hashOf(sparse(method, "0.5")) != dense, method);
  }
}

TEST(a_share_acts_at_the_next_token) {
  Agreement agreement;
  Both both("llama3", sparse("teal", "0.3"));
  EXPECT(both.prompt(24) <= kBound);
  for (const auto& [method, share] : {std::pair("teal", "0.3"), std::pair("teal", "0.7"), std::pair("teal", "0"), std::pair("cats", "0.5"), std::pair("cats", "0.8"), std::pair("teal", "0.3")}) {
    both.request(sparse(method, share));
    agreement.add(both, both.steps(3), std::string(method) + " " + share, std::string(share) != "0");
  }
}

TEST(what_a_prompt_chose_stays_until_another_comes) {
  Agreement agreement;
  for (const char* method : {"tda", "griffin"}) {
    Both both("llama3", sparse(method, "0.5"));
    for (const int tokens : {5, 20, 12}) {  // too few; then on and on
      EXPECT(both.prompt(tokens) <= kBound, method, tokens);
      agreement.add(both, both.steps(3), method, tokens > 5);
    }
    EXPECT_EQ(sparseUse(*both.gpu).steps, int64_t{6});
    for (Session* session : {both.cpu.get(), both.gpu.get()}) ok(session->rebuildCache({}));
    agreement.add(both, both.steps(3), method);
  }
}

TEST(sequences_together_skip_as_alone) {
  const auto engine = engineOn("cuda", openFamily("llama3"));
  for (const char* method : methods(engine->model().config())) {
    std::vector<std::unique_ptr<Session>> together, alone;
    for (int i = 0; i < 3; ++i)
      for (auto* list : {&together, &alone}) {
        list->push_back(value(engine->createSession(configure(sparse(method, i == 2 ? "0" : "0.5")), sizes(), {})));
        ok(list->back()->prefill(someTokens(20 + 5 * i, 64, static_cast<uint32_t>(i + 1)), {}));
      }
    const std::vector<Session*> sessions = {together[0].get(), together[1].get(), together[2].get()};
    for (int32_t step = 0; step < 3; ++step) {
      const std::vector<int32_t> tokens = {step + 1, step + 5, step + 9};
      ok(Session::stepTogether(sessions, tokens));
      for (size_t i = 0; i < 3; ++i) {
        ok(alone[i]->step(tokens[i]));
        EXPECT(together[i]->logitsHash() == alone[i]->logitsHash(), method, step, i);
      }
    }
  }
}

TEST(what_is_left_out_is_declared_and_its_memory_planned) {
  for (const char* method : methods(openFamily("llama3")->config())) {
    Both both("llama3", sparse(method, "0.6"));
    both.prompt(24);
    for (Session* session : {both.cpu.get(), both.gpu.get()}) session->observeOps(true);
    both.steps(3);
    const auto host = both.cpu->opTimes(), device = both.gpu->opTimes();
    EXPECT_EQ(host.size(), device.size());
    for (size_t i = 0; i < host.size(); ++i) EXPECT(host[i].bytes == device[i].bytes && host[i].flops == device[i].flops, method, i, host[i].bytes, device[i].bytes);
    EXPECT_EQ(both.cpu->weightBytesPerToken(), both.gpu->weightBytesPerToken());
    const auto session = value(both.gpuEngine->createSession(configure(sparse(method, "0.6")), sizes(), {}));
    ok(session->prefill(someTokens(24, 64), {}));
    for (int32_t id = 1; id < 4; ++id) ok(session->step(id));
    const MemoryByTag planned = value(both.gpuEngine->plan(configure(sparse(method, "0.6")), sizes(), 27)), used = session->memory();
    for (const MemoryTag tag : {MemoryTag::weights, MemoryTag::activations, MemoryTag::metadata, MemoryTag::kv}) EXPECT(bytes(planned, tag) == bytes(used, tag), method, memoryTagName(tag), bytes(planned, tag), bytes(used, tag));
  }
}
