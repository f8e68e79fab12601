// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/support/check.h"

#include "engine/core/suggest.h"
#include "engine/knobs/knobs.h"

using namespace winnow;

namespace {
ModelConfig model(int layers) {
  ModelConfig config;
  config.architecture = "llama";
  config.layers = layers;
  return config;
}
Config set(std::initializer_list<std::pair<const char*, const char*>> changes) {
  Config config;
  for (const auto& [name, text] : changes) {
    auto next = config.parsed(name, text);
    EXPECT(next.ok(), name, text);
    if (next) config = *next;
  }
  return config;
}
void refused(const char* name, const char* text, const char* mentions) {
  const auto value = Schema::instance().parse(name, text);
  EXPECT(!value.ok(), name, text);
  if (value.ok()) return;
  EXPECT(value.error().code == ErrorCode::usage);
  EXPECT((value.error().message + value.error().hint).find(mentions) != std::string::npos, value.error().message, value.error().hint);
}
}  // namespace

TEST(every_knob_is_complete_and_its_default_is_in_range) {
  const Config defaults;
  for (const Knob& knob : Schema::instance().knobs()) {
    EXPECT(!knob.title.empty() && !knob.group.empty() && !knob.help.empty(), knob.name);
    EXPECT(knob.enabled ? !knob.enabledIf.empty() : knob.enabledIf.empty(), knob.name);
    EXPECT(Schema::instance().check(knob.name, knob.defaultValue).ok(), knob.name);
    EXPECT(toText(defaults.get(knob.name)) == toText(knob.defaultValue), knob.name);
    // What a value prints as reads back as that value.
    const auto again = Schema::instance().parse(knob.name, toText(knob.defaultValue));
    EXPECT(again.ok() && *again == knob.defaultValue, knob.name);
  }
  for (const char* name : {"weights.method", "weights.bits", "weights.group", "weights.symmetric", "weights.tensors", "prune.method", "prune.ratio",
                           "kv.policy", "kv.budget", "kv.sinks", "kv.positions", "kv.allocation", "kv.seed", "kv.interval", "kv.k_bits", "kv.v_bits", "kv.quantizer", "kv.rotate", "kv.layers", "kv.outliers", "kv.aligned",
                           "share.method", "share.block", "share.first", "share.last",
                           "compute.activations", "compute.prefill_twin", "calibration.text", "calibration.tokens", "calibration.damping"})
    EXPECT(Schema::instance().find(name) != nullptr, name);
}

TEST(values_out_of_range_name_what_is_allowed) {
  refused("weights.bits", "7", "16, 8, 6, 5, 4, 3, 2");
  refused("weights.bits", "four", "whole number");
  refused("weights.bits", "4x", "whole number");
  refused("prune.ratio", "0.96", "0.95");
  refused("prune.ratio", "nan", "not a number");
  refused("kv.policy", "h20", "h2o");
  refused("kv.budget", "1.5", "whole number of tokens");
  refused("kv.budget", "0", "0.01");
  refused("weigths.bits", "4", "weights.bits");
  refused("", "4", "no knob");
}

TEST(shorthands_are_spelled_out_and_are_no_adjustment) {
  const Effective bits = resolve(set({{"weights.bits", "4"}}), model(8));
  EXPECT_EQ(bits.config.text("weights.method"), std::string("rtn"));
  EXPECT_EQ(bits.config.text("weights.symmetric"), std::string("true"));
  EXPECT(bits.asRequested());
  EXPECT(bits.requested == bits.config);
  EXPECT_EQ(resolve(set({{"weights.bits", "3"}}), model(8)).config.text("weights.symmetric"), std::string("false"));
  EXPECT_EQ(resolve(set({{"prune.ratio", "0.5"}}), model(8)).config.text("prune.method"), std::string("magnitude"));
  EXPECT_EQ(resolve(set({{"kv.budget", "0.5"}}), model(8)).config.text("kv.policy"), std::string("streaming"));
  const Effective share = resolve(set({{"share.block", "2"}}), model(16));
  EXPECT_EQ(share.config.text("share.method"), std::string("echoatt"));
  EXPECT_EQ(share.config.integer("share.first"), 2);
  EXPECT_EQ(share.config.integer("share.last"), 1);
  EXPECT(share.asRequested());
}

