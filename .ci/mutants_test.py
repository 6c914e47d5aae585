"""The patches of `make mutants` fit the tree as it is, and what the judges say is read as it is meant."""

import subprocess
import unittest

import mutants


class Patches(unittest.TestCase):
    def test_each_applies_to_the_tree(self):
        for name, patch in mutants.mutants([]).items():
            with self.subTest(name):
                checked = subprocess.run(["git", "apply", "--check", str(patch)], cwd=mutants.ROOT, capture_output=True)
                self.assertEqual(checked.returncode, 0, checked.stderr.decode())

    def test_each_says_what_it_does(self):
        for name, patch in mutants.mutants([]).items():
            with self.subTest(name):
                self.assertTrue(mutants.sentence(patch).endswith("."))


PASSED = "test a ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored\n"
FAILED = "test a fact ... FAILED\ntest b ... ok\ntest c ... FAILED\n\ntest result: FAILED. 1 passed; 2 failed; 0 ignored\n"
BROKEN = (
    "test worlds ... FAILED\n\nthread 'worlds' panicked at seeds.rs:1:\nmake sim SEED=7: request 3 was cut\n"
    "  rule: (d) once it is acknowledged\n\ntest result: FAILED. 4 passed; 1 failed; 0 ignored\n"
)
TOO_SELDOM = "test worlds ... FAILED\n\nbursts: 9 of at least 100\n\ntest result: FAILED. 4 passed; 1 failed; 0 ignored\n"


class Verdicts(unittest.TestCase):
    def test_a_judge_that_has_nothing_to_say_catches_nothing(self):
        for judge in ("corpus", "simulator"):
            verdict = mutants.heard(judge, PASSED, 0)
            self.assertFalse(verdict.catches())
            self.assertEqual(verdict.faults(), [])

    def test_tests_of_the_corpus_count(self):
        verdict = mutants.heard("corpus", FAILED, 101)
        self.assertTrue(verdict.catches())
        self.assertEqual(verdict.faults(), ["a fact", "c"])

    def test_of_the_simulator_the_rules_count_and_are_said_with_their_seeds(self):
        verdict = mutants.heard("simulator", BROKEN, 101)
        self.assertTrue(verdict.catches())
        self.assertEqual(verdict.against, ("SEED=7: request 3 was cut",))
        self.assertEqual(verdict.faults(), ["SEED=7: request 3 was cut", "worlds"])

    def test_a_scene_that_comes_too_seldom_catches_no_mutant_and_is_a_fault_of_the_filter_as_it_is(self):
        verdict = mutants.heard("simulator", TOO_SELDOM, 101)
        self.assertFalse(verdict.catches())
        self.assertEqual(verdict.faults(), ["worlds"])

    def test_a_judge_that_does_not_come_to_its_end_has_caught_and_says_so(self):
        for judge in ("corpus", "simulator"):
            for output, code, unended in (
                ("", None, "never ended"),
                ("running 5 tests\n", -6, "broke off"),
                ("test a_seed_gives_the_same_world_again ... ok\n", -6, "broke off"),
                # Some other exit code than that of its tests, or none of its tests at all.
                (PASSED, 3, "broke off"),
                ("", 0, "broke off"),
            ):
                with self.subTest(judge=judge, output=output, code=code):
                    verdict = mutants.heard(judge, output, code)
                    self.assertTrue(verdict.catches())
                    self.assertEqual(verdict.faults(), [unended])


def verdict(*against, unended=""):
    return mutants.Verdict(against, against, unended)


class Reporting(unittest.TestCase):
    def test_the_first_of_what_failed_is_named_and_what_did_not_end_is_no_name(self):
        self.assertEqual(mutants.cell(verdict()), "–")
        self.assertEqual(mutants.cell(verdict("a")), "`a`")
        self.assertEqual(mutants.cell(verdict("a", "b", "c")), "`a` and 2 more")
        self.assertEqual(mutants.cell(verdict(unended="never ended")), "(never ended)")
        self.assertEqual(mutants.cell(verdict("a", unended="broke off")), "`a`, (broke off)")

    def test_who_was_not_asked_has_an_empty_cell(self):
        report = mutants.Report(["corpus", "simulator", "races"], 2)
        self.assertEqual(report.add("one", "Does one.", [verdict("a"), verdict(), None]), "one: corpus `a`, simulator –")
        report.add("two", "Does two.", [verdict(), verdict(), verdict("r")])
        self.assertEqual(report.closing(), "2 mutants, 0 survivors, 0 broken")

    def test_it_says_after_each_mutant_what_there_is_by_then(self):
        report = mutants.Report(["corpus", "simulator"], 4)
        self.assertEqual(report.add("one", "Does one.", [verdict("a"), verdict()]), "one: corpus `a`, simulator –")
        self.assertEqual(report.closing(), "1 of 4 mutants, 0 survivors, 0 broken")
        report.add("two", "Does two.", [verdict(), verdict()])
        report.add("three", "Does three.", None)
        report.add("four", "Does four.", [verdict(), verdict(unended="broke off")])
        self.assertEqual((report.survivors, report.broken, report.unended), (["two"], ["three"], ["four"]))
        closing = "4 mutants, 1 survivors, 1 broken, 1 caught only since a judge never ended or broke off"
        self.assertEqual(report.closing(), closing)
        lines = report.text().splitlines()
        self.assertEqual(lines[0], "| mutant | corpus | simulator | what it does |")
        self.assertEqual(lines[2], "| one | `a` | – | Does one. |")
        self.assertEqual(lines[5], "| four | – | (broke off) | Does four. |")
        self.assertEqual(lines[-1], closing)


if __name__ == "__main__":
    unittest.main()
