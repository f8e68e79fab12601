// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/cache/cache_files.h"

#include <QCoreApplication>

#include "panels/cache/occupancy_map.h"

namespace winnow {
namespace {

QString tr(const char* text) { return QCoreApplication::translate("winnow::CacheFiles", text); }

}  // namespace

Chart cacheChart(const CacheMap& map, bool byHead, const QString& model, const QString& settings) {
  Chart::Panel panel;
  panel.kind = Chart::Kind::heatmap;
  panel.title = byHead ? tr("Bits of a cached value by head and position") : tr("Bits of a cached value by layer and position");
  panel.x.title = tr("position");
  panel.y.title = byHead ? tr("layer.head") : tr("layer");
  panel.y.unit = QStringLiteral("bit");
  for (int column = 0; column < map.columns(); ++column) panel.x.categories << QString::number(map.firstOf(column));
  bool shared = false;
  for (const OccupancyLine& line : occupancyLines(map, byHead)) {
    panel.cells.push_back(line.bits);
    panel.y.categories << (byHead ? QStringLiteral("%1.%2").arg(line.layer).arg(line.kvHead) : QString::number(line.layer));
    shared = shared || line.shared();
  }
  Chart chart;
  chart.name = QStringLiteral("cache");
  chart.title = tr("Cache of %1 after %2 tokens").arg(model).arg(map.position);
  chart.caption = settings;
  chart.panels.push_back(std::move(panel));
  chart.notes << tr("Mean over keys and values; evicted positions count as 0 bits.");
  if (shared) chart.notes << tr("Layers that share attention keep values alone.");
  return chart;
}

QByteArray cacheCsv(const CacheMap& map) {
  QByteArray out = "layer,kv_head,keys_of_layer,first_position,positions,held,key_bits,value_bits\r\n";
  for (const CacheMapRow& row : map.rows)
    for (int column = 0; column < map.columns(); ++column) {
      const auto c = static_cast<size_t>(column);
      if (row.held[c] == 0) continue;
      out += QByteArray::number(row.layer) + ',' + QByteArray::number(row.kvHead) + ',' + QByteArray::number(row.keysOf) + ',' + QByteArray::number(map.firstOf(column)) + ',' +
             QByteArray::number(map.widthOf(column)) + ',' + QByteArray::number(row.held[c]) + ',' + QByteArray::number(row.keyBits[c]) + ',' +
             QByteArray::number(row.valueBits[c]) + "\r\n";
    }
  return out;
}

}  // namespace winnow
