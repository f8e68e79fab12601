// SPDX-License-Identifier: GPL-3.0-or-later
// The identity of a model's weights: SHA-256 of the file, or of a folder's .safetensors files in the order of their names.
#pragma once
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "engine/core/progress.h"
#include "engine/core/result.h"

namespace winnow {

Result<std::string> hashModel(const std::string& path, const Progress& progress);  // hex

// Hashes beside the window, at the lowest priority.
class ModelHasher {
 public:
  // onDone is called on the hashing thread, with the path and the hash; not when stopped or when the file can't be read.
  void start(const std::string& path, std::function<void(const std::string& path, const std::string& hash)> onDone);
  void stop();                                       // waits
  std::string hashOf(const std::string& path) const;  // "" while unknown

 private:
  mutable std::mutex mutex_;
  std::string path_, hash_;
  std::jthread thread_;
};

}  // namespace winnow
