// SPDX-License-Identifier: GPL-3.0-or-later
// How a long action reports and is stopped. Every long action takes one and checks stop at least once per token or window.
#pragma once
#include <functional>
#include <stop_token>
#include <string_view>

namespace winnow {

struct Progress {
  std::function<void(double fraction, std::string_view what)> report;  // 0..1, called on the working thread; may be empty
  std::stop_token stop;

  void operator()(double fraction, std::string_view what) const {
    if (report) report(fraction, what);
  }
  bool stopped() const { return stop.stop_requested(); }
};

}  // namespace winnow
