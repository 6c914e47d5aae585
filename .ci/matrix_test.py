"""Tests of what matrix.py reads, and of the order in which it goes on."""

import re
import subprocess
import unittest
from unittest import mock

import matrix as script
import test as suite


class Pins(unittest.TestCase):
    def test_versions_are_in_order_and_of_different_minors(self):
        pinned = [[int(number) for number in version.split(".")] for version in script.pinned()]
        self.assertEqual(pinned, sorted(pinned))
        minors = [version[:2] for version in pinned]
        self.assertEqual(len(minors), len({tuple(minor) for minor in minors}), "one of each minor")

    def test_each_older_one_is_pinned_by_hashes_in_a_file_of_its_name(self):
        for file in (suite.ROOT / "envoy" / "versions").iterdir():
            text = file.read_text()
            self.assertIn(f"\nenvoy-server=={file.stem} ", text, file.name)
            self.assertGreaterEqual(len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", text)), 1, file.name)


class Reading(unittest.TestCase):
    def test_names_of_failed_tests_are_kept_and_everything_is_counted(self):
        heard = script.Listening(suite.Runner("envoy", "", []))
        for line in (
            "test a_fact ... ok\n",
            "test \x1b[1mkeys::a name with spaces\x1b[0m ... \x1b[31mFAILED\x1b[0m\n",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured\n",
        ):
            heard.add(line)
        self.assertEqual(heard.failures, ["keys::a name with spaces"])
        self.assertEqual((heard.runner.passed, heard.runner.failed), (1, 1))


class Order(unittest.TestCase):
    def test_a_version_that_cannot_be_fetched_fails_before_any_has_run(self):
        versions = script.pinned()
        last = subprocess.CalledProcessError(1, ["fetch.sh", versions[-1]])
        fetched = [*(f"/envoy/{version}" for version in versions[:-1]), last]
        with mock.patch("sys.argv", ["matrix.py"]), mock.patch.object(script, "fetch", side_effect=fetched), mock.patch.object(
            suite, "build"
        ) as build, self.assertRaises(subprocess.CalledProcessError):
            script.main()
        build.assert_not_called()


if __name__ == "__main__":
    unittest.main()
