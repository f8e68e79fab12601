// SPDX-License-Identifier: GPL-3.0-or-later
// How a run on a device is collected: rows that survive a crash, programs that hang or die, what counts as green. Needs no device.
#include "tests/cuda_device/report.h"

#include "tests/support/check.h"

namespace winnow::device_run {

const std::vector<Section>& sections() {
  static const std::vector<Section> all = {{"checks", 1, true, nullptr}, {"speed", 1, false, nullptr}};
  return all;
}

}  // namespace winnow::device_run

using namespace winnow::device_run;

TEST(rows_survive_a_file) {
  for (const Status status : {Status::pass, Status::fail, Status::skip, Status::measured}) {
    Row row;
    EXPECT(decodeRow(encodeRow({"", "decode 8b\tq4", status, "two\nlines = here", {{"gb_s", 4312.5}, {"a=b", -1e-9}}}), row));
    EXPECT(row.status == status);
    EXPECT_EQ(row.name, std::string("decode 8b q4"));
    EXPECT_EQ(row.text, std::string("two lines = here"));
    EXPECT_EQ(row.figures.size(), size_t{2});
    EXPECT_EQ(row.figures[0].second, 4312.5);
    EXPECT(row.figures[1].first == "a=b" && row.figures[1].second == -1e-9);
  }
  Row row;
  for (const char* line : {"", "pass", "good\tname\ttext", "pass\tname\ttext\tno figure"}) EXPECT(!decodeRow(line, row), line);
}

TEST(green_means_that_everything_that_checks_has_passed) {
  const Row pass{"checks", "a", Status::pass, "", {}}, absent{"checks", "b", Status::skip, "no such model", {}}, late{"checks", "c", Status::skip, "skipped: time", {}},
      lateSpeed{"speed", "d", Status::skip, "skipped: time", {}}, measured{"speed", "e", Status::measured, "", {}}, crashed{"speed", "all", Status::fail, "ended with 139", {}};
  EXPECT(allGreen({pass, absent, lateSpeed, measured}));
  EXPECT(!allGreen({pass, late}));
  EXPECT(!allGreen({pass, crashed}));
}

TEST(the_file_and_the_table_hold_every_row) {
  ReportHead head;
  head.device = "a \"GPU\"";
  head.memoryBytes = int64_t{16} << 30;
  const std::vector<Row> rows = {{"checks", "bits", Status::fail, "a\\b", {{"distance", 0.25}, {"nothing", NAN}}}, {"speed", "read", Status::measured, "", {{"gb_s", 4000}}}};
  const std::string json = jsonOf(head, rows), table = tableOf(head, rows);
  for (const char* part : {"\"name\":\"a \\\"GPU\\\"\"", "\"status\":\"fail\"", "\"a\\\\b\"", "\"distance\":0.25", "\"nothing\":null", "\"gb_s\":4000", "\"green\":false", "17179869184"})
    EXPECT(json.find(part) != std::string::npos, part, json);
  for (const char* part : {"bits", "FAIL", "distance 0.25", "gb_s 4000", "1 failed", "NOT every"}) EXPECT(table.find(part) != std::string::npos, part, table);
}

TEST(programs_that_end_badly_are_told_apart) {
  const std::string log = (winnow::test::scratch() / "log").string();
  EXPECT_EQ(runProgram({"sh", "-c", "echo one; echo two; exit 3"}, log, 20), 3);
  EXPECT_EQ(lastLines(log, 1), std::string("two"));
  EXPECT_EQ(lastLines(log, 5), std::string("one | two"));
  EXPECT_EQ(runProgram({"sh", "-c", "kill -SEGV $$"}, log, 20), 128 + 11);
  EXPECT_EQ(runProgram({"sh", "-c", "echo before; sleep 60"}, log, 0.5), -1);
  EXPECT_EQ(lastLines(log, 1), std::string("before"));
  EXPECT_EQ(runProgram({"/no/such/program"}, log, 20), 127);
}

TEST(a_case_that_throws_is_a_row_and_one_without_time_is_skipped) {
  const std::string file = (winnow::test::scratch() / "rows").string();
  Recorder recorder({false, file, 10});
  recorder.run("throws", 1, [] { throw std::runtime_error("the reason"); });
  recorder.run("too long", 100, [] { EXPECT(false, "it ran"); });
  recorder.run("fine", 1, [&] { recorder.check(true, "fine", ""); });
  std::ifstream in(file);
  std::vector<Row> rows;
  for (std::string line; std::getline(in, line);) {
    Row row;
    EXPECT(decodeRow(line, row), line);
    rows.push_back(row);
  }
  EXPECT_EQ(rows.size(), size_t{3});
  EXPECT(rows[0].status == Status::fail && rows[0].text == "threw: the reason", rows[0].text);
  EXPECT(rows[1].status == Status::skip && rows[1].text == "skipped: time");
  EXPECT(rows[2].status == Status::pass);
}
