// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/model_hash.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <vector>

#include "engine/core/sha256.h"

namespace winnow {
namespace {

namespace fs = std::filesystem;
constexpr size_t kBlock = size_t{1} << 20;

std::vector<fs::path> weightFiles(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return {path};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path, ignored))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  std::ranges::sort(files);
  return files;
}

}  // namespace

Result<std::string> hashModel(const std::string& path, const Progress& progress) {
  const std::vector<fs::path> files = weightFiles(path);
  double all = 1, done = 0;
  std::error_code ignored;
  for (const fs::path& file : files) all += static_cast<double>(fs::file_size(file, ignored));
  Sha256 sha;
  std::vector<char> block(kBlock);
  for (const fs::path& file : files) {
    std::ifstream in(file, std::ios::binary);
    if (!in) return Error{ErrorCode::failed, file.string() + " can't be read for its hash.", ""};
    while (in.read(block.data(), static_cast<std::streamsize>(block.size())) || in.gcount() > 0) {
      if (progress.stopped()) return Error{ErrorCode::cancelled, "Hashing was stopped.", ""};
      sha.update(block.data(), static_cast<size_t>(in.gcount()));
      done += static_cast<double>(in.gcount());
      progress(done / all, "hashing the model");
    }
  }
  return sha.hex();
}

void ModelHasher::start(const std::string& path, std::function<void(const std::string&, const std::string&)> onDone) {
  stop();
  thread_ = std::jthread([this, path, onDone = std::move(onDone)](const std::stop_token& stopped) {
    setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 19);  // of this thread alone
    const auto hash = hashModel(path, {{}, stopped});
    if (!hash) return;
    {
      std::scoped_lock lock(mutex_);
      path_ = path;
      hash_ = *hash;
    }
    onDone(path, *hash);
  });
}

void ModelHasher::stop() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  thread_.join();
}

std::string ModelHasher::hashOf(const std::string& path) const {
  std::scoped_lock lock(mutex_);
  return path == path_ ? hash_ : std::string();
}

}  // namespace winnow
