"""The patches of `make mutants` fit the tree as it is."""

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

    def test_the_first_of_the_failed_tests_is_named(self):
        self.assertEqual(mutants.cell([]), "–")
        self.assertEqual(mutants.cell(["a"]), "`a`")
        self.assertEqual(mutants.cell(["a", "b", "c"]), "`a` and 2 more")


if __name__ == "__main__":
    unittest.main()
