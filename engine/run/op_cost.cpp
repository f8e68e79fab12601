// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/run/op_cost.h"

#include "engine/cache/kv_cache.h"
#include "engine/weights/store.h"

namespace winnow {
namespace {

int64_t matrixBytes(const Matrix* m) { return m ? static_cast<int64_t>(m->bytes()) : 0; }
int64_t matrixFlops(const Matrix* m, int64_t tokens) { return m ? 2 * tokens * m->rows * m->cols : 0; }
int64_t factorFlops(const ErrorFactors& e, int64_t tokens) { return matrixFlops(&e.left, tokens) + matrixFlops(&e.right, tokens); }

}  // namespace

OpTime declaredCost(const ForwardInput& input, const ModelConfig& model, int index, bool materialised, int64_t critical) {
  const Op& op = input.plan.ops[static_cast<size_t>(index)];
  const auto layer = [&]() -> const LayerWeights& { return input.weights.layers[static_cast<size_t>(op.layer)]; };
  OpTime out{index, 0, 0, 0};
  const auto n = static_cast<int64_t>(input.tokens.size());
  const auto add = [&](const Matrix* m, const ErrorFactors* error) {
    out.bytes += matrixBytes(m) + (error ? error->bytes() : 0);
    out.flops += matrixFlops(m, n) + (error ? factorFlops(*error, n) : 0);
  };
  const WeightSet& weights = input.weights;
  switch (op.kind) {
    case OpKind::embed: out.bytes = n * matrixBytes(weights.embedding) / weights.embedding->rows; break;
    case OpKind::qkv:
      add(layer().q, layer().qError);
      add(layer().k, layer().kError);
      add(layer().v, layer().vError);
      break;
    case OpKind::qOnly: add(layer().q, layer().qError); break;
    case OpKind::vOnly: add(layer().v, layer().vError); break;
    case OpKind::attend:
    case OpKind::attendReuse: {
      const bool scores = op.kind == OpKind::attend || !materialised;
      const int own = op.kind == OpKind::attend ? op.source : op.layer;
      for (const SequenceRows& sequence : input.sequences) {
        const KvCache& cache = *sequence.cache;
        const int64_t queries = sequence.count;
        const auto read = [&](int of, bool keys) { return cache.readBytes(of, keys, sequence.count); };
        out.bytes += read(own, true);
        if (sequence.count == 1) out.bytes -= cache.unread(op.layer);
        if (scores && op.leader >= 0) out.bytes += read(op.leader, true) - read(op.leader, false);
        const int64_t slots = cache.slotsRead(own, sequence.count), attended = critical < 0 ? slots : critical + queries * model.kvHeads;
        const int64_t seen = queries * attended - queries * (queries - 1) / 2 * model.kvHeads;  // query-slot pairs
        if (critical >= 0) {
          out.bytes = static_cast<int64_t>(static_cast<double>(out.bytes) * static_cast<double>(attended) / static_cast<double>(slots));
          if (op.kind == OpKind::attend) {  // what is chosen from: all keys are read once, and each block is held against the queries twice
            out.bytes += read(own, true) - read(own, false);
            out.flops += 4 * (slots - queries * model.kvHeads) / kCriticalSlots * model.groupSize() * model.headDim;
          }
        }
        out.flops += (scores ? 4 : 2) * seen * model.groupSize() * model.headDim;
      }
      break;
    }
    case OpKind::linear: op.down ? add(layer().down, layer().downError) : add(layer().o, layer().oError); break;
    case OpKind::shortcut: add(op.down ? layer().ffnShortcut : layer().attnShortcut, nullptr); break;
    case OpKind::gateUp:
      add(layer().gate, layer().gateError);
      add(layer().up, layer().upError);
      break;
    case OpKind::logits: {
      const int64_t rows = !input.sinkRows.empty() ? static_cast<int64_t>(input.sinkRows.size()) : input.sink ? n - input.sinkFrom : input.wantLogits ? 1 : 0;
      if (rows > 0) out.bytes = matrixBytes(weights.head);
      out.flops = matrixFlops(weights.head, rows);
      break;
    }
  }
  return out;
}

}  // namespace winnow
