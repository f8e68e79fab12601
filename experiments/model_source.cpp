// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/model_source.h"

#include <QFileInfo>

#include "winnow_build_info.h"

namespace winnow {
namespace {

QString executableFolder() { return QFileInfo(QFile::symLinkTarget(QStringLiteral("/proc/self/exe"))).absolutePath(); }

}  // namespace

std::string findResource(const std::string& relative) {
  const QString name = QString::fromStdString(relative);
  for (const QString& folder : {executableFolder() + QStringLiteral("/resources"), QStringLiteral(WINNOW_INSTALL_PREFIX "/share/winnow"), QStringLiteral(WINNOW_SOURCE_DIR "/resources")})
    if (const QString path = folder + QLatin1Char('/') + name; QFileInfo::exists(path)) return path.toStdString();
  return {};
}

bool isBundledModel(std::string_view name) { return name == "starter" || name == "starter-proxy"; }

Result<std::string> resolveModel(const std::string& nameOrPath) {
  if (!isBundledModel(nameOrPath)) return nameOrPath;
  const std::string file = nameOrPath == "starter" ? "starter/starter.gguf" : "starter/proxy.gguf";
  if (std::string path = findResource(file); !path.empty()) return path;
  return Error{ErrorCode::badInput, "the model \"" + nameOrPath + "\" is not there: no resources/" + file + " beside the program or in its source tree.",
               "Restore that file, or open a model of your own."};
}

}  // namespace winnow
