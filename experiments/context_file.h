// SPDX-License-Identifier: GPL-3.0-or-later
// Where the sources of an attribution come from: a text, a Markdown file, a JSONL of passages; and JSONL sets of questions over them.
#pragma once
#include <QString>
#include <optional>
#include <string>
#include <vector>

#include "engine/attribute/attribute.h"

namespace winnow {

// {"id"?, "title"?, "text"} a line. The title labels the passage; only its text is read by the model.
struct Passage {
  std::string id, title, text;
  bool supporting = false;  // of a data set: the answer rests on it
};

// A text with the places of its passages. A file without passages has none: its headings are its documents (splitDocuments).
struct ContextText {
  std::string text;
  std::vector<Document> documents;
};

ContextText joinPassages(const std::vector<Passage>& passages);  // a blank line between two
Result<std::vector<Passage>> readPassages(const QString& path);  // errors name the line
bool holdsPassages(const QString& path);                         // by its name: .jsonl, .ndjson
Result<ContextText> readContext(const QString& path);            // either kind of file

// A line of a set: {context, question, response?, title?, id?}, the context a text or a list of passages; or HotpotQA's {question_text,
// contexts: [{paragraph_text, title, is_supporting}]}.
struct Question {
  std::string id, question;
  std::optional<std::string> response;
  std::string context;             // a text, or
  std::vector<Passage> passages;   // a list
};
Result<std::vector<Question>> readQuestions(const QString& path, int limit);

}  // namespace winnow
