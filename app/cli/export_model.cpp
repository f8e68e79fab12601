// SPDX-License-Identifier: GPL-3.0-or-later
// The weights of a setting as a model file.
#include <QJsonArray>
#include <cstdio>
#include <filesystem>

#include "app/cli/command.h"
#include "experiments/model_export.h"

namespace winnow::cli {

int runExportModel(const Invocation& invocation) {
  const std::string out = invocation.arguments().text("--out");
  if (out.empty()) return invocation.fail({ErrorCode::usage, "export-model needs --out.", "winnow-cli export-model --help"});
  std::error_code ignored;
  if (std::filesystem::exists(out, ignored) && !std::filesystem::is_regular_file(out, ignored) && !std::filesystem::is_directory(out, ignored))
    return invocation.fail({ErrorCode::usage, out + " is there and is not a regular file: it is not replaced.", "Choose another name."});
  const auto engine = invocation.openEngine(invocation.arguments().positional()[0]);
  if (!engine) return invocation.fail(engine.error());
  const auto effective = invocation.resolved(**engine);
  if (!effective) return invocation.fail(effective.error());
  const auto summary = exportModel(**engine, effective->requested, out, invocation.progress());
  if (!summary) return invocation.fail(summary.error());
  if (invocation.json()) {
    QJsonArray notes;
    for (const std::string& note : summary->notes) notes.append(text(note));
    return invocation.print({{"file", text(out)}, {"bytes", static_cast<qint64>(summary->bytes)}, {"settings", text(effective->config.canonical())},
                             {"copied", summary->copied}, {"blocks", summary->blocks}, {"plain", summary->plain}, {"notes", notes}});
  }
  std::printf("%s: %s; %d tensors as exact blocks, %d as plain values, %d as in the file\n", out.c_str(), bytesText(summary->bytes).c_str(), summary->blocks,
              summary->plain, summary->copied);
  for (const std::string& note : summary->notes) std::printf("%s\n", note.c_str());
  return 0;
}

}  // namespace winnow::cli
