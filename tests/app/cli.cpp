// SPDX-License-Identifier: GPL-3.0-or-later
// winnow-cli from outside: every command's keys and exit codes, as scripts rely on them.
#include <signal.h>

#include <QDir>
#include <QFileInfo>
#include <cmath>

#include "tests/support/command_line.h"

using namespace winnow::testing;

namespace {

QString stories() { return model("stories260K-f32"); }

}  // namespace

class CliTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void helpAndVersion() {
    const Answer help = run({"--help"});
    QCOMPARE(help.code, 0);
    for (const char* command : {"doctor", "knobs", "info", "plan", "tokenize", "generate", "perplexity", "retrieve", "similarity", "kept", "bench", "attribute", "run", "sessions", "export", "export-model", "synthesize"}) {
      QVERIFY2(help.out.contains(command), command);
      const Answer own = run({command, "--help"});
      QCOMPARE(own.code, 0);
      QVERIFY(own.out.contains("--json") && own.out.contains(command));
    }
    QCOMPARE(run({"--version"}).code, 0);
    QVERIFY(runJson({"--version"}).json()["version"].toString().startsWith(QLatin1Char('0')));
    QVERIFY(run({"--version"}).out.startsWith("winnow "));
    QCOMPARE(run({}).code, 2);
    QVERIFY(refused({"perplexty"}, 2, "perplexity"));
  }

  void describingCommands() {
    NEED_SHARED_DATA();
    const Answer doctor = runJson({"doctor"});
    QCOMPARE(doctor.code, 0);
    QVERIFY(missingKeys(doctor.json(), {"version", "cpu", "cpu_features", "cpu_kernels", "cores", "memory_bytes", "libraries", "cuda", "starter", "missing"}).isEmpty());

    const QJsonArray knobs = runJson({"knobs", stories()}).json()["knobs"].toArray();
    QVERIFY(knobs.size() > 10);
    for (const QJsonValue& knob : knobs) QVERIFY(missingKeys(knob.toObject(), {"name", "type", "default", "apply", "help", "group"}).isEmpty());

    const QJsonObject info = runJson({"info", stories()}).json();
    QVERIFY(missingKeys(info, {"architecture", "parameters", "layers", "hidden", "heads", "kv_heads", "head_dim", "vocab", "context", "tokenizer", "file_bytes"}).isEmpty());
    QCOMPARE(info["vocab"].toInt(), 512);
    QCOMPARE(info["context"].toInt(), 128);
    QCOMPARE(info["file_bytes"].toInteger(), QFileInfo(stories()).size());
  }

  void tokenize() {
    NEED_SHARED_DATA();
    const QByteArray text = "Once upon a time, in a caf\xc3\xa9, 3 na\xc3\xafve kids \xe2\x80\x94 \"Zo\xc3\xab\" & \xe5\xb0\x8f\xe6\x98\x8e \xe2\x80\x94 ran 12,345 km!  ok?\n";
    const QJsonArray ids = runJson({"tokenize", stories(), "--text", "-"}, text).json()["tokens"].toArray();
    QCOMPARE(ids.size(), 59);
    QCOMPARE(ids[0].toInt(), 1);
    QCOMPARE(ids[1].toInt(), 403);
    QCOMPARE(ids.last().toInt(), 13);
    const Answer bare = runJson({"tokenize", stories(), "--text", "-", "--no-special"}, text);
    QCOMPARE(bare.json()["tokens"].toArray().size(), 58);
    QCOMPARE(bare.json()["pieces"].toArray().size(), 58);
  }

  void memoryPlanMatchesARun() {
    NEED_SHARED_DATA();
    for (const QStringList& settings : {QStringList{}, QStringList{"--set", "weights.bits=4"}, QStringList{"--set", "kv.budget=32"}}) {
      const QJsonObject planned = runJson(QStringList{"plan", model("tinystories-instruct-3m-chat-f32"), "--context", "128"} + settings).json()["memory"].toObject();
      const QJsonObject used = runJson(QStringList{"generate", model("tinystories-instruct-3m-chat-f32"), "--context", "128", "--prompt", "Once upon a time", "-n", "124", "--ignore-eos"} + settings)
                                   .json()["memory"].toObject();
      const double p = planned["total"].toDouble(), u = used["total"].toDouble();
      QVERIFY2(std::abs(p - u) <= std::max(0.02 * u, 65536.0), qPrintable(QStringLiteral("planned %1, used %2, %3").arg(p).arg(u).arg(settings.join(' '))));
      QVERIFY(missingKeys(used, {"weights", "weights_mapped", "kv", "activations"}).isEmpty());
    }
  }

  void generate() {
    NEED_SHARED_DATA();
    const Answer answer = runJson({"generate", stories(), "--prompt", "Once upon a time", "-n", "64", "--context", "256"});
    QCOMPARE(answer.code, 0);
    const QJsonObject object = answer.json();
    QVERIFY(missingKeys(object, {"text", "tokens", "prefill_ms", "token_ms", "nll", "memory", "config", "logits_hash"}).isEmpty());
    QVERIFY(missingKeys(object["config"].toObject(), {"requested", "effective", "reasons"}).isEmpty());
    QCOMPARE(object["text"].toString(), QStringLiteral(", there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, "
                                                       "but it was too high.\nLily's mom said"));
    for (const char* list : {"tokens", "token_ms", "nll"}) QCOMPARE(object[QLatin1String(list)].toArray().size(), 64);
    // The same for any number of threads, and again.
    for (const char* threads : {"1", "2"})
      QCOMPARE(runJson({"generate", stories(), "--prompt", "Once upon a time", "-n", "64", "--context", "256", "--threads", threads}).json()["logits_hash"], object["logits_hash"]);
    // Sampled text follows the seed.
    const auto sampled = [](const char* seed) {
      return runJson({"generate", stories(), "--prompt", "The", "-n", "32", "--temperature", "1", "--seed", seed}).json()["text"].toString();
    };
    QCOMPARE(sampled("5"), sampled("5"));
    QVERIFY(sampled("5") != sampled("6"));
    // Plain output is the text alone.
    const Answer bare = run({"generate", stories(), "--prompt", "Once upon a time", "-n", "4"});
    QCOMPARE(bare.out, QByteArray(", there was a"));
    QCOMPARE(bare.err, QByteArray());
  }

  void chatSaysWhenTheTemplateIsUnknown() {
    NEED_SHARED_DATA();
    const Answer answer = runJson({"generate", stories(), "--prompt", "Hello", "-n", "2", "--chat"});
    QCOMPARE(answer.code, 0);
    QVERIFY(answer.err.contains("raw"));
  }

  void perplexity() {
    NEED_SHARED_DATA();
    const Answer answer = runJson({"perplexity", stories(), "--text", corpus("tinystories_val.txt"), "--context", "256", "--chunks", "20"});
    QCOMPARE(answer.code, 0);
    const QJsonObject object = answer.json();
    QVERIFY(missingKeys(object, {"perplexity", "stderr", "nll_sum", "count", "chunks", "bits_per_byte"}).isEmpty());
    QVERIFY(std::abs(object["perplexity"].toDouble() / 3.6251 - 1) < 0.001);
    QVERIFY(std::abs(object["stderr"].toDouble() - 0.128) < 0.001);
    QCOMPARE(object["count"].toInt(), 20 * 127);

    const QStringList some{"perplexity", stories(), "--text", corpus("tinystories_val.txt"), "--context", "64", "--chunks", "4"};
    const QJsonObject self = runJson(some + QStringList{"--against", "baseline"}).json()["kld"].toObject();
    QVERIFY(missingKeys(self, {"mean", "median", "p99", "max", "top1"}).isEmpty());
    QCOMPARE(self["max"].toDouble(), 0.0);
    QCOMPARE(self["top1"].toDouble(), 1.0);
    const QJsonObject four = runJson(some + QStringList{"--against", "baseline", "--set", "weights.bits=4"}).json()["kld"].toObject();
    const QJsonObject other = runJson(some + QStringList{"--against", stories(), "--set", "weights.bits=4"}).json()["kld"].toObject();
    QVERIFY(four["mean"].toDouble() > 0);
    QCOMPARE(other["mean"], four["mean"]);
    QVERIFY(runJson(some + QStringList{"--stepwise"}).json()["protocol"].toString().contains("stepwise"));
    QVERIFY(runJson(some + QStringList{"--set", "kv.budget=16"}).json()["protocol"].toString().contains("stepwise"));
    for (const char* mode : {"llama-stride", "hf-doc", "hf-exact"}) {
      const QJsonObject strided = runJson(some + QStringList{"--mode", mode}).json();
      QVERIFY2(strided["perplexity"].toDouble() > 1 && strided["protocol"].toString().startsWith(mode), mode);
    }
    const QStringList deep{"perplexity", stories(), "--text", corpus("tinystories_val.txt"), "--depths", "16,96", "--scored", "8", "--chunks", "2", "--set", "kv.budget=0.25"};
    const QJsonArray depths = runJson(deep + QStringList{"--against", "baseline"}).json()["depths"].toArray();
    QCOMPARE(depths.size(), 2);
    for (const auto& each : depths)
      QVERIFY(missingKeys(each.toObject(), {"depth", "perplexity", "perplexity_baseline", "kld_mean", "top1", "step_ms", "step_ms_baseline", "kv_bytes", "kv_bytes_baseline"}).isEmpty());
    QVERIFY(run(deep).out.contains("ms/token"));
    QVERIFY(refused(deep + QStringList{"--context", "64"}, 2, "--depths"));
  }

  void bench() {
    NEED_SHARED_DATA();
    const Answer answer = runJson({"bench", stories(), "-p", "32", "-n", "8", "-d", "0,16", "-r", "3"});
    QCOMPARE(answer.code, 0);
    const QJsonObject object = answer.json();
    QVERIFY(missingKeys(object, {"tests", "roofline", "decode_share", "prefill_share"}).isEmpty());
    QVERIFY(missingKeys(object["roofline"].toObject(), {"read_gbs", "gemm_gflops"}).isEmpty());
    QStringList names;
    for (const QJsonValue& test : object["tests"].toArray()) {
      names << test["name"].toString();
      QVERIFY(missingKeys(test.toObject(), {"name", "tokens_per_second", "stddev", "median_ms", "p95_ms"}).isEmpty());
    }
    QCOMPARE(names, (QStringList{"pp32", "tg8", "pp32 @ d16", "tg8 @ d16"}));
  }

  void attribute() {
    NEED_SHARED_DATA();
    QTemporaryDir folder;
    QVERIFY(write(folder.filePath("c.txt"), "Lily had a red ball. Tom had a blue car.\n\nThey went to the park."));
    const Answer answer = runJson({"attribute", stories(), "--context", folder.filePath("c.txt"), "--question", "Lily played with her", "--response", " ball in the park.", "--method", "loo"});
    QCOMPARE(answer.code, 0);
    const QJsonObject object = answer.json();
    QVERIFY(missingKeys(object, {"response", "sources", "forwards", "forward_tokens", "ms"}).isEmpty());
    QCOMPARE(object["response"].toString(), QStringLiteral(" ball in the park."));
    QCOMPARE(object["forwards"].toInt(), 4);
    const QJsonArray sources = object["sources"].toArray();
    QCOMPARE(sources.size(), 3);
    for (const QJsonValue& source : sources) QVERIFY(missingKeys(source.toObject(), {"id", "text", "start", "end", "score"}).isEmpty());
    QCOMPARE(sources[1]["start"].toInt(), 21);
    QCOMPARE(runJson({"attribute", stories(), "--context", folder.filePath("c.txt"), "--question", "Who?", "--unit", "paragraph"}).json()["sources"].toArray().size(), 2);
  }

  void attributeParts() {
    NEED_SHARED_DATA();
    QTemporaryDir folder;
    const QString passages = folder.filePath("p.jsonl");
    QVERIFY(write(passages, "{\"title\":\"Toys\",\"text\":\"Lily had a red ball. Tom had a blue car.\"}\n{\"text\":\"They went to the park.\"}\n"));
    const QStringList base = {"attribute", stories(), "--context", passages, "--question", "Lily played with her", "--response", " ball in the park."};
    const QJsonObject whole = runJson(base + QStringList{"--unit", "document", "--source", "1"}).json();
    QCOMPARE(whole["sources"].toArray().size(), 2);
    QCOMPARE(whole["sources"][0]["label"].toString(), QStringLiteral("Toys"));
    QVERIFY(whole["sources"][0]["ablated_log_prob"].isDouble());
    const QJsonArray supported = whole["supported"].toArray();
    QCOMPARE(supported.size(), whole["response_ends"].toArray().size());
    QVERIFY(supported[0]["score"].toDouble() >= supported[supported.size() - 1]["score"].toDouble());
    const QJsonObject part = runJson(base + QStringList{"--unit", "document", "--span", "0:2"}).json();
    QCOMPARE(part["span"].toArray(), (QJsonArray{0, 2}));
    const QJsonArray perToken = part["sources"][0]["per_token"].toArray();
    QVERIFY(std::fabs(part["sources"][0]["score"].toDouble() - perToken[0].toDouble() - perToken[1].toDouble()) < 1e-4);
    QCOMPARE(runJson(base + QStringList{"--ranges", "0:20,21:40"}).json()["unit"].toString(), QStringLiteral("given"));
    const QJsonObject budget = runJson(base + QStringList{"--seconds", "500"}).json();
    QVERIFY(!budget["forecasts"].toArray().isEmpty());
    const QJsonObject both = runJson(base + QStringList{"--against", "weights.bits=2"}).json();
    QCOMPARE(both["rows"].toArray().size(), 3);
    QVERIFY(both["rows"][0]["difference"].isDouble() && both["a"].toObject().contains("sources"));
    QVERIFY(runJson(base + QStringList{"--against-method", "attention"}).json()["shares"].toBool());
    const QString session = folder.filePath("s.winnow");
    QCOMPARE(runJson(base + QStringList{"--session", session}).code, 0);
    QCOMPARE(runJson({"export", session, "--chart", "attribution", "--out", folder.filePath("a.svg")}).code, 0);
    QVERIFY(refused(base + QStringList{"--session", session, "--resume"}, 2, "unfinished"));
    QVERIFY(refused(base + QStringList{"--resume"}, 2, "--session"));
    QVERIFY(refused(base + QStringList{"--span", "3"}, 2, "--span"));
    QVERIFY(refused(base + QStringList{"--span", "90:99"}, 2, "holds nothing"));
    QVERIFY(refused(base + QStringList{"--ranges", "5:9,3:6"}, 2, "begins before"));
    QVERIFY(refused(base + QStringList{"--source", "9"}, 2, "--source"));
    QVERIFY(refused(base + QStringList{"--against", "weights.bit=4"}, 2, "weights.bits"));
    QVERIFY(refused(base + QStringList{"--proxy", "nowhere.gguf"}, 3, "nowhere.gguf"));
    for (const QString& words : {QString::fromUtf8(run(base + QStringList{"--source", "1"}).out), QString::fromUtf8(run(base + QStringList{"--against", "weights.bits=2"}).out)})
      QVERIFY(words.contains(QStringLiteral("They went")));
  }

  void sessionsAndExport() {
    NEED_SHARED_DATA();
    QTemporaryDir folder;
    const QString plan = folder.filePath("plan.json"), session = folder.filePath("s.winnow");
    QVERIFY(write(plan, QStringLiteral(R"({"winnow_plan":1,"model":"%1","axes":{"weights.bits":[16,4]},"experiments":[
      {"kind":"evaluate","text":"%2","context":64,"chunks":2},{"kind":"generate","prompt":"Once upon a time","n":8},{"kind":"bench","p":16,"n":4,"r":2},
      {"kind":"attribute","context":"%3","question":"Who?","response":" Lily."}]})").arg(stories(), corpus("tinystories_60k.txt"), folder.filePath("c.txt")).toUtf8()));
    QVERIFY(write(folder.filePath("c.txt"), "Lily had a ball. Tom had a car."));
    const Answer ran = runJson({"run", plan, "--session", session});
    QCOMPARE(ran.code, 0);
    QCOMPARE(ran.json()["done"].toInt(), 8);
    QVERIFY(missingKeys(ran.json(), {"session", "done", "failed", "skipped", "done_before", "points"}).isEmpty());
    QVERIFY(refused({"run", plan, "--session", session}, 2, "--resume"));
    // What is done is not done again.
    const Answer again = runJson({"run", plan, "--session", session, "--resume"});
    QCOMPARE(again.code, 0);
    QCOMPARE(again.json()["done"].toInt(), 0);

    const QJsonArray runs = runJson({"sessions", session}).json()["runs"].toArray();
    QCOMPARE(runs.size(), 8);
    for (const QJsonValue& each : runs)
      QVERIFY(missingKeys(each.toObject(), {"id", "name", "kind", "status", "model", "device", "protocol", "requested", "effective", "reasons", "seed", "repeat", "tokens", "metrics"}).isEmpty());
    // The command line and the plan run the same code: the same number.
    const double direct = runJson({"perplexity", stories(), "--text", corpus("tinystories_60k.txt"), "--context", "64", "--chunks", "2", "--set", "weights.bits=4"}).json()["perplexity"].toDouble();
    bool found = false;
    for (const QJsonValue& each : runs)
      if (each["kind"].toString() == "evaluate" && each["effective"].toObject().contains("weights.bits")) {
        QCOMPARE(each["metrics"].toObject()["perplexity"].toObject()["value"].toDouble(), direct);
        found = true;
      }
    QVERIFY(found);

    for (const char* kind : {"png", "svg", "pdf", "csv", "json", "html"}) {
      const QString out = folder.filePath(QStringLiteral("chart.") + QLatin1String(kind));
      const Answer exported = runJson({"export", session, "--chart", "comparison", "--out", out});
      QVERIFY2(exported.code == 0 && exported.json()["bytes"].toInteger() == QFileInfo(out).size() && QFileInfo(out).size() > 100, exported.err.constData());
      QCOMPARE(exported.err, QByteArray());  // nothing of Qt's own either
    }
    for (const char* chart : {"latency", "memory", "perplexity", "pareto", "attribution", "kv"}) {
      const Answer exported = runJson({"export", session, "--chart", chart, "--out", folder.filePath(QStringLiteral("x.csv"))});
      QVERIFY2(exported.code == 0, exported.err.constData());
    }
    QCOMPARE(run({"export", session, "--chart", "memory", "--theme", "dark", "--runs", "1,2", "--out", folder.filePath("dark.svg")}).code, 0);
    const QString report = folder.filePath("report.html");
    QCOMPARE(run({"export", session, "--chart", "comparison,pareto", "--out", report}).code, 0);
    QFile page(report);
    QVERIFY(page.open(QIODevice::ReadOnly));
    const QByteArray html = page.readAll();
    QCOMPARE(html.count("<svg"), 2);
    QVERIFY(html.contains("against the baseline") && html.contains("n = "));
    QVERIFY(refused({"export", session, "--chart", "comparison,pareto", "--out", folder.filePath("x.png")}, 2, "html"));
    // The terminal shows the configurations side by side.
    const QByteArray table = run({"run", plan, "--session", session, "--resume"}).out;
    for (const char* part : {"KL divergence", "baseline", "within noise", "llama c=64", "tg4 llama-bench random", "n = "}) QVERIFY2(table.contains(part), table.constData());
    QVERIFY(refused({"export", session, "--chart", "comparisn", "--out", folder.filePath("x.png")}, 2, "comparisn"));
    QVERIFY(refused({"export", session, "--chart", "comparison", "--out", folder.filePath("x.docx")}, 2, "docx"));
    QVERIFY(refused({"export", session, "--chart", "comparison", "--runs", "77", "--out", folder.filePath("x.png")}, 2, "77"));
    QVERIFY(refused({"sessions", plan}, 3, "plan.json"));
    QVERIFY(refused({"sessions", folder.filePath("none.winnow")}, 3, "none.winnow"));
  }

  void retrieve() {
    const QStringList asked{"retrieve", "starter", "--lengths", "96,160", "--depths", "0,1", "--trials", "2"};
    const QJsonObject whole = runJson(asked).json(), window = runJson(asked + QStringList{"--set", "kv.policy=streaming", "--set", "kv.budget=48", "--against", "baseline"}).json();
    QCOMPARE(whole["questions"].toInt(), 8);
    QCOMPARE(whole["items"].toArray().size(), 8);
    QVERIFY(window["protocol"].toString().contains("needle lengths=96,160 depths=0,1 trials=2") && window["protocol"].toString().endsWith("before the question"));
    QVERIFY(window["answer_nll"].toDouble() > whole["answer_nll"].toDouble());
    for (const QJsonValue& item : window["items"].toArray()) QVERIFY(item.toObject()["base_nll"].toDouble() > 0 && item.toObject()["answer_tokens"].toInt() > 0);
    const QByteArray table = run(asked + QStringList{"--query-aware"}).out;
    for (const char* part : {"Depth: found", "nat/token", "96 tokens", "160 tokens", "0 %", "100 %", "of 8", "query-aware"}) QVERIFY2(table.contains(part), table.constData());
    const QString stories = QStringLiteral(WINNOW_TESTS_DIR "/../resources/stories/stories.jsonl");
    const QJsonObject given = runJson({"retrieve", "starter", "--data", stories, "--limit", "3"}).json();
    QCOMPARE(given["questions"].toInt(), 3);
    QVERIFY(given["items"].toArray()[0].toObject()["depth"].isNull());
    QVERIFY(refused({"retrieve", "starter", "--data", stories, "--task", "pairs"}, 2, "exclude each other"));
    QVERIFY(refused({"retrieve", "starter", "--lengths", "10"}, 2, "no room"));
  }

  void similarity() {
    const QStringList asked{"similarity", "starter", "--text", QStringLiteral(WINNOW_TESTS_DIR "/../resources/texts/sample.txt"), "--tokens", "300", "--threshold", "0", "--most", "2"};
    const QJsonObject found = runJson(asked).json();
    const int layers = found["layers"].toInt();
    QVERIFY(layers > 3 && found["tokens"].toInt() == 300);
    for (const char* of : {"rows", "no-sink", "windows", "head-mean"}) {
      const QJsonArray map = found["similarity"].toObject()[of].toArray();
      QCOMPARE(map.size(), layers);
      QCOMPARE(map[1].toArray()[1].toDouble(), 1.0);
      QCOMPARE(map[1].toArray()[2].toDouble(), map[2].toArray()[1].toDouble());
    }
    const QString spans = found["spans"].toString();
    QVERIFY(spans.startsWith("2-3"));
    const QByteArray table = run(asked).out;
    QVERIFY(table.contains("share.spans=" + spans.toUtf8()) && table.contains("300 tokens; cosine of rows"));
    const QJsonObject shared = runJson({"generate", "starter", "--prompt", "Once", "-n", "4", "--set", "share.spans=" + spans}).json();
    QCOMPARE(shared["config"].toObject()["effective"].toObject()["share.method"].toString(), QStringLiteral("spans"));
    QCOMPARE(runJson(asked + QStringList{"--set", "kv.budget=32", "--set", "share.spans=1-2"}).json()["similarity"], found["similarity"]);
    QVERIFY(refused(asked + QStringList{"--set", "prune.layers=1", "--set", "prune.layers_method=attention"}, 3, "computes no attention"));
  }

  void keptAttention() {
    const QStringList asked{"kept", "starter", "--text", QStringLiteral(WINNOW_TESTS_DIR "/../resources/texts/sample.txt"), "--tokens", "120"};
    const QJsonObject whole = runJson(asked).json();
    QCOMPARE(whole["mass"].toDouble(), 1.0);
    QCOMPARE(whole["held"].toDouble(), 1.0);
    QCOMPARE(whole["queries"].toInt(), 60);
    const QStringList some = asked + QStringList{"--prompt", "100", "--set", "kv.policy=window", "--set", "kv.budget=20", "--set", "kv.sinks=0", "--set", "kv.interval=1"};
    const QJsonObject kept = runJson(some).json();
    QCOMPARE(kept["queries"].toInt(), 20);
    double held = 0;  // the newest 20 and the query's own
    for (int position = 100; position < 120; ++position) held += 21.0 / (position + 1) / 20;
    QVERIFY(std::abs(kept["held"].toDouble() - held) < 1e-9);
    const QJsonArray layers = kept["layers"].toArray();
    double mass = 0;
    for (const QJsonValue& each : layers) {
      const QJsonObject layer = each.toObject();
      double mean = 0;
      for (const QJsonValue& head : layer["heads"].toArray()) mean += head.toDouble() / static_cast<double>(layer["heads"].toArray().size());
      QVERIFY(mean > 0 && mean < 1 && std::abs(mean - layer["mass"].toDouble()) < 1e-12);
      mass += mean / static_cast<double>(layers.size());
    }
    QVERIFY(std::abs(mass - kept["mass"].toDouble()) < 1e-12);
    const QByteArray table = run(some).out;
    for (const char* part : {"Attention kept", "Least head", "20 queries after a prompt of 100 tokens"}) QVERIFY2(table.contains(part), table.constData());
    QVERIFY(refused(asked + QStringList{"--prompt", "120"}, 3, "none is left that attends"));
    QVERIFY(refused({"kept", "starter"}, 2, "--text"));
  }

  void exportModel() {
    const QTemporaryDir folder;
    const QString out = folder.filePath("out.gguf");
    const auto done = runJson({"export-model", "starter", "--set", "weights.bits=4", "--out", out});
    QCOMPARE(done.code, 0);
    QCOMPARE(done.json()["bytes"].toInteger(), QFileInfo(out).size());
    QVERIFY(done.json()["blocks"].toInt() > 0 && done.json()["settings"].toString().contains("weights.bits=4"));
    const QStringList generate{"--prompt", "Once upon a time", "-n", "8"};
    const auto before = runJson(QStringList{"generate", "starter", "--set", "weights.bits=4"} + generate), after = runJson(QStringList{"generate", out} + generate);
    QCOMPARE(after.json()["text"], before.json()["text"]);
    QCOMPARE(after.json()["logits_hash"], before.json()["logits_hash"]);
    QVERIFY(refused({"export-model", "starter"}, 2, "--out"));
    QVERIFY(refused({"export-model", "starter", "--out", folder.filePath("none/out.gguf")}, 1, "does not exist"));
    QVERIFY(refused({"export-model", "starter", "--set", "weights.layers=0-3:7", "--out", out}, 2, "7 is no bit width"));
    QCOMPARE(QDir(folder.path()).entryList(QDir::Files).size(), 1);

    const QString huggingFace = folder.filePath("starter-pruned");
    const auto saved = runJson({"export-model", "starter", "--set", "prune.ratio=0.5", "--out", huggingFace});
    QCOMPARE(saved.code, 0);
    QCOMPARE(QDir(huggingFace).entryList(QDir::Files), (QStringList{"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}));
    const auto pruned = runJson(QStringList{"generate", "starter", "--set", "prune.ratio=0.5"} + generate), read = runJson(QStringList{"generate", huggingFace} + generate);
    QCOMPARE(read.json()["text"], pruned.json()["text"]);
    QVERIFY(refused({"export-model", "starter", "--out", huggingFace}, 3, "other files are in this folder"));
  }

  void synthesize() {
    QTemporaryDir folder;
    const QString out = folder.filePath("m.gguf");
    QCOMPARE(runJson({"synthesize", "--shape", "starter", "--type", "q8_0", "--out", out}).code, 0);
    QCOMPARE(runJson({"info", out}).json()["architecture"].toString(), QStringLiteral("llama"));
    QVERIFY(refused({"synthesize", "--shape", "9b", "--out", out}, 2, "9b"));
    QVERIFY(refused({"synthesize", "--shape", "starter", "--type", "q9", "--out", out}, 2, "q9"));
  }

  void badUsage_data() {
    QTest::addColumn<QStringList>("arguments");
    QTest::addColumn<QByteArray>("says");
    const auto row = [](const QStringList& arguments, const char* says) { QTest::newRow(qPrintable(arguments.join(QLatin1Char(' ')).right(60))) << arguments << QByteArray(says); };
    const QString text = corpus("tinystories_60k.txt");
    row({"info"}, "MODEL");
    row({"info", stories(), "more"}, "MODEL");
    row({"info", stories(), "--contxt", "3"}, "--contxt");
    row({"info", stories(), "--set", "weights.bit=4"}, "weights.bits");
    row({"doctor", "--device", "tpu"}, "tpu");
    row({"doctor", "--threads", "0"}, "--threads");
    row({"plan", stories(), "--context", "0"}, "--context");
    row({"tokenize", stories()}, "--text");
    row({"generate", stories()}, "--prompt");
    for (const QStringList& option : {QStringList{"-n", "many"}, {"-n", "-1"}, {"--temperature", "nan"}, {"--top-p", "2"}, {"--top-k", "-3"}, {"--seed", "x"}})
      row(QStringList{"generate", stories(), "--prompt", "a"} + option, qPrintable(option[0]));
    for (const char* knob : {"weights.bit=4", "weights.bits=7", "weights.bits=", "weights.bits", "=4", "kv.policy=h3o", "kv.budget=0", "kv.budget=-1", "kv.budget=nan", "kv.interval=-1",
                             "prune.ratio=1.5", "prune.ratio=a", "share.block=0", "kv.k_bits=5", "weights.symmetric=perhaps"})
      row({"generate", stories(), "--prompt", "a", "--set", knob}, QByteArray(knob) == "weights.bits" ? "knob=value" : QByteArray(knob).startsWith("weights.bit=") ? "weights.bits" : "");
    row({"similarity", stories()}, "--text");
    row({"similarity", stories(), "--text", text, "--of", "columns"}, "no-sink");
    row({"similarity", stories(), "--text", text, "--most", "1"}, "--most");
    row({"retrieve", stories(), "--task", "hay"}, "needle");
    row({"retrieve", stories(), "--depths", "0,2"}, "--depths");
    row({"retrieve", stories(), "--lengths", "x"}, "--lengths");
    row({"retrieve", stories(), "--against", "other"}, "baseline");
    row({"perplexity", stories()}, "--text");
    row({"perplexity", stories(), "--text", text, "--mode", "llamma"}, "llamma");
    row({"perplexity", stories(), "--text", text, "--chunks", "-1"}, "--chunks");
    row({"perplexity", stories(), "--text", text, "--context", "99999999999999999999"}, "--context");
    row({"attribute", stories(), "--question", "q"}, "--context");
    row({"attribute", stories(), "--context", text}, "--question");
    row({"attribute", stories(), "--context", text, "--question", "q", "--method", "shap"}, "loo");
    row({"attribute", stories(), "--context", text, "--question", "q", "--tricks", "reuse,magic"}, "magic");
    row({"attribute", stories(), "--context", text, "--question", "q", "--unit", "word"}, "word");
    row({"bench", stories(), "--batch", "1,0"}, "--batch");
    row({"bench", stories(), "-p", "1,x"}, "-p");
    row({"run", "plan.json"}, "--session");
    row({"export", "s.winnow", "--out", "x.png"}, "--chart");
    row({"export", "s.winnow", "--chart", "memory"}, "--out");
    row({"synthesize", "--shape", "starter"}, "--out");
  }
  void badUsage() {
    NEED_SHARED_DATA();
    QFETCH(QStringList, arguments);
    QFETCH(QByteArray, says);
    QVERIFY(refused(arguments, 2, says.constData()));
  }

  void unusableInput() {
    NEED_SHARED_DATA();
    QTemporaryDir folder;
    QVERIFY(write(folder.filePath("short.txt"), "Too short."));
    QVERIFY(write(folder.filePath("broken.gguf"), "GGUF\x03\x00"));
    QVERIFY(write(folder.filePath("empty.gguf"), ""));
    QVERIFY(refused({"info", folder.filePath("none.gguf")}, 3, "none.gguf"));
    QVERIFY(refused({"info", folder.filePath("broken.gguf")}, 3, "broken.gguf"));
    QVERIFY(refused({"info", folder.filePath("empty.gguf")}, 3, "empty.gguf"));
    QVERIFY(refused({"info", folder.path()}, 3, qPrintable(QFileInfo(folder.path()).fileName())));
    QVERIFY(refused({"perplexity", stories(), "--text", folder.filePath("short.txt")}, 3, "1024"));
    QVERIFY(refused({"perplexity", stories(), "--text", folder.filePath("none.txt")}, 3, "none.txt"));
    QVERIFY(refused({"perplexity", stories(), "--text", folder.path()}, 3, qPrintable(QFileInfo(folder.path()).fileName())));
    const QString seen = corpus("tinystories_60k.txt");  // weights fitted to a text are not judged by it
    QVERIFY(refused({"perplexity", stories(), "--text", seen, "--context", "64", "--chunks", "1", "--set", "prune.method=wanda", "--set", "prune.ratio=0.3", "--set", "calibration.text=" + seen, "--set", "calibration.tokens=256"}, 3, "judged by it"));
    QVERIFY(refused({"perplexity", stories(), "--text", corpus("tinystories_60k.txt"), "--context", "64", "--against", model("tinystories-instruct-3m-chat-f32")}, 3, "vocabulary"));
    QVERIFY(refused({"generate", stories(), "--prompt", QString(4000, QLatin1Char('a')), "--context", "64"}, 3, "64"));
    QVERIFY(refused({"generate", model("tinystories-instruct-3m-chat-f32"), "--prompt", "a", "--context", "4096"}, 3, "256"));
    // Beyond the trained length RoPE goes on, and says so.
    const Answer beyond = runJson({"generate", stories(), "--prompt", "a", "-n", "2", "--context", "512"});
    QCOMPARE(beyond.code, 0);
    QVERIFY(beyond.err.contains("128"));
    QVERIFY(refused({"run", folder.filePath("short.txt"), "--session", folder.filePath("s.winnow")}, 3, "JSON"));
  }

  void refusedKnobsWarnOrFail() {
    NEED_SHARED_DATA();
    const QStringList asked{"generate", stories(), "--prompt", "a", "-n", "2", "--set", "compute.activations=int8"};
    const Answer answer = runJson(asked);
    QCOMPARE(answer.code, 0);
    QCOMPARE(answer.err.count("warning"), 1);
    QVERIFY(!answer.json()["config"].toObject()["reasons"].toObject().isEmpty());
    QVERIFY(refused(asked + QStringList{"--strict"}, 3, "compute.activations"));
    const QStringList planned{"plan", stories(), "--set", "share.block=2", "--set", "share.first=3"};
    QCOMPARE(runJson(planned).err.count("warning"), 1);
    QVERIFY(refused(planned + QStringList{"--strict"}, 3, "share.block"));
    QVERIFY(runJson({"plan", stories(), "--set", "share.spans=3-99"}).err.contains("share.spans is empty, not 3-99"));
  }

  // What was set runs as it was asked for, and yet nothing comes of it: that is said, and is no failure.
  void knobsThatCanNotActAreNamed() {
    NEED_SHARED_DATA();
    const QStringList idle{"--set", "kv.sinks=8", "--strict"};
    for (const QStringList& command : {QStringList{"plan", stories()}, {"generate", stories(), "--prompt", "a", "-n", "2"}}) {
      const Answer answer = runJson(command + idle);
      QCOMPARE(answer.code, 0);
      QVERIFY2(answer.err.contains("kv.sinks=8 does nothing here: it acts where kv.policy is"), answer.err.constData());
      QVERIFY(!runJson(command + idle + QStringList{"--set", "kv.budget=32"}).err.contains("does nothing"));
    }
  }

  void noSuchDevice() {
    NEED_SHARED_DATA();
    QVERIFY(refused({"generate", stories(), "--prompt", "a", "--device", "cuda"}, 4, "CUDA"));
  }

  void interruptsStopWithinATokenOrWindow_data() {
    QTest::addColumn<QStringList>("arguments");
    QTest::addColumn<QString>("keeps");  // a key of what was done
    const QString sentences = folder_.filePath("sentences.txt");
    QVERIFY(write(sentences, QByteArray("Lily had a red ball and Tom had a car. ").repeated(60)));
    const QString big = model("random-llama-256-f32"), text = corpus("tinystories_60k.txt");
    QTest::newRow("generate") << QStringList{"generate", big, "--prompt", "a", "-n", "1000000", "--ignore-eos", "--context", "1000000", "--set", "kv.budget=64"} << "tokens";
    QTest::newRow("perplexity") << QStringList{"perplexity", big, "--text", text, "--context", "256"} << "";
    QTest::newRow("bench") << QStringList{"bench", big, "-r", "1000"} << "";
    QTest::newRow("attribute") << QStringList{"attribute", "starter", "--context", sentences, "--question", "Who?", "--response", " Lily."} << "sources";
    QTest::newRow("synthesize") << QStringList{"synthesize", "--shape", "1b", "--out", folder_.filePath("never.gguf")} << "";
  }
  void interruptsStopWithinATokenOrWindow() {
    NEED_SHARED_DATA();
    QFETCH(QStringList, arguments);
    QFETCH(QString, keeps);
    QProcess process;
    process.start(program(), arguments + QStringList{"--json"});
    QVERIFY(process.waitForStarted());
    const auto atWork = [&] { return processorSeconds(process) > 0.6; };  // on a busy machine that takes a while
    QTRY_VERIFY_WITH_TIMEOUT(atWork() || process.state() == QProcess::NotRunning, 60'000);
    QVERIFY2(process.state() == QProcess::Running, process.readAllStandardError().constData());
    ::kill(static_cast<pid_t>(process.processId()), SIGINT);
    const Answer answer = finished(process, 30'000);
    QCOMPARE(answer.code, 5);
    QCOMPARE(answer.err.count('\n'), 1 + answer.err.count("warning:"));
    QCOMPARE(answer.json()["error"].toObject()["code"].toInt(), 5);
    if (!keeps.isEmpty()) QVERIFY(!answer.json()[keeps].toArray().isEmpty());
    QVERIFY(!QFile::exists(folder_.filePath("never.gguf")));
  }

  void aFullOutputIsAFailure() {
    NEED_SHARED_DATA();
    for (const char* json : {"", "--json"}) {
      QProcess shell;
      shell.start("/bin/sh", {"-c", QStringLiteral("%1 info %2 %3 > /dev/full").arg(program(), stories(), QLatin1String(json))});
      const Answer answer = finished(shell);
      QCOMPARE(answer.code, 1);
      QVERIFY(answer.err.contains("standard output") && answer.err.count('\n') == 1);
    }
  }

  void aClosedPipeIsNoCrash() {
    NEED_SHARED_DATA();
    QProcess shell;
    shell.start("/bin/sh", {"-c", QStringLiteral("%1 generate %2 --prompt a -n 60 | head -c 1 >/dev/null; echo done").arg(program(), stories())});
    QCOMPARE(finished(shell).out.trimmed(), QByteArray("done"));
  }

 private:
  QTemporaryDir folder_;
};

QTEST_GUILESS_MAIN(CliTest)
#include "cli.moc"
