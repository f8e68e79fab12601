// SPDX-License-Identifier: GPL-3.0-or-later
// What a sliced residual stream asks of a store beside the model's tensors: shortcuts, and a head of its own where it was the embedding.
#include <new>
#include <optional>

#include "engine/core/check.h"
#include "engine/core/device_failure.h"
#include "engine/weights/store.h"

namespace winnow {
namespace {

// Of the width alone. The directions have no memory: their ledger is a planning one and goes with them.
Bases plannedBases(const ModelConfig& model, const SliceChoice& choice) {
  struct Planned {
    Ledger uncounted{true};
    StreamBases bases;
    Planned(const ModelConfig& of, const SliceChoice& wanted) : bases(uncounted, of, slicedWidth(of.hidden, wanted.removed), wanted.key()) {}
  };
  auto planned = std::make_shared<const Planned>(model, choice);
  return {planned, &planned->bases};
}

// The stream passes through them again and again: they are never rounded to fewer than 16 bits, nor to the 8 of bf16.
Recipe shortcutRecipe(const Model& model, const Bases& bases) {
  const MasterTensor* o = model.find(TensorRole::o, 0);
  CHECK(o, model.path());
  Recipe recipe;
  recipe.format = o->type == DType::f32 ? WeightFormat{Storage::f32, 32, 0, true} : WeightFormat{Storage::f16, 16, 0, true};
  return sliced(std::move(recipe), bases);
}

// A tied head reads the last directions, the embedding makes the first: they are two matrices from here on.
struct OwnHead {
  size_t embedding;    // its place among the tensors
  MasterTensor whole;  // the same values in another role
};
std::optional<OwnHead> ownHead(const Model& model) {
  if (model.find(TensorRole::head)) return std::nullopt;
  for (size_t i = 0; i < model.tensors().size(); ++i)
    if (model.tensors()[i].role == TensorRole::tokenEmbedding) {
      OwnHead out{i, model.tensors()[i]};
      out.whole.role = TensorRole::head;
      return out;
    }
  CHECK(false, "no embedding", model.path());
  return std::nullopt;
}

}  // namespace

Result<Bases> WeightStore::streamBases(const WeightTarget& target, const Measurements& measurements, const Progress& progress) const {
  if (!target.slice) return Bases();
  if (place_->planning()) return plannedBases(model_->config(), *target.slice);
  CHECK(measurements.stream, target.slice->key());
  return measurements.stream(*target.slice, progress);
}

Status WeightStore::addShortcuts(const WeightTarget& target, const Bases& bases, WeightSet& set, ThreadPool& pool, ConvertProgress& progress) {
  const auto add = [&](size_t place, const Recipe& recipe, const MasterTensor& shape, auto&& made) -> Result<const Matrix*> {
    std::shared_ptr<const WeightVersion> version = find(place, recipe.key());
    if (!version) {
      if (progress.stopped()) return Error{ErrorCode::cancelled, "Preparing the weights was cancelled.", ""};
      try {
        auto fresh = std::make_shared<WeightVersion>();
        fresh->slice = bases;
        const MethodInputs none;
        const std::unique_ptr<SlicedTensor> values = place_->planning() ? nullptr : made();
        if (Status converted = convertInto(*fresh, {values ? values->tensor() : shape, recipe, none, pool, progress}); !converted) return converted.error();
        version = keep(place, recipe.key(), std::move(fresh));
      } catch (const std::bad_alloc&) {
        return Error{ErrorCode::resources, "Not enough memory for the shortcuts of a sliced stream.", "Choose a larger prune.slice, or a smaller model."};
      } catch (const DeviceFailure& failure) {
        return Error{ErrorCode::failed, failure.what(), ""};
      }
    }
    set.added.push_back(version);
    return &version->matrix;
  };
  const size_t tensors = model_->tensors().size();
  const Recipe recipe = shortcutRecipe(*model_, bases);
  for (int point = 0; point + 1 < bases->points(); ++point) {
    auto matrix = add(tensors + static_cast<size_t>(point), recipe, shortcutShape(*bases, point), [&] { return SlicedTensor::shortcut(*bases, point, pool); });
    if (!matrix) return matrix.error();
    LayerWeights& layer = set.layers[static_cast<size_t>(point / 2)];
    (point % 2 == 0 ? layer.attnShortcut : layer.ffnShortcut) = *matrix;
  }
  const auto head = ownHead(*model_);
  if (!head) return Done{};
  auto matrix = add(tensors + static_cast<size_t>(bases->points()), sliced(target.recipes[head->embedding], bases), slicedShape(head->whole, bases->width()),
                    [&] { return std::make_unique<SlicedTensor>(*model_, head->whole, *bases, pool); });
  if (!matrix) return matrix.error();
  set.head = *matrix;
  return Done{};
}

int64_t WeightStore::bytesOfSliced(const WeightTarget& target) const {
  const Bases bases = plannedBases(model_->config(), *target.slice);
  const auto bytes = [&](const MasterTensor& tensor, const Recipe& recipe) {
    return slices(tensor.role) ? place_->bytes(slicedShape(tensor, bases->width()), sliced(recipe, bases)) : place_->bytes(tensor, recipe);
  };
  int64_t sum = 0;
  for (size_t i = 0; i < target.recipes.size(); ++i) sum += bytes(model_->tensors()[i], target.recipes[i]);
  for (int point = 0; point + 1 < bases->points(); ++point) sum += place_->bytes(shortcutShape(*bases, point), shortcutRecipe(*model_, bases));
  if (const auto head = ownHead(*model_)) sum += bytes(head->whole, target.recipes[head->embedding]);
  return sum;
}

}  // namespace winnow
