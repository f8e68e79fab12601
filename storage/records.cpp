// SPDX-License-Identifier: GPL-3.0-or-later
#include "storage/records.h"

namespace winnow::storage {

std::string_view runKindName(RunKind kind) {
  switch (kind) {
    case RunKind::generate: return "generate";
    case RunKind::evaluate: return "evaluate";
    case RunKind::bench: return "bench";
    case RunKind::attribute: return "attribute";
  }
  return "generate";
}

std::string_view runStatusName(RunStatus status) {
  switch (status) {
    case RunStatus::queued: return "queued";
    case RunStatus::running: return "running";
    case RunStatus::done: return "done";
    case RunStatus::failed: return "failed";
    case RunStatus::cancelled: return "cancelled";
    case RunStatus::interrupted: return "interrupted";
  }
  return "queued";
}

std::optional<RunKind> findRunKind(std::string_view name) {
  for (const RunKind kind : {RunKind::generate, RunKind::evaluate, RunKind::bench, RunKind::attribute})
    if (name == runKindName(kind)) return kind;
  return std::nullopt;
}

}  // namespace winnow::storage
