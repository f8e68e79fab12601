// SPDX-License-Identifier: GPL-3.0-or-later
// Weight versions made on the device are the host's bytes: rounded from the file's rows, from a copy that is there already, pruned, and
// those that the host makes.
#include "tests/cuda_emulation/shops.h"

using namespace winnow;
using namespace winnow::test;

TEST(every_recipe_gives_the_hosts_bytes) {
  for (const char* family : {"llama3", "gpt2"}) {  // rows in the file, and transposed ones
    const auto model = openFamily(family);
    for (const Settings& settings :
         {Settings{}, Settings{{"weights.bits", "3"}}, Settings{{"weights.bits", "8"}}, Settings{{"weights.bits", "4"}, {"weights.symmetric", "false"}},
          Settings{{"weights.format", "nf4"}}, Settings{{"weights.format", "fp8-e5m2"}, {"weights.group", "64"}}, Settings{{"weights.format", "fp8-e4m3"}},
          Settings{{"weights.format", "mxfp4"}, {"prune.ratio", "0.4"}}, Settings{{"weights.format", "nf4"}, {"prune.ratio", "0.3"}},
          Settings{{"prune.ratio", "0.5"}}, Settings{{"weights.bits", "4"}, {"prune.ratio", "0.3"}}}) {
      Shop host(model, false), device(model, true);
      const Config config = configure(settings);
      const auto expected = host.build(*model, config), found = device.build(*model, config);
      expectSameSet(*model, *expected, *found);
      EXPECT_EQ(device.place->madeHere() > 0, !settings.empty());
      int64_t bytes = 0;
      for (const auto& version : found->versions) bytes += static_cast<int64_t>(version->matrix.bytes());
      EXPECT_EQ(device.ledger.total(), bytes);  // nothing is left of the making
    }
  }
}

TEST(a_copy_that_is_there_is_what_is_rounded) {
  const auto model = openFamily("qwen2");
  Shop host(model, false), device(model, true);
  const auto whole = device.build(*model, Config());
  const Config config = configure({{"weights.bits", "4"}});
  expectSameSet(*model, *host.build(*model, config), *device.build(*model, config));
}
