// SPDX-License-Identifier: GPL-3.0-or-later
// Layer sensitivity: quality when one layer, or one kind of matrix, is compressed as the present setting says and all else stays as in the
// file. It is a plan like any other: one axis of weights.layers (or prune.ratios), one evaluation.
#pragma once
#include <QString>
#include <vector>

#include "experiments/plan_file.h"
#include "storage/session_file.h"

namespace winnow {

class Model;

// `config` is one that resolve() made. Errors: nothing is compressed.
Result<PlanFile> sensitivityPlan(const Model& model, const QString& source, const Config& config, const QString& textPath);

struct Sensitivity {
  struct Point {
    QString name;        // "3", "down", "head"; "" = the baseline
    int layer = -1;      // -1: a kind of matrix, or the baseline
    QString rule;        // of the axis; "" = the baseline
    storage::PointState state = storage::PointState::todo;
    double kld = 0, kldLow = 0, kldHigh = 0, perplexity = 0;  // of a point that is done
    QString note;
  };
  std::vector<Point> points;  // as planned: baseline, layers, kinds
  double baseline = 0;        // perplexity; 0 = not measured yet
  QString settings, protocol, model;
  qint64 sweep = -1;
  int done = 0;
};
// The latest such plan in a session; none: no points.
Result<Sensitivity> latestSensitivity(storage::SessionFile& file);

}  // namespace winnow
