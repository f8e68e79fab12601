// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/sensitivity.h"

#include <algorithm>
#include <map>

#include "engine/model/model.h"
#include "engine/weights/layer_rules.h"
#include "engine/weights/recipe.h"
#include "experiments/chart_runs.h"

namespace winnow {
namespace {

// The baseline, in words that leave the method as it is.
constexpr const char *kAllBits = "*:16", *kNoRatio = "*:0";
const QString kBitAxis = QStringLiteral("weights.layers"), kRatioAxis = QStringLiteral("prune.ratios");

std::string matrixName(TensorRole role) {
  for (const auto& [name, known] : matrixNames())
    if (known == role) return name;
  return {};
}

// One matrix of the model and what the setting makes of it, as the value of a rule.
struct Compressed {
  int layer;
  std::string matrix, value;
};

std::vector<Compressed> compressed(const Model& model, const Config& config, bool bits) {
  std::vector<Compressed> out;
  const WeightTarget target = weightTarget(model, config, "");
  for (size_t i = 0; i < target.recipes.size(); ++i) {
    const MasterTensor& tensor = model.tensors()[i];
    const Recipe& recipe = target.recipes[i];
    if (bits ? recipe.method.empty() : recipe.prune.empty()) continue;
    out.push_back({tensor.layer, matrixName(tensor.role), bits ? std::to_string(recipe.format.bits) : toText(KnobValue(recipe.pruneRatio))});
  }
  return out;
}

// Rules for some matrices and no other: one entry where all of a layer, or one kind in all layers, take the same value.
std::string rulesFor(const std::vector<Compressed>& chosen, int matricesPerLayer, int layers) {
  const bool same = std::ranges::all_of(chosen, [&](const Compressed& each) { return each.value == chosen[0].value; });
  const bool oneLayer = std::ranges::all_of(chosen, [&](const Compressed& each) { return each.layer == chosen[0].layer; });
  const bool oneMatrix = std::ranges::all_of(chosen, [&](const Compressed& each) { return each.matrix == chosen[0].matrix; });
  const int count = static_cast<int>(chosen.size());
  if (same && oneLayer && count == matricesPerLayer && chosen[0].layer >= 0) return std::to_string(chosen[0].layer) + ":" + chosen[0].value;
  if (same && oneMatrix && (chosen[0].layer < 0 || count == layers)) return chosen[0].matrix + ":" + chosen[0].value;
  std::string out;
  for (const Compressed& each : chosen)
    out += (out.empty() ? "" : " ") + (each.layer < 0 ? "" : std::to_string(each.layer) + ".") + each.matrix + ":" + each.value;
  return out;
}

// What the points of a plan are called: by the one layer, or the one matrix, that their rule names.
void name(Sensitivity::Point& point, RuleValue kind) {
  const auto read = parseLayerRules(point.rule.toStdString(), kind);
  if (!read || read->empty()) return;
  const LayerRule& first = read->front();
  const bool oneLayer = std::ranges::all_of(*read, [&](const LayerRule& r) { return r.blocks && !r.every && r.first == r.last && r.first == first.first; });
  const bool oneMatrix = std::ranges::all_of(*read, [&](const LayerRule& r) { return r.role && r.role == first.role; });
  if (oneLayer) {
    point.layer = first.first;
    point.name = QString::number(first.first);
  } else {
    point.name = oneMatrix ? QString::fromStdString(matrixName(*first.role)) : point.rule;
  }
}

bool isSensitivity(const PlanFile& plan) {
  return plan.axes.size() == 1 && (plan.axes[0].knob == kBitAxis || plan.axes[0].knob == kRatioAxis) && plan.experiments.size() == 1 &&
         std::holds_alternative<EvaluateSpec>(plan.experiments[0]) && std::get<EvaluateSpec>(plan.experiments[0]).againstBaseline;
}

}  // namespace

Result<PlanFile> sensitivityPlan(const Model& model, const QString& source, const Config& config, const QString& textPath) {
  bool bits = true;
  std::vector<Compressed> all = compressed(model, config, true);
  if (all.empty()) {
    bits = false;
    all = compressed(model, config, false);
  }
  if (all.empty())
    return Error{ErrorCode::usage, "nothing is compressed: every matrix is as the file has it.", "Choose weights.bits below 16, weights.layers or prune.ratio first."};
  PlanFile plan;
  plan.name = bits ? QStringLiteral("Layer sensitivity of bits") : QStringLiteral("Layer sensitivity of pruning");
  plan.model = source;
  for (const auto& [knob, value] : config.changed()) {
    const bool replaced = bits ? knob == "weights.bits" || knob == "weights.layers" || knob == "weights.tensors" || knob.starts_with("prune.")
                               : knob == "prune.ratio" || knob == "prune.ratios";
    const bool unused = knob.starts_with("kv.") || knob.starts_with("share.") || knob.starts_with("prune.layers");
    if (!replaced && !unused) plan.set.push_back({QString::fromStdString(knob), value});
  }
  const int layers = model.config().layers, perLayer = model.config().gatedFfn ? 7 : 6;
  PlanFile::Axis axis{bits ? kBitAxis : kRatioAxis, {std::string(bits ? kAllBits : kNoRatio)}};
  const auto add = [&](const auto& belongs) {
    std::vector<Compressed> chosen;
    std::ranges::copy_if(all, std::back_inserter(chosen), belongs);
    if (!chosen.empty()) axis.values.push_back(rulesFor(chosen, perLayer, layers));
  };
  for (int layer = 0; layer < layers; ++layer) add([layer](const Compressed& each) { return each.layer == layer; });
  for (const char* matrix : {"q", "k", "v", "o", "gate", "up", "down", "embedding", "head"})
    add([matrix](const Compressed& each) { return each.matrix == matrix; });
  plan.axes.push_back(std::move(axis));
  EvaluateSpec evaluate;
  evaluate.textPath = textPath;
  evaluate.context = std::clamp(model.config().context, 32, 256);
  evaluate.chunks = 4;
  plan.experiments.push_back(evaluate);
  return plan;
}

Result<Sensitivity> latestSensitivity(storage::SessionFile& file) {
  Sensitivity out;
  const auto sweeps = file.sweeps();
  if (!sweeps) return fromStorage(sweeps.error());
  const auto runs = file.runs();
  if (!runs) return fromStorage(runs.error());
  std::map<storage::Id, const storage::RunSummary*> known;
  for (const storage::RunSummary& run : *runs) known[run.id] = &run;
  for (auto sweep = sweeps->rbegin(); sweep != sweeps->rend(); ++sweep) {
    const auto plan = PlanFile::parse(QByteArray::fromStdString(sweep->planJson), {});
    if (!plan || !isSensitivity(*plan)) continue;
    const std::vector<PlanFile::Point> points = plan->points();
    Config base;
    for (const auto& [knob, value] : plan->set) base = base.with(knob.toStdString(), value);
    out.settings = QString::fromStdString(base.canonical());
    out.sweep = sweep->id;
    for (const storage::SweepPoint& stored : sweep->points) {
      if (stored.repeat > 0 || stored.ordinal < 0 || static_cast<size_t>(stored.ordinal) >= points.size()) continue;
      Sensitivity::Point point;
      point.rule = QString::fromStdString(points[static_cast<size_t>(stored.ordinal)].config.text(plan->axes[0].knob.toStdString()));
      if (point.rule == QLatin1String(kAllBits) || point.rule == QLatin1String(kNoRatio)) point.rule.clear();
      point.state = stored.state;
      point.note = QString::fromStdString(stored.note);
      name(point, plan->axes[0].knob == kBitAxis ? RuleValue::bits : RuleValue::ratio);
      const auto run = stored.run ? known.find(*stored.run) : known.end();
      if (stored.state == storage::PointState::done && run != known.end()) {
        const auto metric = [&](const char* metricName) -> const storage::Metric* {
          const auto found = run->second->metrics.find(metricName);
          return found == run->second->metrics.end() ? nullptr : &found->second;
        };
        ++out.done;
        out.protocol = QString::fromStdString(run->second->protocol);
        out.model = QString::fromStdString(run->second->model);
        if (const auto* perplexity = metric("perplexity")) point.perplexity = perplexity->value;
        if (const auto* kld = metric("kld_mean")) {
          point.kld = kld->value;
          point.kldLow = kld->ciLow.value_or(kld->value);
          point.kldHigh = kld->ciHigh.value_or(kld->value);
        }
        if (point.rule.isEmpty()) out.baseline = point.perplexity;
      }
      out.points.push_back(std::move(point));
    }
    return out;
  }
  return out;
}

}  // namespace winnow
