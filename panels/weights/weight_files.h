// SPDX-License-Identifier: GPL-3.0-or-later
// A weight report as files: numbers for tables, and the chart that is exported as a picture.
#pragma once
#include <QByteArray>

#include "experiments/chart_data.h"
#include "experiments/sensitivity.h"
#include "panels/weights/quantity.h"

namespace winnow {

QByteArray weightCsv(const WeightReport& report, const Sensitivity& sensitivity);
QByteArray weightJson(const WeightReport& report, const QString& settings, const Sensitivity& sensitivity);
// The map in one quantity, the sensitivity where some is measured.
Chart weightChart(const WeightReport& report, WeightQuantity quantity, const QString& model, const QString& settings, const Sensitivity& sensitivity);

}  // namespace winnow
