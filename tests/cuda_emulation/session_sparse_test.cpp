// SPDX-License-Identifier: GPL-3.0-or-later
// activation.method in whole sessions on the device, against the CPU. An entry that lies next to a threshold may be out on one of the two alone: with these
// models, seeds and texts that happens nowhere, and what was left out is counted alike to the entry.
#include "engine/sparsify/method.h"
#include "engine/sparsify/use.h"
#include "tests/cuda_emulation/calibration_text.h"
#include "tests/cuda_emulation/sessions.h"
#include "tests/support/random_model.h"

using namespace winnow;
using namespace winnow::test;

namespace {

std::vector<std::string> methods(const ModelConfig& model) {
  std::vector<std::string> names;
  for (const ActivationMethod& method : activationMethods())
    if (method.place != SparsePlace::gate || model.gatedFfn) names.push_back(method.name);
  return names;
}

Settings sparse(const std::string& method, const char* share, Settings more = {}) {
  static std::vector<std::unique_ptr<std::string>> kept;  // settings point at their values
  kept.push_back(std::make_unique<std::string>(method));
  more.insert(more.begin(), {{"activation.method", kept.back()->c_str()}, {"activation.sparsity", share}, {"calibration.text", calibrationText()}, {"calibration.tokens", "256"}});
  return more;
}

void expectSameUse(const Session& cpu, const Session& gpu, const std::string& where) {
  const SparseUse &a = sparseUse(cpu), &b = sparseUse(gpu);
  EXPECT(a.steps == b.steps && a.bytes == b.bytes && a.layers.size() == b.layers.size(), where, a.steps, b.steps, a.bytes, b.bytes);
  for (size_t layer = 0; layer < a.layers.size(); ++layer)
    for (size_t place = 0; place < a.layers[layer].size(); ++place)
      EXPECT(a.layers[layer][place].kept == b.layers[layer][place].kept && a.layers[layer][place].of == b.layers[layer][place].of, where, layer, place, a.layers[layer][place].kept,
             b.layers[layer][place].kept);
}

// So many steps, within the bound, that left out something, and the same.
void expectAlike(Both& both, int steps, double bound, const std::string& where) {
  const double prompt = both.prompt(24), decode = both.steps(steps);
  EXPECT(prompt <= bound && decode <= bound, where, prompt, decode);
  EXPECT(sparseUse(*both.gpu).steps == steps && sparseUse(*both.gpu).bytes != 0, where, sparseUse(*both.gpu).steps);
  expectSameUse(*both.cpu, *both.gpu, where);
}

}  // namespace

TEST(every_method_leaves_out_what_the_cpu_does) {
  for (const char* family : {"llama3", "gpt2", "qwen3", "mistral"})
    for (const std::string& method : methods(familyConfig(family))) {
      Both both(family, sparse(method, "0.5"));
      EXPECT(both.gpu->effective()->asRequested(), family, method);
      expectAlike(both, 8, kBound, std::string(family) + " " + method);
    }
}

TEST(every_format_is_read_by_channel) {
  for (const Settings& format : {Settings{{"weights.bits", "8"}}, Settings{{"weights.bits", "4"}}, Settings{{"weights.bits", "3"}, {"weights.symmetric", "false"}, {"weights.group", "64"}},
                                 Settings{{"weights.format", "nf4"}}, Settings{{"weights.format", "fp8-e4m3"}}, Settings{{"weights.format", "mxfp4"}},
                                 Settings{{"weights.bits", "4"}, {"weights.error_rank", "5"}}, Settings{{"prune.width", "0.3"}}})
    for (const char* method : {"cats", "teal", "griffin"}) {
      Both both("llama3", sparse(method, "0.4", format));
      expectAlike(both, 5, kBound + kPromptRounding, std::string(method) + " " + format.back().first + " " + format.back().second);
    }
}

