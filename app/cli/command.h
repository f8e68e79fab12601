// SPDX-License-Identifier: GPL-3.0-or-later
// What all commands share: the registry, opening a model, reporting errors, progress, Ctrl-C.
#pragma once
#include <QJsonObject>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "app/cli/arguments.h"
#include "engine/run/engine.h"
#include "storage/session_file.h"

namespace winnow::cli {

// One run of a command. Answers are exit codes (DESIGN §6), which are the numbers of ErrorCode.
class Invocation {
 public:
  Invocation(std::string command, Arguments arguments, std::stop_token stop)
      : command_(std::move(command)), arguments_(std::move(arguments)), stop_(std::move(stop)) {}

  const Arguments& arguments() const { return arguments_; }
  bool json() const { return arguments_.has("--json"); }
  Progress progress() const;                  // a line on stderr, only when that is a terminal
  int fail(const Error& error) const;         // one line on stderr; with --json also the error object
  int failBeside(QJsonObject partial, const Error& error) const;  // the same, with what was done
  int stopped(QJsonObject partial) const;     // Ctrl-C: what there is, with the error beside it
  int print(const QJsonObject& object) const; // the object, and 0
  void warn(const std::string& text) const;   // a line on stderr, once for each text

  // One warning where the engine will do or did something else than was asked for; with --strict the error.
  Status tellAdjustments(const std::vector<Adjustment>& adjustments) const;
  void tellIdle(const Effective& effective) const;  // warns of what was set and can't act beside the rest

  Result<std::vector<std::pair<std::string, KnobValue>>> settings(const std::string& option = "--set") const;  // in the order given
  Result<Config> config() const;                // of the settings
  Result<EngineOptions> engineOptions() const;  // --device, --threads
  Result<std::shared_ptr<Engine>> openEngine(const std::string& model) const;
  // What --set comes to on this engine, told as tellAdjustments() does.
  Result<Effective> resolved(const Engine& engine) const;
  // A session under --set, with --context when the command has it. Warns, or with --strict fails, where the engine differs.
  Result<std::unique_ptr<Session>> openSession(Engine& engine, int context = 0) const;

 private:
  std::string command_;
  Arguments arguments_;
  std::stop_token stop_;
  mutable std::set<std::string> warned_;  // a session and its baseline find the same things
};

struct Command {
  Usage usage;
  int (*run)(const Invocation& invocation);
};
std::span<const Command> commands();

Result<std::string> readText(const std::string& path);  // "-" = standard input, bytes verbatim
Error noTokenizer();
QJsonObject configJson(const Effective& effective);     // requested, effective, reasons
QString text(const std::string& utf8);
QJsonValue jsonValue(const KnobValue& value);
QJsonObject memoryJson(const MemoryByTag& memory);      // bytes by tag
// What activation sparsity left out of the decoded tokens: shares by place, of all layers and of each; empty where none was left out.
QJsonObject sparseJson(const Session& session);
std::string bytesText(int64_t bytes);                   // 7.40 GiB

// Columns aligned. With a heading (the first row), cells that begin with a digit go to the right.
void printTable(const std::vector<std::vector<std::string>>& rows, bool heading = false);
std::string fixed(double value, int digits);
void printComparison(storage::SessionFile& session, const std::vector<storage::Id>& runs);  // nothing where nothing compares
QStringList comparisonSentences(storage::SessionFile& session, const std::vector<storage::Id>& runs);  // a row each, for reports

int runDoctor(const Invocation&);
int runKnobs(const Invocation&);
int runInfo(const Invocation&);
int runPlan(const Invocation&);
int runTokenize(const Invocation&);
int runGenerate(const Invocation&);
int runPerplexity(const Invocation&);
int runBench(const Invocation&);
int runAttribute(const Invocation&);
int runRun(const Invocation&);
int runSessions(const Invocation&);
int runExport(const Invocation&);
int runExportModel(const Invocation&);
int runRetrieve(const Invocation&);
int runSimilarity(const Invocation&);
int runKept(const Invocation&);
int runSynthesize(const Invocation&);

}  // namespace winnow::cli
