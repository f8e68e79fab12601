// SPDX-License-Identifier: GPL-3.0-or-later
// The sampler of engine/run/sampler.h in one block, without sorting. Every filter keeps a prefix of the order (logit descending, id
// ascending), so a cut (key, how many of those equal to it) says what is left, and both a cut and the draw are found by descending the
// bits of the key with histograms of 256 bins.
// Probabilities are integers, 2^44 times exp((x - largest) / temperature): sums of integers have no order, so atomics cannot change the
// result. The CPU sums doubles; the two differ by some 1e-11 of the mass, which moves a draw about as often.
#pragma once
#include "engine/cuda/logits_row.cuh"

namespace winnow::cuda {

using Mass = unsigned long long;
constexpr int kMassBits = 44;

struct SampleJob {
  Pointer<const float> logits;
  Pointer<const int32_t> history;
  Pointer<const uint64_t> position;
  Pointer<float> adjusted;  // [vocab] after the penalty
  Pointer<Mass> masses;     // [vocab]
  Pointer<int32_t> token;
  uint64_t seed = 0;
  float temperature = 0, topP = 1, minP = 0, penalty = 1;
  int vocab = 0, historyCount = 0, topK = 0;
};

struct Cut {  // keys above `key` are in, and the first `ties` equal to it
  uint32_t key = 0, ties = 0;
};

struct SampleScratch {
  SharedArray<Mass, 256>& bins;
  SharedArray<Mass, 2>& found;  // bin, mass before it
  SharedArray<uint64_t, kLogitsWarps>& best;
  SharedArray<Mass, kLogitsWarps>& sums;
};

// Philox4x32-10 (Salmon et al. 2011), as engine/run/sampler.cpp draws.
__device__ inline double uniformAt(uint64_t seed, uint64_t position) {
  uint32_t c[4] = {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0};
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint32_t aHigh = __umulhi(0xD2511F53u, c[0]), aLow = 0xD2511F53u * c[0], bHigh = __umulhi(0xCD9E8D57u, c[2]),
                   bLow = 0xCD9E8D57u * c[2];
    const uint32_t next[4] = {bHigh ^ c[1] ^ k0, bLow, aHigh ^ c[3] ^ k1, aLow};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return static_cast<double>((static_cast<uint64_t>(c[0]) << 32 | c[1]) >> 11) * 0x1p-53;
}

__device__ inline double probabilityOf(const SampleJob& job, float x, float largest) {
  return exp((static_cast<double>(x) - static_cast<double>(largest)) / static_cast<double>(job.temperature));
}
__device__ inline Mass massOf(const SampleJob& job, float x, float largest) {
  return static_cast<Mass>(rint(probabilityOf(job, x, largest) * static_cast<double>(1ull << kMassBits)));
}

// CTRL (Keskar et al. 2019): divide what is positive, multiply what is negative; each token of the history once.
__device__ inline void penalize(const SampleJob& job) {
  for (int i = static_cast<int>(threadIdx.x); i < job.vocab; i += kLogitsThreads) job.adjusted[i] = job.logits[i];
  __syncthreads();
  if (job.penalty == 1.0f) return;
  const int mine = static_cast<int>(threadIdx.x);
  if (mine < job.historyCount) {
    const int id = job.history[mine];
    bool first = id >= 0 && id < job.vocab;
    for (int i = 0; i < mine && first; ++i) first = job.history[i] != id;
    if (first) {
      const float x = job.adjusted[id];
      job.adjusted[id] = x > 0 ? x / job.penalty : x * job.penalty;
    }
  }
  __syncthreads();
}

// The bin, from the largest down, in which the running sum reaches `target`; by the first warp.
__device__ inline void findBin(Mass before, Mass target, const SampleScratch& scratch) {
  const int lane = static_cast<int>(threadIdx.x);
  Mass mine = 0;
  for (int i = 0; i < 8; ++i) mine += scratch.bins[255 - lane * 8 - i];
  Mass upTo = mine;
#pragma unroll
  for (unsigned d = 1; d < 32; d *= 2) {
    const Mass other = __shfl_up_sync(kAllLanes, upTo, d);
    if (lane >= static_cast<int>(d)) upTo += other;
  }
  upTo += before;
  Mass sum = upTo - mine;
  if (sum >= target || upTo < target) return;
  int bin = 255 - lane * 8;
  while (sum + scratch.bins[bin] < target) sum += scratch.bins[bin--];
  scratch.found[0] = static_cast<Mass>(bin);
  scratch.found[1] = sum;
}

struct Place {
  uint32_t key;  // at which the running sum reaches the target
  Mass before;   // sum over the keys above it
};
// `counts`: every key weighs 1, else its mass. The target must be within the sum over the cut.
__device__ inline Place descend(const SampleJob& job, float largest, Cut cut, bool counts, Mass target, const SampleScratch& scratch) {
  Place place{0, 0};
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (threadIdx.x < 256) scratch.bins[static_cast<int>(threadIdx.x)] = 0;
    __syncthreads();
    const auto inside = [&](uint32_t key) { return shift == 24 || key >> (shift + 8) == place.key; };
    for (int i = static_cast<int>(threadIdx.x); i < job.vocab; i += kLogitsThreads) {
      const uint32_t key = orderOf(job.adjusted[i]);
      if (key <= cut.key || !inside(key)) continue;
      const Mass mass = counts ? Mass{1} : static_cast<Mass>(job.masses[i]);
      if (mass) atomicAdd(scratch.bins.pointer() + (key >> shift & 255), mass);
    }
    if (threadIdx.x == 0 && cut.ties > 0 && inside(cut.key)) {
      const Mass each = counts ? Mass{1} : massOf(job, floatOfOrder(cut.key), largest);
      atomicAdd(scratch.bins.pointer() + (cut.key >> shift & 255), each * cut.ties);
    }
    __syncthreads();
    if (threadIdx.x < 32) findBin(place.before, target, scratch);
    __syncthreads();
    place = {place.key << 8 | static_cast<uint32_t>(scratch.found[0]), scratch.found[1]};
  }
  return place;
}

