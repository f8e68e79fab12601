// SPDX-License-Identifier: GPL-3.0-or-later
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <QtGlobal>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <system_error>
#include <thread>

#include "app/cli/command.h"
#include "engine/core/suggest.h"
#include "winnow_build_info.h"

using namespace winnow;
using namespace winnow::cli;

namespace {

// Ctrl-C and termination ask the command to stop within a token or window; a second time ends the program at once.
class Interrupts {
 public:
  Interrupts() {
    sigemptyset(&signals_);
    for (int signal : {SIGINT, SIGTERM}) sigaddset(&signals_, signal);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    watcher_ = std::jthread([this](std::stop_token end) {
      const timespec wait{0, 50'000'000};
      while (!end.stop_requested())
        if (sigtimedwait(&signals_, nullptr, &wait) > 0) {
          if (source_.stop_requested()) _exit(static_cast<int>(ErrorCode::cancelled));
          source_.request_stop();
        }
    });
  }
  std::stop_token token() const { return source_.get_token(); }

 private:
  sigset_t signals_;
  std::stop_source source_;
  std::jthread watcher_;
};

// Qt's remarks on its surroundings (no XDG_RUNTIME_DIR and the like) are nothing to the person at the command line.
void quietQt(QtMsgType type, const QMessageLogContext&, const QString& message) {
  if (type == QtCriticalMsg || type == QtFatalMsg) std::fprintf(stderr, "winnow-cli: %s\n", message.toUtf8().constData());
}

int help(std::FILE* to) {
  std::fputs("winnow-cli: profile and experiment with language models\n\n", to);
  for (const Command& command : commands()) {
    const std::string head = command.usage.name + (command.usage.positional.empty() ? "" : " " + command.usage.positional);
    std::fprintf(to, "  %-24s %s\n", head.c_str(), command.usage.summary.c_str());
  }
  std::fputs("\nwinnow-cli COMMAND --help shows a command's options. winnow-cli --version shows the version.\n", to);
  return to == stdout ? 0 : static_cast<int>(ErrorCode::usage);
}

bool wantsJson(const std::vector<std::string>& words) { return std::ranges::find(words, "--json") != words.end(); }

// For refusals before a command's own arguments are known to be good.
Invocation plain(const std::string& command, bool json, const std::stop_token& stop) {
  Arguments arguments;
  if (json) arguments = *Arguments::parse({"", "", 0, 0, "", {}}, {"--json"});
  return Invocation(command, std::move(arguments), stop);
}

int version(const Invocation& invocation) {
  if (invocation.json()) return invocation.print({{"version", WINNOW_VERSION}, {"revision", WINNOW_SOURCE_REVISION}, {"compiler", WINNOW_COMPILER}});
  std::printf("winnow %s (%s, %s)\n", WINNOW_VERSION, WINNOW_SOURCE_REVISION, WINNOW_COMPILER);
  return 0;
}

int runCommand(const Command& command, const Invocation& invocation) {
  // Every command takes the common options, and refuses wrong ones even where it has no use for them.
  if (const auto config = invocation.config(); !config) return invocation.fail(config.error());
  if (const auto options = invocation.engineOptions(); !options) return invocation.fail(options.error());
  try {
    return command.run(invocation);
  } catch (const std::bad_alloc&) {
    return invocation.fail({ErrorCode::resources, "there is not enough memory.", "winnow-cli plan MODEL shows what a model needs; fewer weights.bits or a shorter --context need less."});
  } catch (const std::system_error& refused) {  // a thread that could not be started
    return invocation.fail({ErrorCode::resources, std::string("the system gave no more threads or memory: ") + refused.what() + ".", "Use fewer --threads, or free some memory."});
  } catch (const std::exception& broken) {
    return invocation.fail({ErrorCode::failed, std::string("internal error: ") + broken.what() + ".", "Please report it with the command that was run."});
  }
}

int dispatch(const std::vector<std::string>& words, const std::stop_token& stop) {
  if (words.empty()) return help(stderr);
  if (words[0] == "--help" || words[0] == "help") return help(stdout);
  if (words[0] == "--version") return version(plain("--version", wantsJson(words), stop));
  const Command* command = nullptr;
  std::vector<std::string> names;
  for (const Command& each : commands()) {
    names.push_back(each.usage.name);
    if (each.usage.name == words[0]) command = &each;
  }
  if (!command)
    return plain(words[0], wantsJson(words), stop)
        .fail({ErrorCode::usage, "there is no command \"" + words[0] + "\".", "Did you mean " + closest(words[0], names) + "? winnow-cli --help lists them."});
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  Result<Arguments> arguments = Arguments::parse(command->usage, rest);
  if (!arguments) return plain(words[0], wantsJson(rest), stop).fail(arguments.error());
  if (arguments->has("--help")) {
    std::fputs(usageText(command->usage).c_str(), stdout);
    return 0;
  }
  return runCommand(*command, Invocation(words[0], std::move(*arguments), stop));
}

// What could not be written is a failure of the run. A reader that went away has seen what it wanted.
int flushed(int code) {
  errno = 0;
  const bool good = std::fflush(stdout) == 0 && !std::ferror(stdout);
  if (good || code != 0) return code;
  if (errno != EPIPE) std::fprintf(stderr, "winnow-cli: standard output can't be written%s%s.\n", errno ? ": " : "", errno ? std::strerror(errno) : "");
  return static_cast<int>(ErrorCode::failed);
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);  // a closed pipe ends output, not the run
  signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error like a full disk
  qInstallMessageHandler(quietQt);
  const std::vector<std::string> words(argv + 1, argv + argc);
  try {
    const Interrupts interrupts;
    return flushed(dispatch(words, interrupts.token()));
  } catch (const std::exception& starved) {  // not even the threads that every command has
    return plain("winnow-cli", wantsJson(words), {}).fail({ErrorCode::resources, std::string("the program could not start: ") + starved.what() + ".", "Free some memory."});
  }
}
