// SPDX-License-Identifier: GPL-3.0-or-later
// An attribution of ten sentences, of which the last names what the response says.
#pragma once
#include "engine/attribute/attribute.h"

namespace winnow::test {

inline AttributeRequest storyRequest(const std::string& method) {
  AttributeRequest request;
  request.context =
      "Lily had a red ball. Tom had a blue car. They went to the park. The sun was warm. Lily threw the ball to Tom. "
      "Tom ran and fell. He did not cry. Lily gave him a hug. A dog came to them. The dog took the ball.";
  request.question = "Tom was sad. He said, \"The dog took the";
  request.response = " ball!\"";
  request.method = method;
  return request;
}

}  // namespace winnow::test
