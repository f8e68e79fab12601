// SPDX-License-Identifier: GPL-3.0-or-later
// prefill.method=critiprefill in whole sessions on the device, against the CPU. Where what two blocks are worth is closer than what rounding moves it by,
// the two may attend to another block each: with these models, seeds and texts that happens nowhere.
#include "tests/cuda_emulation/calibration_text.h"
#include "tests/cuda_emulation/long_text.h"
#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

namespace {

Settings critical(Settings more = {}) {
  more.insert(more.begin(), {{"prefill.method", "critiprefill"}, {"prefill.budget", "64"}, {"prefill.segment", "32"}});
  return more;
}

std::shared_ptr<const Model> model(const char* family, int headDim, int heads, int kvHeads) { return modelOfHeads(family, headDim, heads, kvHeads, 4, 120); }

}  // namespace

TEST(every_kind_of_head_chooses_as_on_the_cpu) {
  for (const auto& [family, dim, heads, kvHeads, context] : {std::tuple("llama3", 64, 4, 2, 512), std::tuple("qwen3", 128, 3, 1, 4096), std::tuple("qwen2", 12, 2, 2, 4096),
                                                             std::tuple("mistral", 32, 4, 2, 512)}) {
    Both both(model(family, dim, heads, kvHeads), critical(), longText(context));
    EXPECT(both.gpu->effective()->asRequested(), family);
    const double prompt = both.prompt(300), decode = both.steps(4);
    EXPECT(prompt <= kBound && decode <= kBound, family, context, prompt, decode);
    both.expectSameCache();
    // It makes a difference.
    const auto whole = value(both.gpuEngine->createSession(Config(), longText(context), {}));
    ok(whole->prefill(both.gpu->tokens(), {}));
    ok(whole->step(5));
    ok(both.gpu->step(5));
    EXPECT(distance(whole->logits(), both.gpu->logits()) > 4 * kBound, family);
  }
}

// Segments that do not begin at a block, each behind the other.
TEST(segments_begin_anywhere) {
  Both both(model("llama3", 64, 4, 2), critical({{"prefill.segment", "37"}}), longText());
  for (const int tokens : {141, 90, 77}) {
    const double prompt = both.prompt(tokens);
    EXPECT(prompt <= kBound, tokens, prompt);
  }
  EXPECT(both.steps(3) <= kBound);
}

TEST(quantized_pages_are_judged_as_they_lie) {
  Both both(model("llama3", 64, 4, 2), critical({{"kv.k_bits", "8"}, {"kv.v_bits", "8"}}), longText(4096));
  const double prompt = both.prompt(260), decode = both.steps(4);
  EXPECT(prompt <= codesBound(8) && decode <= codesBound(8), prompt, decode);
  both.expectSameCache();
}

TEST(followers_read_what_their_leader_chose) {
  for (const int64_t probabilities : {int64_t{1} << 24, int64_t{0}})
    for (const char* align : {"false", "true"}) {
      SessionOptions options = longText();
      options.probabilityBytes = probabilities;
      Both both("llama3", critical({{"share.block", "2"}, {"share.first", "1"}, {"share.last", "0"}, {"share.align", align}, {"calibration.text", calibrationText()}, {"calibration.tokens", "256"}}), options);
      EXPECT(both.gpu->plan().follower(2) && both.gpu->effective()->asRequested());
      const double prompt = both.prompt(230), decode = both.steps(3);
      EXPECT(prompt <= kBound && decode <= kBound, probabilities, align, prompt, decode);
    }
}

// Sums of attention are of what was attended to; where slots have left, nothing is chosen any more.
TEST(policies_see_what_was_attended_to) {
  for (const char* policy : {"h2o", "snapkv"}) {
    Both both(model("llama3", 64, 4, 2), critical({{"kv.policy", policy}, {"kv.budget", "200"}, {"kv.interval", "8"}}), longText());
    const double prompt = both.prompt(190), more = both.prompt(100), decode = both.steps(10);
    EXPECT(prompt <= kBound && more <= kBound && decode <= kBound, policy, prompt, more, decode);
    both.expectSameCache();
  }
}

TEST(a_budget_as_long_as_the_text_changes_no_bit) {
  const auto engine = engineOn("cuda", model("llama3", 64, 4, 2));
  const auto hashOf = [&](const char* budget) {
    Settings settings = critical();
    settings[1].second = budget;
    const auto session = value(engine->createSession(configure(settings), longText(), {}));
    ok(session->prefill(someTokens(300, 128), {}));
    return session->logitsHash();
  };
  const auto dense = value(engine->createSession(configure({{"prefill.method", "critiprefill"}, {"prefill.budget", "4096"}, {"prefill.segment", "32"}}), longText(), {}));
  ok(dense->prefill(someTokens(300, 128), {}));
  EXPECT(hashOf("300") == dense->logitsHash() && hashOf("64") != dense->logitsHash());
}

TEST(what_it_reads_is_declared_and_its_memory_planned) {
  Both both(model("llama3", 64, 4, 2), critical(), longText());
  both.prompt(192);
  for (Session* session : {both.cpu.get(), both.gpu.get()}) session->observeOps(true);
  const std::vector<int32_t> ids = both.next(64);
  int64_t read = 0;
  for (Session* session : {both.cpu.get(), both.gpu.get()}) {  // the last segment attends to everything: stopped before it
    std::stop_source stop;
    EXPECT(!session->prefill(ids, {[&](double, std::string_view) { stop.request_stop(); }, stop.get_token()}));
  }
  const auto host = both.cpu->opTimes(), device = both.gpu->opTimes();
  for (size_t i = 0; i < host.size(); ++i) EXPECT(host[i].bytes == device[i].bytes && host[i].flops == device[i].flops, i, host[i].bytes, device[i].bytes);
  for (size_t i = 0; i < host.size(); ++i) read += both.gpu->plan().ops[i].kind == OpKind::attend && both.gpu->plan().ops[i].layer == 2 ? device[i].bytes : 0;
  EXPECT(read > 0 && read < 2 * 2 * 64 * 2 * 224, read);  // keys and values of two heads: less than all of them
  const auto engine = engineOn("cuda", model("llama3", 64, 4, 2));
  const MemoryByTag planned = value(engine->plan(configure(critical()), longText(), 301));
  const auto session = value(engine->createSession(configure(critical()), longText(), {}));
  ok(session->prefill(someTokens(300, 128), {}));
  ok(session->step(1));
  const MemoryByTag used = session->memory();
  for (const MemoryTag tag : {MemoryTag::kv, MemoryTag::metadata, MemoryTag::activations}) EXPECT(bytes(planned, tag) == bytes(used, tag), memoryTagName(tag), bytes(planned, tag), bytes(used, tag));
}
