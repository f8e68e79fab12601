// SPDX-License-Identifier: GPL-3.0-or-later
// Opening a session may wait for another program's lock, for seconds. Here the window goes on drawing meanwhile.
#pragma once
#include <QString>
#include <memory>

#include "storage/session_file.h"

namespace winnow {

storage::Result<std::shared_ptr<storage::SessionFile>> openSessionFile(const QString& path, storage::SessionFile::Mode mode,
                                                                      storage::OpenReport* report = nullptr);

}  // namespace winnow
