"""Tests of the part of test.py that reads and judges."""

import unittest

import test as script


def runner():
    return script.Runner("engine", "the engine alone", [])


class Parsing(unittest.TestCase):
    def test_result_lines_are_read(self):
        rows = {
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.01s\n": (12, 0, 0),
            "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out\n": (3, 2, 1),
            "test result: \x1b[32mok\x1b[0m. 7 passed; 0 failed; 0 ignored; 0 measured\n": (7, 0, 0),
        }
        for line, expected in rows.items():
            self.assertEqual(script.parse_result(line), expected, line)

    def test_other_lines_are_not(self):
        for line in ("running 12 tests\n", "test a::b ... ok\n", "  test result: ok. 1 passed; 0 failed; 0 ignored;\n", ""):
            self.assertIsNone(script.parse_result(line), line)

    def test_count_file_survives_a_round_trip(self):
        engine = runner()
        engine.passed = 41
        self.assertEqual(script.parse_counts(script.format_counts([engine])), {"engine": 41})

    def test_a_malformed_count_file_is_refused(self):
        for text in ("engine\n", "engine many\n", "engine 1 2\n"):
            with self.assertRaises(ValueError, msg=text):
                script.parse_counts(text)


class Judging(unittest.TestCase):
    def faults(self, output, exit_codes, committed):
        judged = runner()
        for line in output:
            judged.add(line)
        judged.judge(exit_codes, committed)
        return judged.faults

    def test_results_of_several_binaries_add_up(self):
        output = ["test result: ok. 2 passed; 0 failed; 0 ignored;", "noise", "test result: ok. 3 passed; 0 failed; 0 ignored;"]
        self.assertEqual(self.faults(output, [0, 0], 5), [])

    def test_fewer_and_more_tests_than_committed_are_faults(self):
        for committed in (4, 6):
            (fault,) = self.faults(["test result: ok. 5 passed; 0 failed; 0 ignored;"], [0], committed)
            self.assertIn("make test-counts", fault)

    def test_a_failed_test_is_not_also_a_wrong_count(self):
        self.assertEqual(self.faults(["test result: FAILED. 4 passed; 1 failed; 0 ignored;"], [101], 5), [])

    def test_an_ignored_test_is_a_fault(self):
        (fault,) = self.faults(["test result: ok. 5 passed; 0 failed; 1 ignored;"], [0], 5)
        self.assertIn("ignored", fault)

    def test_a_build_failure_is_a_fault_even_when_another_run_passed(self):
        (fault,) = self.faults(["test result: ok. 5 passed; 0 failed; 0 ignored;"], [0, 101], 5)
        self.assertIn("build", fault)

    def test_no_test_at_all_is_a_fault_whatever_is_committed(self):
        for committed in (None, 0, 5):
            (fault,) = self.faults(["test result: ok. 0 passed; 0 failed; 0 ignored;"], [0], committed)
            self.assertIn("no test", fault)


class Selecting(unittest.TestCase):
    def test_the_rest_of_a_package_leaves_its_corpus_out(self):
        targets = [{"name": n, "kind": [k]} for n, k in (("t", "lib"), ("corpus", "test"), ("rules", "test"))]
        metadata = {"packages": [{"name": "other", "targets": []}, {"name": "t", "targets": targets}]}
        self.assertEqual(
            script.rest_of("t", metadata), [["-p", "t", "--lib", "--test", "rules"], ["-p", "t", "--doc"]]
        )


if __name__ == "__main__":
    unittest.main()
