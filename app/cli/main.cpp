// SPDX-License-Identifier: GPL-3.0-or-later
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
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

int help(std::FILE* to) {
  std::fputs("winnow-cli: profile and experiment with language models\n\n", to);
  for (const Command& command : commands()) {
    const std::string head = command.usage.name + (command.usage.positional.empty() ? "" : " " + command.usage.positional);
    std::fprintf(to, "  %-24s %s\n", head.c_str(), command.usage.summary.c_str());
  }
  std::fputs("\nwinnow-cli COMMAND --help shows a command's options. winnow-cli --version shows the version.\n", to);
  return to == stdout ? 0 : static_cast<int>(ErrorCode::usage);
}

int dispatch(const std::vector<std::string>& words, const std::stop_token& stop) {
  if (words.empty()) return help(stderr);
  if (words[0] == "--help" || words[0] == "help") return help(stdout);
  if (words[0] == "--version") {
    std::printf("winnow %s (%s, %s)\n", WINNOW_VERSION, WINNOW_SOURCE_REVISION, WINNOW_COMPILER);
    return 0;
  }
  const Command* command = nullptr;
  std::vector<std::string> names;
  for (const Command& each : commands()) {
    names.push_back(each.usage.name);
    if (each.usage.name == words[0]) command = &each;
  }
  if (!command) {
    std::fprintf(stderr, "winnow-cli: there is no command \"%s\". Did you mean %s? winnow-cli --help lists them.\n", words[0].c_str(), closest(words[0], names).c_str());
    return static_cast<int>(ErrorCode::usage);
  }
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  Result<Arguments> arguments = Arguments::parse(command->usage, rest);
  if (!arguments) {
    Arguments none;
    if (std::find(rest.begin(), rest.end(), "--json") != rest.end()) none = *Arguments::parse({"", "", 0, 0, "", {}}, {"--json"});
    return Invocation(words[0], std::move(none), stop).fail(arguments.error());
  }
  if (arguments->has("--help")) {
    std::fputs(usageText(command->usage).c_str(), stdout);
    return 0;
  }
  const Invocation invocation(words[0], std::move(*arguments), stop);
  try {
    return command->run(invocation);
  } catch (const std::bad_alloc&) {
    return invocation.fail({ErrorCode::resources, "there is not enough memory.", "winnow-cli plan MODEL shows what a model needs; fewer weights.bits or a shorter --context need less."});
  } catch (const std::exception& broken) {
    return invocation.fail({ErrorCode::failed, std::string("internal error: ") + broken.what() + ".", "Please report it with the command that was run."});
  }
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);  // a closed pipe ends output, not the run
  const Interrupts interrupts;
  return dispatch({argv + 1, argv + argc}, interrupts.token());
}
