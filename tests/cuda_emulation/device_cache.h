// SPDX-License-Identifier: GPL-3.0-or-later
// One layer's pages on the device: keys, values and positions as the attention oracle made them, or empty.
#pragma once
#include <memory>

#include "engine/cuda/ops.h"
#include "tests/cuda_emulation/harness.h"
#include "tests/engine/ops/attend_oracle.h"

namespace winnow::test {

class DeviceCache {
 public:
  // Room for `slots` in every head; nothing is written.
  DeviceCache(int kvHeads, int headDim, int pageTokens, int slots)
      : kvHeads_(kvHeads), headDim_(headDim), pageTokens_(pageTokens), pages_((slots + pageTokens - 1) / pageTokens),
        keyTable_(static_cast<size_t>(kvHeads * pages_)), valueTable_(keyTable_.size()),
        lengths_(std::vector<int32_t>(static_cast<size_t>(kvHeads))), positions_(static_cast<size_t>(kvHeads * pages_ * pageTokens)) {
    std::vector<uint64_t> keys, values;
    for (int i = 0; i < kvHeads * pages_; ++i)
      for (auto* list : {&keys, &values}) {
        pageMemory_.push_back(std::make_unique<DeviceArray<uint16_t>>(static_cast<size_t>(pageTokens * headDim)));
        list->push_back(reinterpret_cast<uint64_t>(pageMemory_.back()->data()));
      }
    keyTable_.set(keys);
    valueTable_.set(values);
  }
  explicit DeviceCache(const AttendSetup& setup)
      : DeviceCache(setup.shape.kvHeads, setup.shape.headDim, setup.shape.pageTokens, longest(setup)) {
    std::vector<int32_t> lengths, positions(positions_.size());
    for (int h = 0; h < kvHeads_; ++h) {
      const AttendHead& head = setup.heads[static_cast<size_t>(h)];
      for (size_t p = 0; p < head.keys.size(); ++p)
        for (int side = 0; side < 2; ++side) {
          const uint16_t* from = side == 0 ? head.keys[p] : head.values[p];
          page(h, static_cast<int>(p), side).set({from, from + pageTokens_ * headDim_});
        }
      lengths.push_back(setup.shape.tokens[static_cast<size_t>(h)]);
      std::copy(head.positions.begin(), head.positions.end(), positions.begin() + h * pages_ * pageTokens_);
    }
    lengths_.set(lengths);
    positions_.set(positions);
  }

  cuda::KvTables tables() const {
    return {keyTable_.data(), valueTable_.data(), pages_, pageTokens_, lengths_.data(), positions_.data(), pages_ * pageTokens_};
  }
  int32_t* lengths() const { return lengths_.data(); }
  void setLengths(const std::vector<int32_t>& lengths) { lengths_.set(lengths); }
  DeviceArray<uint16_t>& page(int head, int page, int side) { return *pageMemory_[static_cast<size_t>((head * pages_ + page) * 2 + side)]; }
  DeviceArray<int32_t>& positions() { return positions_; }
  int positionStride() const { return pages_ * pageTokens_; }
  // Slot `slot` of a head, as bits.
  std::vector<uint16_t> slot(int head, int slot, int side) {
    std::vector<uint16_t> out(static_cast<size_t>(headDim_));
    cudaMemcpy(out.data(), page(head, slot / pageTokens_, side).data() + slot % pageTokens_ * headDim_, out.size() * 2,
               cudaMemcpyDeviceToHost);
    return out;
  }

 private:
  static int longest(const AttendSetup& setup) { return *std::max_element(setup.shape.tokens.begin(), setup.shape.tokens.end()); }
  int kvHeads_, headDim_, pageTokens_, pages_;
  DeviceArray<uint64_t> keyTable_, valueTable_;
  DeviceArray<int32_t> lengths_, positions_;
  std::vector<std::unique_ptr<DeviceArray<uint16_t>>> pageMemory_;
};

}  // namespace winnow::test