TEST(sharing_and_dropped_layers_leave_out_too) {
  for (const Settings& more : {Settings{{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}, Settings{{"prune.layers", "1"}}})
    for (const char* method : {"cats", "teal", "tda"}) {
      Both both("llama3", sparse(method, "0.5", more));
      expectAlike(both, 5, kBound, std::string(method) + " " + more[0].first);
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
    const auto session = value(engine->createSession(configure(settings), {.context = 64, .maxBatch = 12}, {}));
    ok(session->prefill(someTokens(24, 64), {}));
    generate(*session, 10);
    return session->logitsHash();
  };
  const uint64_t dense = hashOf({});
  for (const std::string& method : methods(engine->model().config())) {
    EXPECT(hashOf(sparse(method, "0")) == dense, method);
    EXPECT(hashOf(sparse(method, "0.5")) != dense, method);
  }
}

TEST(a_share_acts_at_the_next_token) {
  Both both("llama3", sparse("teal", "0.3"));
  EXPECT(both.prompt(24) <= kBound);
  for (const auto& [method, share] : {std::pair("teal", "0.3"), std::pair("teal", "0.7"), std::pair("teal", "0"), std::pair("cats", "0.5"), std::pair("cats", "0.8"), std::pair("teal", "0.3")}) {
    both.request(sparse(method, share));
    const double decode = both.steps(3);
    EXPECT(decode <= kBound, method, share, decode);
    expectSameUse(*both.cpu, *both.gpu, std::string(method) + " " + share);
  }
}

TEST(what_a_prompt_chose_stays_until_another_comes) {
  for (const char* method : {"tda", "griffin"}) {
    Both both("llama3", sparse(method, "0.5"));
    for (const int tokens : {5, 20, 12}) {  // too few; then on and on
      EXPECT(both.prompt(tokens) <= kBound, method, tokens);
      EXPECT(both.steps(3) <= kBound, method, tokens);
      expectSameUse(*both.cpu, *both.gpu, method);
    }
    EXPECT_EQ(sparseUse(*both.gpu).steps, int64_t{6});
    for (Session* session : {both.cpu.get(), both.gpu.get()}) ok(session->rebuildCache({}));
    EXPECT(both.steps(3) <= kBound, method);
    expectSameUse(*both.cpu, *both.gpu, method);
  }
}

TEST(sequences_together_skip_as_alone) {
  const auto engine = engineOn("cuda", openFamily("llama3"));
  for (const std::string& method : methods(engine->model().config())) {
    std::vector<std::unique_ptr<Session>> together, alone;
    for (int i = 0; i < 3; ++i)
      for (auto* list : {&together, &alone}) {
        list->push_back(value(engine->createSession(configure(sparse(method, i == 2 ? "0" : "0.5")), {.context = 64, .maxBatch = 12}, {})));
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
  for (const std::string& method : methods(familyConfig("llama3"))) {
    Both both("llama3", sparse(method, "0.6"));
    both.prompt(24);
    for (Session* session : {both.cpu.get(), both.gpu.get()}) session->observeOps(true);
    both.steps(3);
    const auto host = both.cpu->opTimes(), device = both.gpu->opTimes();
    EXPECT_EQ(host.size(), device.size());
    for (size_t i = 0; i < host.size(); ++i) EXPECT(host[i].bytes == device[i].bytes && host[i].flops == device[i].flops, method, i, host[i].bytes, device[i].bytes);
    EXPECT_EQ(both.cpu->weightBytesPerToken(), both.gpu->weightBytesPerToken());
    const MemoryByTag planned = value(both.gpuEngine->plan(configure(sparse(method, "0.6")), {.context = 64, .maxBatch = 12}, 27)), used = both.gpu->memory();
    for (const MemoryTag tag : {MemoryTag::weights, MemoryTag::activations, MemoryTag::metadata, MemoryTag::kv}) EXPECT(bytes(planned, tag) == bytes(used, tag), method, memoryTagName(tag), bytes(planned, tag), bytes(used, tag));
  }
}
