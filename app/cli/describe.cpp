// SPDX-License-Identifier: GPL-3.0-or-later
// Commands that describe and do not run: knobs, info, plan, tokenize.
#include <QJsonArray>
#include <cstdio>

#include "app/cli/command.h"
#include "experiments/model_source.h"

namespace winnow::cli {

int runKnobs(const Invocation& invocation) {
  std::shared_ptr<const Model> model;
  if (!invocation.arguments().positional().empty()) {
    const auto source = resolveModel(invocation.arguments().positional()[0]);
    if (!source) return invocation.fail(source.error());
    auto opened = Model::open(*source);
    if (!opened) return invocation.fail(opened.error());
    model = *opened;
  }
  QJsonArray array;
  std::vector<std::vector<std::string>> rows{{"Knob", "Default", "Values", "Applies", "What it does"}};
  for (const Knob& knob : Schema::instance().knobs()) {
    QJsonObject object{{"name", text(knob.name)}, {"title", text(knob.title)}, {"group", text(knob.group)}, {"help", text(knob.help)}, {"paper", text(knob.paper)},
                       {"unit", text(knob.unit)}, {"type", QString::fromUtf8(knobTypeName(knob.type))}, {"default", jsonValue(knob.defaultValue)},
                       {"apply", QString::fromUtf8(applyName(knob.apply))}, {"enabled_if", text(knob.enabledIf)}};
    std::string values;
    if (!knob.choices.empty()) {
      QJsonArray choices;
      for (const std::string& choice : knob.choices) {
        choices.append(text(choice));
        values += (values.empty() ? "" : " ") + choice;
      }
      object["choices"] = choices;
    } else if (knob.type == KnobType::integer || knob.type == KnobType::real) {
      object["minimum"] = knob.minimum;
      object["maximum"] = knob.maximum;
      object["step"] = knob.step;
      values = toText(KnobValue(knob.minimum)) + " to " + toText(KnobValue(knob.maximum));
    }
    const auto refused = model && knob.refuses ? knob.refuses(model->config(), knob.defaultValue) : std::nullopt;
    if (refused) object["refused"] = text(*refused);
    array.append(object);
    rows.push_back({knob.name, toText(knob.defaultValue), values, std::string(applyName(knob.apply)), refused ? "not on this model: " + *refused : knob.help});
  }
  if (invocation.json()) return invocation.print({{"knobs", array}});
  printTable(rows);
  return 0;
}

int runInfo(const Invocation& invocation) {
  const auto source = resolveModel(invocation.arguments().positional()[0]);
  if (!source) return invocation.fail(source.error());
  const auto opened = Model::open(*source);
  if (!opened) return invocation.fail(opened.error());
  const Model& model = **opened;
  const ModelConfig& c = model.config();
  const VocabData& v = model.vocab();
  const std::string tokenizer = v.kind == VocabData::Kind::none ? "none" : v.kind == VocabData::Kind::spm ? "SentencePiece-BPE" : "byte-level BPE" + (v.pre.empty() ? "" : " (" + v.pre + ")");
  if (invocation.json()) {
    QJsonArray notes;
    for (const std::string& note : model.notes()) notes.append(text(note));
    return invocation.print({{"architecture", text(c.architecture)}, {"name", text(c.name)}, {"parameters", static_cast<qint64>(c.parameters)}, {"layers", c.layers},
                             {"hidden", c.hidden}, {"heads", c.heads}, {"kv_heads", c.kvHeads}, {"head_dim", c.headDim}, {"ffn", c.ffn}, {"vocab", c.vocab},
                             {"context", c.context}, {"tokenizer", text(tokenizer)}, {"file_bytes", static_cast<qint64>(model.fileBytes())}, {"format", text(model.format())},
                             {"types", text(model.typeSummary())}, {"tied_head", c.tiedHead}, {"sliding_window", c.slidingWindow}, {"notes", notes}});
  }
  printTable({{"File", *source},
              {"Size", bytesText(model.fileBytes()) + ", " + model.format()},
              {"Name", c.name.empty() ? "-" : c.name},
              {"Architecture", c.architecture},
              {"Parameters", fixed(static_cast<double>(c.parameters) / 1e6, 2) + " M"},
              {"Types", model.typeSummary()},
              {"Layers", std::to_string(c.layers)},
              {"Hidden", std::to_string(c.hidden) + ", feed-forward " + std::to_string(c.ffn)},
              {"Heads", std::to_string(c.heads) + " query, " + std::to_string(c.kvHeads) + " key-value, " + std::to_string(c.headDim) + " wide"},
              {"Vocabulary", std::to_string(c.vocab) + " tokens, " + tokenizer},
              {"Context", std::to_string(c.context) + " tokens"}});
  for (const std::string& note : model.notes()) std::printf("%s\n", note.c_str());
  return 0;
}

int runPlan(const Invocation& invocation) {
  const auto context = invocation.arguments().integer("--context", 0, 1, 1 << 24);
  if (!context) return invocation.fail(context.error());
  const auto engine = invocation.openEngine(invocation.arguments().positional()[0]);
  if (!engine) return invocation.fail(engine.error());
  const auto effective = invocation.resolved(**engine);
  if (!effective) return invocation.fail(effective.error());
  SessionOptions options;
  options.context = static_cast<int>(*context);
  const int tokens = *context > 0 ? options.context : std::min((*engine)->model().config().context, 4096);
  int64_t promptCache = 0;
  const auto memory = (*engine)->plan(effective->requested, options, tokens, &promptCache);
  if (!memory) return invocation.fail(memory.error());
  if (invocation.json()) return invocation.print({{"context", tokens}, {"memory", memoryJson(*memory)}, {"prompt_cache", static_cast<qint64>(promptCache)}});
  std::vector<std::vector<std::string>> rows{{"Memory with a full cache of " + std::to_string(tokens) + " tokens", ""}};
  int64_t total = 0;
  for (size_t i = 0; i < memory->size(); ++i) {
    total += (*memory)[i];
    if ((*memory)[i] > 0) rows.push_back({std::string(memoryTagName(static_cast<MemoryTag>(i))), bytesText((*memory)[i])});
  }
  rows.push_back({"total", bytesText(total)});
  if (promptCache > (*memory)[static_cast<size_t>(MemoryTag::kv)]) rows.push_back({"kv, at most, while they are read as one prompt", bytesText(promptCache)});
  printTable(rows);
  return 0;
}

int runTokenize(const Invocation& invocation) {
  if (!invocation.arguments().has("--text")) return invocation.fail({ErrorCode::usage, "tokenize needs --text FILE or --text -.", ""});
  const auto source = resolveModel(invocation.arguments().positional()[0]);
  if (!source) return invocation.fail(source.error());
  auto vocab = Model::openVocab(*source);
  if (!vocab) return invocation.fail(vocab.error());
  const auto tokenizer = Tokenizer::create(std::move(*vocab));
  if (!tokenizer) return invocation.fail(tokenizer.error());
  const auto input = readText(invocation.arguments().text("--text"));
  if (!input) return invocation.fail(input.error());
  const std::vector<int32_t> ids = (*tokenizer)->encode(*input, !invocation.arguments().has("--no-special"), true);
  if (invocation.json()) {
    QJsonArray tokens, pieces;
    for (int32_t id : ids) {
      tokens.append(id);
      pieces.append(text((*tokenizer)->piece(id, true)));
    }
    return invocation.print({{"tokens", tokens}, {"pieces", pieces}});
  }
  for (int32_t id : ids) {
    std::string shown;
    for (char c : (*tokenizer)->piece(id, true)) shown += c == '\n' ? "\\n" : c == '\t' ? "\\t" : std::string(1, c);
    std::printf("%7d  %s\n", id, shown.c_str());
  }
  return 0;
}

}  // namespace winnow::cli
