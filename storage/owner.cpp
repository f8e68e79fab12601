// SPDX-License-Identifier: GPL-3.0-or-later
#include "storage/owner.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <mutex>
#include <random>
#include <set>

#include "storage/sha256.h"

namespace winnow::storage {

namespace {

constexpr int64_t kForeignHostSilenceUs = 180'000'000;  // an owner on another machine is believed alive for this long

// The tokens this process holds: a claim left in a file by a close that failed must not lock us out of our own file.
class Held {
 public:
  static Held& instance() {
    static Held held;
    return held;
  }
  void add(const std::string& token) {
    const std::scoped_lock lock(mutex_);
    tokens_.insert(token);
  }
  void remove(const std::string& token) {
    const std::scoped_lock lock(mutex_);
    tokens_.erase(token);
  }
  bool has(const std::string& token) {
    const std::scoped_lock lock(mutex_);
    return tokens_.count(token) > 0;
  }

 private:
  std::mutex mutex_;
  std::set<std::string> tokens_;
};

std::string bootId() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id;
}

std::string hostName() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

// Clock ticks since boot at which a process started, 0 = not known. Tells a reused process number from the original.
int64_t processStart(int64_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(in, line);
  const size_t close = line.rfind(')');  // the program's name may hold spaces and brackets
  if (close == std::string::npos) return 0;
  size_t at = close + 1;
  for (int field = 3; field < 22; ++field) {
    at = line.find(' ', at + 1);
    if (at == std::string::npos) return 0;
  }
  return std::strtoll(line.c_str() + at, nullptr, 10);
}

bool processAlive(int64_t pid, int64_t start) {
  if (pid <= 0 || (kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH)) return false;
  const int64_t now = processStart(pid);
  return start == 0 || now == 0 || now == start;
}

}  // namespace

std::string makeUuid() {
  std::random_device device;
  std::string raw;
  for (int i = 0; i < 4; ++i) {
    const uint32_t word = device();
    raw.append(reinterpret_cast<const char*>(&word), 4);
  }
  raw[6] = static_cast<char>((raw[6] & 0x0f) | 0x40);
  raw[8] = static_cast<char>((raw[8] & 0x3f) | 0x80);
  const std::string hex = toHex(raw);
  return hex.substr(0, 8) + "-" + hex.substr(8, 4) + "-" + hex.substr(12, 4) + "-" + hex.substr(16, 4) + "-" + hex.substr(20);
}

int64_t utcMicroseconds() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

Ownership::Ownership(Db& db) : token_(makeUuid()) {
  const int64_t now = utcMicroseconds();
  const std::string boot = bootId(), host = hostName();
  {
    Statement q = db.prepare("SELECT pid, process_start, boot_id, host, token, heartbeat_utc_us FROM owner");
    if (q.step()) {
      const int64_t pid = q.integer(0);
      const bool sameBoot = q.text(2) == boot;
      bool alive = sameBoot ? processAlive(pid, q.integer(1)) : q.text(3) != host && now - q.integer(5) < kForeignHostSilenceUs;
      if (sameBoot && pid == getpid()) alive = Held::instance().has(q.text(4));
      if (alive) {
        holder_ = "process " + std::to_string(pid) + (sameBoot ? "" : " on " + q.text(3));
        return;
      }
    }
  }
  db.run("INSERT OR REPLACE INTO owner VALUES(1,?,?,?,?,?,?,?)", static_cast<int64_t>(getpid()), processStart(getpid()), boot, host, token_,
         now, now);
  Held::instance().add(token_);
  claimed_ = true;
}

Ownership::~Ownership() {
  if (claimed_) Held::instance().remove(token_);
}

void Ownership::release(Db& db, const std::string& token) { db.run("DELETE FROM owner WHERE token=?", token); }

void Ownership::heartbeat(Db& db, const std::string& token, int64_t nowUs) {
  db.run("UPDATE owner SET heartbeat_utc_us=? WHERE token=?", nowUs, token);
  db.run("UPDATE run SET heartbeat_utc_us=? WHERE status IN('queued','running')", nowUs);
}

}  // namespace winnow::storage
