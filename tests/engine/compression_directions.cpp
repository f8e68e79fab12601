// SPDX-License-Identifier: GPL-3.0-or-later
// Which weight method is better is known whatever the model: KL divergence from the unchanged model on text that calibration did not see.
#include "tests/support/compression_meter.h"

using namespace winnow;
using namespace winnow::test;

TEST(methods_that_measure_beat_round_to_nearest) {
  for (const char* file : {kSmallLlama, kStories}) {
    const CompressionMeter divergence(file, 12, "8192");
    for (const char* bits : {"3", "2"}) {
      const double rtn = divergence({{"weights.bits", bits}}), gptq = divergence({{"weights.bits", bits}, {"weights.method", "gptq"}}),
                   awq = divergence({{"weights.bits", bits}, {"weights.method", "awq"}}), aser = divergence({{"weights.bits", bits}, {"weights.method", "aser"}});
      EXPECT(gptq < 0.9 * rtn, file, bits, gptq, rtn);
      EXPECT(awq < rtn, file, bits, awq, rtn);
      EXPECT(aser < 0.8 * rtn, file, bits, aser, rtn);
    }
  }
}

TEST(a_text_that_was_calibrated_on_is_no_evidence) {
  const auto engine = openEngine(kStories, 1);
  const std::string path = sharedData("corpora/tinystories_60k.txt"), text = readFile(path);
  const auto judged = [&](const char* method) {
    const auto session = makeSession(engine, configure({{"weights.bits", "3"}, {"weights.method", method}, {"calibration.text", path.c_str()}}), {.context = 128});
    PerplexityRequest request;
    request.context = 128;
    request.chunks = 1;
    return measurePerplexity(*session, nullptr, *engine->tokenizer(), text, request, {});
  };
  EXPECT(!judged("aser").ok() && !judged("smoothquant").ok());
  const auto refused = judged("gptq");
  EXPECT(!refused.ok() && refused.error().code == ErrorCode::badInput && refused.error().message.find("tinystories_60k.txt") != std::string::npos);
  EXPECT(judged("rtn").ok());  // looks at no text
}

TEST(fewer_bits_diverge_more) {
  for (const char* file : {kSmallLlama, kStories}) {
    const CompressionMeter divergence(file, 12, "8192");
    for (const char* method : {"rtn", "gptq", "awq", "smoothquant", "aser"}) {
      double last = 0;
      for (const char* bits : {"8", "4", "3", "2"}) {
        const double now = divergence({{"weights.bits", bits}, {"weights.method", method}});
        EXPECT(now > last, file, method, bits, now, last);
        last = now;
      }
    }
  }
}
