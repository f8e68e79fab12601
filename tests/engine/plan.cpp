// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/plan/plan.h"

#include "engine/core/check.h"
#include "engine/share/methods.h"
#include "tests/support/check.h"

using namespace winnow;

namespace {
ModelConfig layersOnly(int layers) {
  ModelConfig model;
  model.layers = layers;
  return model;
}
int count(const Plan& plan, OpKind kind) {
  int n = 0;
  for (const Op& op : plan.ops) n += op.kind == kind;
  return n;
}
}  // namespace

TEST(a_plan_has_five_ops_per_layer_and_two_outside) {
  const Plan plan = buildPlan(layersOnly(3), noSharing(3));
  EXPECT_EQ(plan.ops.size(), size_t{17});
  EXPECT(plan.ops.front().kind == OpKind::embed && plan.ops.back().kind == OpKind::logits);
  EXPECT_EQ(count(plan, OpKind::qkv), 3);
  EXPECT_EQ(count(plan, OpKind::linear), 6);
  for (const Op& op : plan.ops) EXPECT(!op.keepProbabilities);
}

TEST(followers_project_values_alone_and_leaders_keep_probabilities) {
  const Plan plan = buildPlan(layersOnly(8), uniformBlocks(8, 2, 1, 2));  // 2-3, 4-5, 6
  EXPECT_EQ(count(plan, OpKind::vOnly), 2);
  EXPECT_EQ(count(plan, OpKind::attendReuse), 2);
  EXPECT_EQ(count(plan, OpKind::qkv), 6);
  for (const Op& op : plan.ops) {
    if (op.kind == OpKind::attend) EXPECT_EQ(op.keepProbabilities, op.layer == 2 || op.layer == 4);
    if (op.kind == OpKind::attendReuse) EXPECT_EQ(int{op.leader}, op.layer - 1);
  }
  EXPECT(plan.follower(3) && plan.follower(5) && !plan.follower(6) && !plan.follower(2));
}

TEST(a_plan_prints_one_line_per_op) {
  const std::string text = buildPlan(layersOnly(4), uniformBlocks(4, 0, 0, 2)).print();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 22);
  EXPECT(text.find("layer 1  attend_reuse, attention of layer 0") != std::string::npos, text);
  EXPECT(text.find("layer 2  attend, keeps its probabilities") != std::string::npos, text);
}

TEST(a_map_whose_leader_follows_is_a_broken_invariant) {
  auto map = noSharing(3);
  map[1].attnSource = 0;
  map[2].attnSource = 1;
  bool thrown = false;
  try {
    buildPlan(layersOnly(3), map);
  } catch (const CheckFailure&) {
    thrown = true;
  }
  EXPECT(thrown);
}
