// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/icons.h"

#include <QFile>
#include <QPainter>
#include <QPixmap>
#include <QSvgRenderer>

// Resources of a static library are registered by hand, outside any namespace.
static void registerIcons() { Q_INIT_RESOURCE(icons); }

namespace winnow {

QIcon lineIcon(const QString& name, const QColor& colour, const QColor& disabled) {
  registerIcons();
  QFile file(QStringLiteral(":/icons/%1.svg").arg(name));
  if (!file.open(QIODevice::ReadOnly)) return {};
  const QByteArray source = file.readAll();
  QIcon icon;
  for (const auto& [tone, mode] : {std::pair{colour, QIcon::Normal}, std::pair{disabled, QIcon::Disabled}}) {
    QByteArray svg = source;
    svg.replace("currentColor", tone.name().toLatin1());
    QSvgRenderer renderer(svg);
    for (const int scale : {1, 2, 3}) {
      QPixmap pixmap(18 * scale, 18 * scale);
      pixmap.fill(Qt::transparent);
      QPainter painter(&pixmap);
      renderer.render(&painter);
      painter.end();
      pixmap.setDevicePixelRatio(scale);
      icon.addPixmap(pixmap, mode);
    }
  }
  return icon;
}

}  // namespace winnow