__device__ inline Mass sumOfCut(const SampleJob& job, float largest, Cut cut, const SampleScratch& scratch) {
  Mass sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < job.vocab; i += kLogitsThreads)
    if (orderOf(job.adjusted[i]) > cut.key) sum += job.masses[i];
  __syncthreads();  // the scratch may still be read from the last sum
  sum = blockSum<kLogitsWarps>(sum, scratch.sums);
  return cut.ties ? sum + massOf(job, floatOfOrder(cut.key), largest) * cut.ties : sum;
}

// The n-th (from 1) token whose key is `key`, in the order of the ids: threads count in consecutive ranges.
__device__ inline void writeTie(const SampleJob& job, uint32_t key, Mass n, const SampleScratch& scratch) {
  const int each = (job.vocab + kLogitsThreads - 1) / kLogitsThreads, begin = static_cast<int>(threadIdx.x) * each,
            end = min(begin + each, job.vocab), lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  Mass mine = 0;
  for (int i = begin; i < end; ++i) mine += orderOf(job.adjusted[i]) == key;
  Mass upTo = mine;
#pragma unroll
  for (unsigned d = 1; d < 32; d *= 2) {
    const Mass other = __shfl_up_sync(kAllLanes, upTo, d);
    if (lane >= static_cast<int>(d)) upTo += other;
  }
  __syncthreads();
  if (lane == 31) scratch.sums[warp] = upTo;
  __syncthreads();
  for (int w = 0; w < warp; ++w) upTo += scratch.sums[w];
  Mass left = n - (upTo - mine);
  if (upTo - mine >= n || upTo < n) return;
  for (int i = begin; i < end; ++i)
    if (orderOf(job.adjusted[i]) == key && --left == 0) job.token[0] = i;
}

// The smallest key whose probability is at least minP times the largest.
__device__ inline Cut cutAtLeast(const SampleJob& job, float largest, Cut cut, const SampleScratch& scratch) {
  uint64_t least = 0;
  for (int i = static_cast<int>(threadIdx.x); i < job.vocab; i += kLogitsThreads) {
    const float x = job.adjusted[i];
    if (!(probabilityOf(job, x, largest) < static_cast<double>(job.minP))) {
      const uint64_t inverse = 0xffffffffu - orderOf(x);
      least = inverse > least ? inverse : least;
    }
  }
  __syncthreads();
  const uint32_t key = 0xffffffffu - static_cast<uint32_t>(blockBest(least, scratch.best));
  return key > cut.key ? Cut{key - 1, 0} : cut;  // all ties of that key are in
}

__global__ void __launch_bounds__(kLogitsThreads) sampleToken(const __grid_constant__ SampleJob job) {
  __shared__ SharedArray<Mass, 256> bins;
  __shared__ SharedArray<Mass, 2> found;
  __shared__ SharedArray<uint64_t, kLogitsWarps> best;
  __shared__ SharedArray<Mass, kLogitsWarps> sums;
  const SampleScratch scratch{bins, found, best, sums};
  penalize(job);
  const uint64_t top = bestOfRow(job.adjusted, job.vocab, best);
  if (job.temperature <= 0) {
    if (threadIdx.x == 0) job.token[0] = idOfRank(top);
    return;
  }
  const float largest = floatOfOrder(static_cast<uint32_t>(top >> 32));
  for (int i = static_cast<int>(threadIdx.x); i < job.vocab; i += kLogitsThreads) job.masses[i] = massOf(job, job.adjusted[i], largest);
  __syncthreads();
  Cut cut;
  if (job.topK > 0 && job.topK < job.vocab) {
    const Place place = descend(job, largest, cut, true, static_cast<Mass>(job.topK), scratch);
    cut = {place.key, static_cast<uint32_t>(static_cast<Mass>(job.topK) - place.before)};
  }
  const auto reach = [&](Mass target, Mass& ties) {
    const Place place = descend(job, largest, cut, false, target, scratch);
    const Mass each = massOf(job, floatOfOrder(place.key), largest);
    ties = (target - place.before + each - 1) / each;
    return place.key;
  };
  if (job.topP < 1.0f) {
    const double wanted = ceil(static_cast<double>(job.topP) * static_cast<double>(sumOfCut(job, largest, cut, scratch)));
    Mass ties;
    const uint32_t key = reach(wanted < 1 ? Mass{1} : static_cast<Mass>(wanted), ties);
    cut = {key, static_cast<uint32_t>(ties)};
  }
  if (job.minP > 0.0f) cut = cutAtLeast(job, largest, cut, scratch);
  const double total = static_cast<double>(sumOfCut(job, largest, cut, scratch));
  Mass n;
  const uint32_t key = reach(static_cast<Mass>(uniformAt(job.seed, job.position[0]) * total) + 1, n);
  writeTie(job, key, n, scratch);
}

}  // namespace winnow::cuda
