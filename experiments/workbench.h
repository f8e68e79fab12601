// SPDX-License-Identifier: GPL-3.0-or-later
// Workbench: everything a person does with the engine, behind one QObject. It owns the engine thread and the open session
// file. Panels and the CLI talk to it alone. All slots return at once; answers come as queued signals carrying values.
// One job runs at a time (generate, evaluate, bench, attribute, plan); knob changes act on the running job.
#pragma once
#include <QObject>
#include <QString>
#include <memory>
#include <vector>

#include "engine/attribute/attribute.h"
#include "engine/evaluate/bench.h"
#include "engine/evaluate/perplexity.h"
#include "engine/evaluate/retrieval.h"
#include "engine/run/cache_map.h"
#include "engine/weights/export.h"
#include "engine/weights/report.h"
#include "experiments/attention.h"
#include "experiments/jobs.h"
#include "experiments/kept_mass.h"
#include "experiments/plan_file.h"
#include "experiments/sensitivity.h"
#include "experiments/similarity.h"
#include "experiments/types.h"
#include "storage/session_file.h"

namespace winnow {

class Workbench : public QObject {
  Q_OBJECT
 public:
  explicit Workbench(const EngineOptions& options, QObject* parent = nullptr);
  ~Workbench() override;         // stops the job, leaves the engine at the next token, flushes the session file

  // ---- model ----
  void openModel(const QString& path, int context = 0);   // a path, "starter" or "starter-proxy"
  void closeModel();
  bool hasModel() const;
  ModelInfo model() const;

  // ---- session file ----
  bool openSession(const QString& path, QString* error, storage::OpenReport* report = nullptr);
  bool createSession(const QString& path, QString* error);
  bool saveSessionAs(const QString& path, QString* error);
  void closeSession();
  std::shared_ptr<storage::SessionFile> session() const;  // null before one is open; an unsaved session lives in the temp folder
  bool sessionIsTemporary() const;

  // ---- knobs: the GUI's requested configuration; applied live to the running job's session ----
  Config requested() const;
  void setKnob(const QString& name, const KnobValue& value, const QString& cause = QStringLiteral("user"));
  void setConfig(const Config& config, const QString& cause);
  Effective effective() const;
  Effective resolved(const Config& config) const;  // what it would come to on the open model and its device
  bool weightsPending() const;
  double weightsPendingFraction() const;
  bool cacheMixed() const;
  double rebuildCostMs() const;
  void rebuildCache();
  MemoryByTag planMemory(const Config& config) const;      // cost preview, milliseconds

  // ---- weights against the master ----
  void watchWeights(bool on);                              // compares those that run in the background, and again when others are published
  void stopComparing();
  void showHistogram(int tensor);                          // of Model::tensors()
  void findSuperWeights();                                 // of the model, in the background; weights must be watched
  Result<PlanFile> sensitivityPlan() const;                // of what is asked for now
  Result<Sensitivity> sensitivity() const;                 // the latest in the session file
  void exportModel(const QString& path);                   // what is asked for now (model_export.h)

  // ---- jobs ----
  void generate(const GenerateRequest& request);
  void evaluate(const EvaluateSpec& spec);
  void retrieve(const RetrieveSpec& spec);
  void bench(const BenchSpec& spec);
  void attribute(const AttributeSpec& spec);               // a part of the same response: attributeSpan(), at once
  void attributeDifference(const AttributionDifferenceSpec& spec);
  std::vector<Source> tokenWindows(const std::string& text, int tokens) const;  // as the unit window cuts; none without a model
  void measureAttention(const AttentionSpec& spec);        // of every head, under what is asked of weights now
  void measureKeptMass(const KeptMassSpec& spec);          // by the cache setting that is asked for now
  void measureSimilarity(const SimilaritySpec& spec);      // of the attention of layers, under what is asked of weights now
  void runPlan(const PlanFile& plan, bool resume);
  void stop();                    // within one token or window; keeps partial results
  JobState job() const;
  void setProbe(const QString& text, int context, int windows);  // live quality; empty = off
  void observeOps(bool on);

 Q_SIGNALS:
  void modelChanged();                         // opened, closed
  void modelFailed(const QString& message, const QString& hint);
  void sessionChanged();
  void runsChanged();                          // a run began, ended, was renamed
  void jobChanged(const winnow::JobState& state);
  void jobFailed(const QString& message, const QString& hint);
  void generationStarted(const winnow::GenerateRequest& request);
  void tokensArrived(const std::vector<winnow::TokenPoint>& points);   // batched at display rate
  void epochBegan(const winnow::EpochPoint& epoch);
  void effectiveChanged();                     // effective(), weightsPending(), cacheMixed()
  void qualityChanged(const winnow::QualityPoint& point);
  void evaluateProgress(const winnow::PerplexityResult& partial);
  void evaluateFinished(const winnow::PerplexityResult& result);
  void retrieveProgress(const winnow::RetrievalResult& partial);
  void retrieveFinished(const winnow::RetrievalResult& result);
  void benchFinished(const winnow::BenchResult& result);
  void attributionChanged(const winnow::AttributeResult& result);      // partial and final (complete)
  void attributionSideChanged(const winnow::AttributeResult& side, bool second);  // of a difference, partial and final
  void attributionDifferenceChanged(const winnow::AttributionDifference& difference);
  void weightReportChanged(const winnow::WeightReport& report, const QString& settings);
  void weightHistogramChanged(const winnow::WeightHistogram& histogram);
  void superWeightsFound(const std::vector<winnow::SuperWeight>& found);  // answers findSuperWeights()
  void attentionMeasured(const winnow::AttentionMaps& maps);
  void keptMassMeasured(const winnow::KeptMass& kept, const winnow::Config& config);
  void similarityMeasured(const winnow::SimilarityMap& map);
  void comparingWeights(double fraction, const QString& what);         // < 0: not any more; `what` then says what failed, or nothing
  void modelExported(const QString& path, const winnow::ExportSummary& summary);
  void cacheMapChanged(const winnow::CacheMap& map);                    // a few times a second while tokens are generated, and at the end
  void logged(const winnow::LogLine& line);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace winnow
