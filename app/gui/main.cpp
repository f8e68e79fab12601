// SPDX-License-Identifier: GPL-3.0-or-later
// winnow [MODEL] [--session FILE] [--prompt TEXT] [--theme light|dark|system] [--screenshot FILE.png --size WxH] [--version]
#include <QApplication>
#include <QCommandLineParser>
#include <QFileInfo>
#include <QTimer>
#include <cstdio>

#include "app/gui/main_window.h"
#include "app/gui/measure_dialog.h"
#include "panels/text/prompt_panel.h"

using namespace winnow;

namespace {

struct Arguments {
  QString model, session, prompt, theme, screenshot;
  QSize size;
  int threads = 0;
};

int usage(const QString& message) {
  std::fprintf(stderr, "winnow: %s\n", qPrintable(message));
  return 2;
}

// Picks the arguments apart; a message when something is wrong.
QString read(const QCommandLineParser& parser, Arguments& out) {
  const QStringList rest = parser.positionalArguments();
  if (rest.size() > 1) return QStringLiteral("one model at most, found %1 arguments.").arg(rest.size());
  out.model = rest.value(0);
  out.session = parser.value(QStringLiteral("session"));
  out.prompt = parser.value(QStringLiteral("prompt"));
  out.theme = parser.value(QStringLiteral("theme"));
  if (!out.theme.isEmpty() && out.theme != QStringLiteral("light") && out.theme != QStringLiteral("dark") &&
      out.theme != QStringLiteral("system"))
    return QStringLiteral("--theme is light, dark or system, not \"%1\".").arg(out.theme);
  out.screenshot = parser.value(QStringLiteral("screenshot"));
  if (const QString size = parser.value(QStringLiteral("size")); !size.isEmpty()) {
    const QStringList parts = size.split(QLatin1Char('x'));
    out.size = parts.size() == 2 ? QSize(parts[0].toInt(), parts[1].toInt()) : QSize();
    if (out.size.width() < 320 || out.size.height() < 240 || out.size.width() > 16384 || out.size.height() > 16384)
      return QStringLiteral("--size is WIDTHxHEIGHT in pixels, such as 1440x900, not \"%1\".").arg(size);
  }
  if (const QString threads = parser.value(QStringLiteral("threads")); !threads.isEmpty()) {
    bool number = false;
    out.threads = threads.toInt(&number);
    if (!number || out.threads < 1) return QStringLiteral("--threads is a number from 1 on, not \"%1\".").arg(threads);
  }
  return {};
}

// Renders the window once nothing moves any more: the model is open, no job runs, the live quality has been measured.
void screenshotWhenQuiet(MainWindow* window, Workbench* workbench, const Arguments& arguments) {
  auto* timer = new QTimer(window);
  timer->setInterval(100);
  auto* quiet = new int(0);
  auto* waited = new int(0);
  QObject::connect(timer, &QTimer::timeout, window, [=] {
    const bool settled = !workbench->job().running && !workbench->weightsPending() && (arguments.model.isEmpty() || workbench->hasModel());
    *quiet = settled ? *quiet + 1 : 0;
    if (*quiet < 12 && ++*waited < 1200) return;
    timer->stop();
    const bool saved = window->grab().save(arguments.screenshot);
    if (!saved) std::fprintf(stderr, "winnow: %s cannot be written.\n", qPrintable(arguments.screenshot));
    delete quiet;
    delete waited;
    QCoreApplication::exit(saved ? 0 : 1);
  });
  timer->start();
}

}  // namespace

int main(int argc, char** argv) {
  QApplication application(argc, argv);
  QApplication::setApplicationName(QStringLiteral("winnow"));
  QApplication::setOrganizationName(QStringLiteral("winnow"));
  QApplication::setApplicationDisplayName(QStringLiteral("Winnow"));
  QApplication::setApplicationVersion(QStringLiteral("0.1.0"));

  QCommandLineParser parser;
  parser.setApplicationDescription(QStringLiteral("Winnow: keep what matters in a language model, and see what it costs."));
  parser.addHelpOption();
  parser.addVersionOption();
  parser.addPositionalArgument(QStringLiteral("MODEL"), QStringLiteral("A GGUF file, a Hugging Face folder, or starter."),
                               QStringLiteral("[MODEL]"));
  parser.addOption({QStringLiteral("session"), QStringLiteral("Open or create this session."), QStringLiteral("FILE")});
  parser.addOption({QStringLiteral("prompt"), QStringLiteral("Generate from this prompt once the model is open."), QStringLiteral("TEXT")});
  parser.addOption({QStringLiteral("theme"), QStringLiteral("light, dark or system."), QStringLiteral("NAME")});
  parser.addOption({QStringLiteral("threads"), QStringLiteral("Threads of the engine."), QStringLiteral("N")});
  parser.addOption({QStringLiteral("screenshot"), QStringLiteral("Save a picture of the window and quit."), QStringLiteral("FILE.png")});
  parser.addOption({QStringLiteral("size"), QStringLiteral("Size of the window in pixels."), QStringLiteral("WxH")});
  if (!parser.parse(QApplication::arguments())) return usage(parser.errorText());
  if (parser.isSet(QStringLiteral("help"))) parser.showHelp(0);
  if (parser.isSet(QStringLiteral("version"))) parser.showVersion();
  Arguments arguments;
  if (const QString wrong = read(parser, arguments); !wrong.isEmpty()) return usage(wrong);

  Settings settings;
  ThemeManager themes;
  themes.setMode(settings.theme());
  if (arguments.theme == QStringLiteral("light")) themes.setMode(ThemeManager::Mode::light);
  if (arguments.theme == QStringLiteral("dark")) themes.setMode(ThemeManager::Mode::dark);
  themes.setFontScale(settings.fontScale());
  themes.applyTo(&application);

  EngineOptions options;
  options.threads = arguments.threads;
  Workbench workbench(options);
  MainWindow window(&themes, &workbench, &settings, machineInfo(arguments.threads));
  if (arguments.size.isValid()) window.resize(arguments.size);
  window.show();
  if (!arguments.session.isEmpty()) {
    if (QFileInfo::exists(arguments.session)) {
      window.openSession(arguments.session);
    } else {
      QString error;
      if (!workbench.createSession(arguments.session, &error)) return usage(error);
    }
  }
  if (!arguments.prompt.isEmpty()) {
    window.prompt()->setPrompt(arguments.prompt);
    QObject::connect(&workbench, &Workbench::modelChanged, &window, [&] {
      if (workbench.hasModel() && !workbench.job().running) workbench.generate(window.prompt()->request());
    });
  }
  if (!arguments.model.isEmpty()) window.openPath(arguments.model);
  if (!arguments.screenshot.isEmpty()) screenshotWhenQuiet(&window, &workbench, arguments);
  return application.exec();
}
