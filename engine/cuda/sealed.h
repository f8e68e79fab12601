// SPDX-License-Identifier: GPL-3.0-or-later
// Sealed pages (engine/cache/page_form.h) on the device: made, opened, and unpacked for attention. The host plans them
// (engine/cache/seal.h); the bytes are the CPU's.
#pragma once
#include "engine/cache/page_form.h"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

struct PageTask {           // one page to make from slots of a head
  uint64_t to = 0;          // address of fresh memory
  int32_t keys = 0;         // 1: of keys, 0: of values
  int32_t firstEntry = 0;   // where the head's pages begin in the tables
  int32_t firstSlot = 0;    // where its slots begin in the list
  int32_t count = 0;        // of slots; a sealed page has pageTokens
  PageForm form;            // of the page to make
  int8_t from[kMostSets] = {};  // set i keeps the codes and scales of that set of its slots' page; -1: it is made anew
};

struct PageArgs {
  const uint64_t *keys = nullptr, *values = nullptr;         // [entries] addresses of the pages as they are
  const PageForm *keyForms = nullptr, *valueForms = nullptr;  // [entries]
  int pageTokens = 0, headDim = 0;
  const int32_t* slots = nullptr;
  const PageTask* tasks = nullptr;
};
void sealPages(Stream stream, const PageArgs& args, int tasks);
void openPages(Stream stream, const PageArgs& args, int tasks, bool hadamard);  // f16 rows, or their products with a Hadamard matrix

// Tables of f16 pages for attention of many queries: pages that are so already, others unpacked into `rows`. `mostTokens` bounds the
// lengths, `added` as in AttendArgs.
struct UnpackArgs {
  KvTables kv;
  int kvHeads = 0, headDim = 0, added = 0, mostTokens = 0;
  void* rows = nullptr;        // unpackedBytes: f16 [2, kvHeads, pages, pageTokens, headDim]
  uint64_t* tables = nullptr;  // [2, kvHeads, pages]
};
size_t unpackedPages(int kvHeads, int pageTokens, int mostTokens);  // of keys and values
KvTables unpackPages(Stream stream, const UnpackArgs& args);

// rotateAndStore, and q and k are multiplied by a Hadamard matrix, as the last thing before they are stored.
void rotateAndStoreHadamard(Stream stream, const StoreArgs& args);

}  // namespace winnow::cuda