TEST(what_cannot_be_is_adjusted_with_a_reason) {
  const Effective share = resolve(set({{"share.block", "2"}}), model(4));
  EXPECT_EQ(share.adjustments.size(), size_t{1});
  EXPECT_EQ(share.config.integer("share.block"), 1);
  EXPECT_EQ(share.requested.integer("share.block"), 2);
  EXPECT(share.adjustments[0].reason.find("4 layers") != std::string::npos, share.adjustments[0].reason);
  const Effective method = resolve(set({{"weights.method", "rtn"}}), model(8));
  EXPECT_EQ(method.config.text("weights.method"), std::string("none"));
  EXPECT(!method.asRequested());
}

TEST(a_format_alone_sets_what_follows_from_it) {
  const std::tuple<const char*, int64_t, const char*> table[] = {{"nf4", 4, "64"}, {"mxfp4", 4, "32"}, {"fp8-e4m3", 8, "row"}, {"fp8-e5m2", 8, "row"}};
  for (const auto& [format, bits, group] : table) {
    const Effective alone = resolve(set({{"weights.format", format}}), model(8));
    EXPECT(alone.asRequested(), format);
    EXPECT_EQ(alone.config.integer("weights.bits"), bits);
    EXPECT_EQ(alone.config.text("weights.group"), std::string(group));
    EXPECT_EQ(alone.config.text("weights.method"), std::string("rtn"));
    EXPECT_EQ(alone.config.text("weights.symmetric"), std::string("true"));
  }
  EXPECT_EQ(resolve(set({{"weights.bits", "4"}}), model(8)).config.text("weights.group"), std::string("32"));
  EXPECT_EQ(resolve(set({{"weights.format", "nf4"}, {"weights.group", "128"}}), model(8)).config.text("weights.group"), std::string("128"));
  EXPECT(resolve(set({{"weights.format", "nf4"}, {"weights.method", "gptq"}, {"weights.bits", "4"}}), model(8)).asRequested());
  EXPECT(resolve(set({{"weights.format", "nf4"}, {"weights.layers", "0:8 1:4"}}), model(8)).asRequested());
}

TEST(what_a_format_has_not_is_adjusted) {
  const auto one = [](std::initializer_list<std::pair<const char*, const char*>> changes, const char* knob, const char* becomes) {
    const Effective effective = resolve(set(changes), model(8));
    EXPECT_EQ(effective.adjustments.size(), size_t{1});
    if (effective.adjustments.empty()) return;
    EXPECT_EQ(effective.adjustments[0].knob, std::string(knob));
    EXPECT_EQ(toText(effective.config.get(knob)), std::string(becomes));
    EXPECT(!effective.adjustments[0].reason.empty());
  };
  one({{"weights.format", "nf4"}, {"weights.bits", "3"}, {"weights.symmetric", "true"}}, "weights.bits", "4");
  one({{"weights.format", "fp8-e4m3"}, {"weights.bits", "4"}}, "weights.bits", "8");
  one({{"weights.format", "nf4"}, {"weights.symmetric", "false"}}, "weights.symmetric", "true");
  one({{"weights.format", "mxfp4"}, {"weights.group", "64"}}, "weights.group", "32");
  one({{"weights.format", "nf4"}, {"weights.method", "ternary"}}, "weights.format", "integer");
  one({{"weights.method", "ternary"}, {"weights.super", "keep"}}, "weights.super", "off");
}

TEST(canonical_text_names_changes_only_in_order) {
  EXPECT_EQ(Config().canonical(), std::string());
  EXPECT_EQ(set({{"weights.bits", "4"}, {"kv.budget", "0.25"}}).canonical(), std::string("kv.budget=0.25 weights.bits=4"));
  EXPECT(set({{"weights.bits", "4"}, {"weights.bits", "16"}}) == Config());
}

TEST(closest_word) {
  EXPECT_EQ(editDistance("kitten", "sitting"), 3);
  EXPECT_EQ(closest("wieghts.bits", {"kv.budget", "weights.bits", "weights.group"}), std::string("weights.bits"));
}
