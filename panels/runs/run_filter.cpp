// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/runs/run_filter.h"

#include <QRegularExpression>

#include "panels/runs/run_model.h"

namespace winnow {
namespace {

QString qt(const std::string& s) { return QString::fromStdString(s); }

// What a term's left side names in a run.
std::optional<QString> fieldOf(const storage::RunSummary& run, const QString& key) {
  if (key == QStringLiteral("name")) return qt(run.name);
  if (key == QStringLiteral("status")) return qt(std::string(storage::runStatusName(run.status)));
  if (key == QStringLiteral("kind")) return qt(std::string(storage::runKindName(run.kind)));
  if (key == QStringLiteral("model")) return qt(run.model);
  if (key == QStringLiteral("device")) return qt(run.device);
  if (key == QStringLiteral("notes")) return qt(run.notes);
  const std::string name = key.toStdString();
  if (const auto set = run.effective.find(name); set != run.effective.end()) return qt(set->second);
  if (const Knob* knob = Schema::instance().find(name)) return qt(toText(knob->defaultValue));
  if (const auto metric = run.metrics.find(name); metric != run.metrics.end()) return QString::number(metric->second.value, 'g', 17);
  return std::nullopt;
}

bool compare(const QString& left, const QString& op, const QString& right) {
  bool a = false, b = false;
  const double x = left.toDouble(&a), y = right.toDouble(&b);
  if (a && b) {
    if (op == QStringLiteral("=")) return x == y;
    if (op == QStringLiteral("!=")) return x != y;
    if (op == QStringLiteral("<")) return x < y;
    if (op == QStringLiteral("<=")) return x <= y;
    if (op == QStringLiteral(">")) return x > y;
    return x >= y;
  }
  if (op == QStringLiteral("=")) return left.compare(right, Qt::CaseInsensitive) == 0;
  if (op == QStringLiteral("!=")) return left.compare(right, Qt::CaseInsensitive) != 0;
  return false;
}

bool mentions(const storage::RunSummary& run, const QString& word) {
  QString all = qt(run.name + ' ' + run.notes + ' ' + run.model + ' ' + run.protocol + ' ' + run.corpus) + QLatin1Char(' ') +
                RunModel::statusText(run) + QLatin1Char(' ') + qt(std::string(storage::runKindName(run.kind)));
  for (const auto& [name, value] : run.effective) all += QLatin1Char(' ') + qt(name + '=' + value);
  return all.contains(word, Qt::CaseInsensitive);
}

bool known(const QString& key) {
  static const QStringList fields{QStringLiteral("name"),  QStringLiteral("status"), QStringLiteral("kind"),
                                  QStringLiteral("model"), QStringLiteral("device"), QStringLiteral("notes")};
  static const QRegularExpression metric(QStringLiteral("^[a-z][a-z0-9_]*$"));
  return fields.contains(key) || Schema::instance().find(key.toStdString()) || metric.match(key).hasMatch();
}

}  // namespace

bool RunQuery::accepts(const storage::RunSummary& run) const {
  return std::all_of(terms.begin(), terms.end(), [&](const auto& term) { return term(run); });
}

RunQuery parseRunQuery(const QString& text) {
  static const QRegularExpression term(
      QStringLiteral("([A-Za-z][A-Za-z0-9_.]*)\\s*(!=|<=|>=|=|<|>)\\s*(\"[^\"]*\"|\\S*)|\"([^\"]*)\"|(\\S+)"));
  RunQuery query;
  auto matches = term.globalMatch(text);
  while (matches.hasNext()) {
    const auto match = matches.next();
    const auto fail = [&](const QString& why) {
      query.error = why;
      query.errorAt = static_cast<int>(match.capturedStart());
      query.errorLength = static_cast<int>(match.capturedLength());
    };
    if (match.capturedLength(1) > 0) {
      const QString key = match.captured(1), op = match.captured(2);
      QString value = match.captured(3);
      if (value.startsWith(QLatin1Char('"'))) value = value.mid(1, value.size() - 2);
      if (!known(key)) {
        fail(RunFilter::tr("“%1” is no knob, metric or field").arg(key));
        return query;
      }
      if (value.isEmpty()) {
        fail(RunFilter::tr("“%1” needs a value after it").arg(match.captured(0).trimmed()));
        return query;
      }
      query.terms.push_back([key, op, value](const storage::RunSummary& run) {
        const auto field = fieldOf(run, key);
        return field && compare(*field, op, value);
      });
      continue;
    }
    const QString word = match.capturedLength(4) > 0 ? match.captured(4) : match.captured(5);
    if (word.isEmpty() || word.compare(QStringLiteral("and"), Qt::CaseInsensitive) == 0) continue;
    query.terms.push_back([word](const storage::RunSummary& run) { return mentions(run, word); });
  }
  return query;
}

RunFilter::RunFilter(QObject* parent) : QSortFilterProxyModel(parent) {
  setSortRole(RunModel::SortRole);
  setDynamicSortFilter(true);
}

void RunFilter::setQuery(RunQuery query) {
  query_ = std::move(query);
  invalidateFilter();
}

bool RunFilter::filterAcceptsRow(int row, const QModelIndex&) const {
  const auto* model = static_cast<const RunModel*>(sourceModel());
  return query_.accepts(model->runs()[static_cast<size_t>(row)]);
}

}  // namespace winnow
