// SPDX-License-Identifier: GPL-3.0-or-later
// What else changes where channels of a block go.
#pragma once
#include <span>
#include <vector>

#include "engine/weights/method_input.h"
#include "engine/weights/narrowed_tensor.h"
#include "engine/weights/recipe.h"

namespace winnow {

// Super weights of a down projection in the columns that are left of it; those whose column went are gone.
void narrowColumns(std::vector<SuperWeight>& weights, std::span<const int> kept);

// Fits the columns of `narrow`, which are those of the o or down projection `whole` that stay, as recipe.refit says. The damping it took, which is more
// than recipe.refitDamping where the moments had no inverse with that. Errors: cancelled, moments that can't be factored. Throws std::bad_alloc.
Result<double> refitColumns(const MasterTensor& whole, const Recipe& recipe, InputPreparer& preparer, ThreadPool& pool, const Progress& progress,
                            NarrowedTensor& narrow);

// What the columns that went gave the outputs on average, less what a refit of those that stay makes up for: [rows]; not all of it when stopped.
std::vector<double> goneOutputs(const MasterTensor& whole, const MasterTensor& left, const InputPreparer& preparer, ThreadPool& pool, const Progress& progress);

}  // namespace winnow
