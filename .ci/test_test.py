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

    def test_a_program_that_breaks_off_is_a_fault_even_when_another_passed(self):
        (fault,) = self.faults(["test result: ok. 5 passed; 0 failed; 0 ignored;"], [0, -6], 5)
        self.assertIn("broke off", fault)

    def test_no_test_at_all_is_a_fault_whatever_is_committed(self):
        for committed in (None, 0, 5):
            (fault,) = self.faults(["test result: ok. 0 passed; 0 failed; 0 ignored;"], [0], committed)
            self.assertIn("no test", fault)


class Selecting(unittest.TestCase):
    @staticmethod
    def program(package, target):
        return script.Program(package, target, f"/t/{package}-{target}", script.ROOT)

    def test_test_programs_are_found_among_what_cargo_says(self):
        artifact = {"reason": "compiler-artifact", "manifest_path": "/w/a/Cargo.toml", "target": {"name": "rules"}}
        messages = [
            {"reason": "build-finished", "success": True},
            {**artifact, "executable": "/t/rules-1", "profile": {"test": True}},
            {**artifact, "executable": "/t/rules", "profile": {"test": False}},
            {**artifact, "executable": None, "profile": {"test": True}},
        ]
        found = list(script.programs(messages, {"/w/a/Cargo.toml": "a"}))
        self.assertEqual(found, [script.Program("a", "rules", "/t/rules-1", script.Path("/w/a"))])

    def test_every_program_runs_exactly_once(self):
        names = [("tenant-policy", "tenant_policy"), ("tiny-envoy", "tiny_envoy"), ("tiny-envoy", "corpus")]
        names += [("tiny-envoy", "filter"), ("envoy-e2e", "corpus"), ("envoy-e2e", "waiting"), ("new", "anything")]
        built = [self.program(*name) for name in names]
        runs = {runner.name: [command[0] for command, _ in runner.runs] for runner in script.all_runners(built)}
        self.assertEqual(runs["corpus-tiny-envoy"], ["/t/tiny-envoy-corpus"])
        self.assertEqual(runs["filter-tiny-envoy"], ["/t/tiny-envoy-filter"])
        self.assertEqual(runs["tiny-envoy"], ["/t/tiny-envoy-tiny_envoy"])
        self.assertEqual(runs["envoy"], ["/t/envoy-e2e-waiting"])
        self.assertEqual(runs["tools"], ["/t/new-anything"])
        ran = sorted(program for programs in runs.values() for program in programs if program != "cargo")
        self.assertEqual(ran, sorted(program.executable for program in built))


if __name__ == "__main__":
    unittest.main()
