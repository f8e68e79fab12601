// SPDX-License-Identifier: GPL-3.0-or-later
// Filter text over runs: words are looked for everywhere, terms such as kv.policy=h2o or perplexity<7 compare. All must hold.
#pragma once
#include <QSortFilterProxyModel>
#include <QString>
#include <functional>
#include <vector>

#include "experiments/workbench.h"

namespace winnow {

struct RunQuery {
  std::vector<std::function<bool(const storage::RunSummary&)>> terms;
  QString error;          // a sentence; empty = understood
  int errorAt = -1, errorLength = 0;
  bool accepts(const storage::RunSummary& run) const;
};
RunQuery parseRunQuery(const QString& text);

class RunFilter : public QSortFilterProxyModel {
  Q_OBJECT
 public:
  explicit RunFilter(QObject* parent = nullptr);
  void setQuery(RunQuery query);

 protected:
  bool filterAcceptsRow(int row, const QModelIndex& parent) const override;

 private:
  RunQuery query_;
};

}  // namespace winnow
