// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/model_source.h"

#include <QDir>
#include <QFileInfo>
#include <QStandardPaths>

#include "engine/model/synthesize.h"
#include "winnow_build_info.h"

namespace winnow {
namespace {

QString executableFolder() { return QFileInfo(QFile::symLinkTarget(QStringLiteral("/proc/self/exe"))).absolutePath(); }

Result<ModelSource> synthesizedStarter(const Progress& progress) {
  const QString folder = QStandardPaths::writableLocation(QStandardPaths::GenericCacheLocation) + QStringLiteral("/winnow");
  const QString path = folder + QStringLiteral("/starter-random-v1.gguf");
  if (QFileInfo::exists(path)) return ModelSource{path.toStdString(), true};
  if (!QDir().mkpath(folder))
    return Error{ErrorCode::failed, "the folder " + folder.toStdString() + " can't be made for the starter model.", "Check its permissions, or open a model file."};
  for (const NamedShape& shape : namedShapes())
    if (shape.name == "starter") {
      const Status written = synthesize(shape, "bf16", 1, path.toStdString(), progress);
      if (!written) return written.error();
      return ModelSource{path.toStdString(), true};
    }
  return Error{ErrorCode::failed, "no starter model comes with this build.", "Open a model file."};
}

}  // namespace

std::string findResource(const std::string& relative) {
  const QString name = QString::fromStdString(relative);
  for (const QString& folder : {executableFolder() + QStringLiteral("/resources"), QStringLiteral(WINNOW_INSTALL_PREFIX "/share/winnow"), QStringLiteral(WINNOW_SOURCE_DIR "/resources")})
    if (const QString path = folder + QLatin1Char('/') + name; QFileInfo::exists(path)) return path.toStdString();
  return {};
}

Result<ModelSource> resolveModel(const std::string& nameOrPath, const Progress& progress) {
  if (nameOrPath == "starter-proxy") {
    if (const std::string shipped = findResource("starter/proxy.gguf"); !shipped.empty()) return ModelSource{shipped, false};
    return Error{ErrorCode::badInput, "no starter proxy comes with this build.", "Name a model file, or leave the proxy out."};
  }
  if (nameOrPath != "starter") return ModelSource{nameOrPath, false};
  if (const std::string shipped = findResource("starter/starter.gguf"); !shipped.empty()) return ModelSource{shipped, false};
  return synthesizedStarter(progress);
}

}  // namespace winnow
