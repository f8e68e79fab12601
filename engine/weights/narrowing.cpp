// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/narrowing.h"

#include <algorithm>
#include <atomic>
#include <functional>

#include "engine/core/check.h"
#include "engine/recover/channel_refit.h"
#include "engine/recover/method.h"
#include "engine/weights/constants.h"

namespace winnow {
namespace {

constexpr int kRows = 16;

Error cancelled() { return {ErrorCode::cancelled, "Preparing the weights was cancelled.", ""}; }

// Gives `work` rows of the master with their columns that stay: whole [count, all], rows [count, kept]. False when stopped.
bool eachRows(const MasterTensor& master, NarrowedTensor& narrow, ThreadPool& pool, const Progress& progress,
              const std::function<void(float* whole, float* rows, int count)>& work) {
  std::atomic<int64_t> next{0};
  const int64_t band = master.transposed ? 8 * kRows : kRows;  // as it is read from the file
  pool.run([&](int, int) {
    std::vector<float> whole(static_cast<size_t>(band * master.cols));
    for (int64_t first; (first = next.fetch_add(band)) < master.rows && !progress.stopped();) {
      const int64_t count = std::min(band, master.rows - first);
      Model::decodeRows(master, first, count, whole.data());
      for (int64_t r = 0; r < count; r += kRows)
        work(whole.data() + r * master.cols, narrow.values().data() + (first + r) * narrow.tensor().cols, static_cast<int>(std::min<int64_t>(kRows, count - r)));
    }
  });
  return !progress.stopped();
}

}  // namespace

void narrowColumns(std::vector<SuperWeight>& weights, std::span<const int> kept) {
  std::erase_if(weights, [&](const SuperWeight& weight) { return !std::ranges::binary_search(kept, weight.column); });
  for (SuperWeight& weight : weights) weight.column = static_cast<int>(std::ranges::lower_bound(kept, weight.column) - kept.begin());
}

Result<double> refitColumns(const MasterTensor& whole, const Recipe& recipe, InputPreparer& preparer, ThreadPool& pool, const Progress& progress,
                            NarrowedTensor& narrow) {
  const RecoveryMethod* method = findRecoveryMethod(recipe.refit);
  CHECK(method && recipe.kept && !narrowsRows(whole.role), recipe.refit, whole.fileName);
  if (!method->prepare) return recipe.refitDamping;
  const LinearInput input = linearInputOf(whole.role);
  const std::vector<int>& kept = recipe.kept->list;
  const SecondMoments& moments = preparer.wholeMoments(whole.layer, input, method->needs.centred);
  if (method->refits) {
    auto left = preparer.prepare(whole.layer, input, {.moments = true, .factor = true, .centred = method->needs.centred}, {recipe.refitDamping, false});
    if (!left) return left.error();
    const ChannelRefit refit(moments, kept, *left->moments, *left->factor, pool);
    if (!eachRows(whole, narrow, pool, progress, [&](const float* all, float* rows, int count) { refit.apply(all, rows, count); })) return cancelled();
    return left->factor->damping();
  }
  MethodInput statistics;
  statistics.moments = &moments;
  const auto recovery = method->prepare({static_cast<int>(whole.cols), statistics, recipe.refitDamping, &pool});
  const auto cols = static_cast<size_t>(whole.cols), left = kept.size();
  const bool done = eachRows(whole, narrow, pool, progress, [&](const float* all, float* rows, int count) {
    std::vector<float> pruned(static_cast<size_t>(count) * cols);
    for (size_t r = 0; r < static_cast<size_t>(count); ++r)
      for (size_t k = 0; k < left; ++k) pruned[r * cols + static_cast<size_t>(kept[k])] = rows[r * left + k];
    recovery->apply(all, pruned.data(), count);
    for (size_t r = 0; r < static_cast<size_t>(count); ++r)
      for (size_t k = 0; k < left; ++k) rows[r * left + k] = pruned[r * cols + static_cast<size_t>(kept[k])];
  });
  if (!done) return cancelled();
  return recipe.refitDamping;
}

std::vector<double> goneOutputs(const MasterTensor& whole, const MasterTensor& left, const InputPreparer& preparer, ThreadPool& pool, const Progress& progress) {
  const LinearInput input = linearInputOf(whole.role);
  std::vector<double> gone = meanOutputs(whole, preparer.wholeMeans(whole.layer, input), pool, progress);
  const std::vector<double> made = meanOutputs(left, preparer.means(whole.layer, input), pool, progress);
  for (size_t r = 0; r < gone.size(); ++r) gone[r] -= made[r];
  return gone;
}

}  // namespace winnow
