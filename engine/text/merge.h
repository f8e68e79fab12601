// SPDX-License-Identifier: GPL-3.0-or-later
// Greedy pairwise merging of one word's symbols: the best pair first, the leftmost of equals, until none is left.
#pragma once
#include <cstdint>
#include <queue>
#include <vector>

namespace winnow {

struct Merge {
  int64_t rank = -1;     // lower is better, negative = the two do not merge
  int32_t symbol = -1;   // what they become
};

class Merger {
 public:
  // symbols in, merged symbols out. join(left, right) -> Merge.
  template <class Join>
  void run(std::vector<int32_t>& symbols, Join&& join) {
    if (symbols.size() <= kScan)
      scan(symbols, join);
    else
      heap(symbols, join);
  }

 private:
  static constexpr size_t kScan = 48;  // up to here scanning all pairs beats a heap

  template <class Join>
  void scan(std::vector<int32_t>& symbols, Join&& join) {
    merges_.clear();
    for (size_t i = 0; i + 1 < symbols.size(); ++i) merges_.push_back(join(symbols[i], symbols[i + 1]));
    for (;;) {
      size_t best = merges_.size();
      for (size_t i = 0; i < merges_.size(); ++i)
        if (merges_[i].rank >= 0 && (best == merges_.size() || merges_[i].rank < merges_[best].rank)) best = i;
      if (best == merges_.size()) return;
      symbols[best] = merges_[best].symbol;
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
      merges_.erase(merges_.begin() + static_cast<std::ptrdiff_t>(best));
      if (best > 0) merges_[best - 1] = join(symbols[best - 1], symbols[best]);
      if (best < merges_.size()) merges_[best] = join(symbols[best], symbols[best + 1]);
    }
  }

  struct Candidate {
    Merge merge;
    int left, right;           // positions
    int32_t leftSymbol, rightSymbol;  // as they were: stale when they have changed
    bool operator<(const Candidate& other) const {
      return merge.rank != other.merge.rank ? merge.rank > other.merge.rank : left > other.left;
    }
  };

  template <class Join>
  void heap(std::vector<int32_t>& symbols, Join&& join) {
    const int n = static_cast<int>(symbols.size());
    next_.resize(symbols.size());
    previous_.resize(symbols.size());
    std::priority_queue<Candidate> queue;
    const auto offer = [&](int left, int right) {
      if (left < 0 || right >= n) return;
      const Merge merge = join(symbols[static_cast<size_t>(left)], symbols[static_cast<size_t>(right)]);
      if (merge.rank >= 0) queue.push({merge, left, right, symbols[static_cast<size_t>(left)], symbols[static_cast<size_t>(right)]});
    };
    for (int i = 0; i < n; ++i) {
      next_[static_cast<size_t>(i)] = i + 1;
      previous_[static_cast<size_t>(i)] = i - 1;
    }
    for (int i = 0; i + 1 < n; ++i) offer(i, i + 1);
    while (!queue.empty()) {
      const Candidate top = queue.top();
      queue.pop();
      int32_t& left = symbols[static_cast<size_t>(top.left)];
      int32_t& right = symbols[static_cast<size_t>(top.right)];
      if (left != top.leftSymbol || right != top.rightSymbol || next_[static_cast<size_t>(top.left)] != top.right) continue;
      left = top.merge.symbol;
      right = kGone;
      const int after = next_[static_cast<size_t>(top.right)];
      next_[static_cast<size_t>(top.left)] = after;
      if (after < n) previous_[static_cast<size_t>(after)] = top.left;
      offer(previous_[static_cast<size_t>(top.left)], top.left);
      offer(top.left, after);
    }
    std::erase(symbols, kGone);
  }

  static constexpr int32_t kGone = INT32_MIN;
  std::vector<Merge> merges_;
  std::vector<int> next_, previous_;
};

}  // namespace winnow
