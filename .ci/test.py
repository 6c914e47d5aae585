#!/usr/bin/env python3
"""Runs every test runner, shows its output as it comes, and compares the counts with .ci/test-counts.

All test programs are built by one cargo call, then run one by one: a call per package would build the
dependencies again for each, since which features they get depends on the packages that are named.

A runner fails when a test fails or is ignored, when it runs no test, when it breaks off, or when the
number of its tests differs from the committed one: tests that silently vanish are a fault. Each of
these counts as one failure in the closing line, `N passed, N failed`.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COUNTS = ROOT / ".ci" / "test-counts"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
WASM = TARGET / "wasm32-wasip1" / "release" / "tenant_filter.wasm"
PROBE = WASM.with_name("conformance_probe.wasm")
ENVOY = "envoy/*/envoy"

# Natively the filter is nothing to test, and benchmarks are no tests.
PACKAGES = ["--locked", "--workspace", "--exclude", "tenant-filter", "--exclude", "benches"]

# Every test on the real Envoy starts one, with threads of its own that compile the module: more of them
# at once than there are cores only make deadlines tight.
ENVOY_THREADS = min(os.cpu_count() or 1, 4)

RESULT = re.compile(r"^test result: (?:ok|FAILED)\. (\d+) passed; (\d+) failed; (\d+) ignored;")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Program:
    """A test program that cargo has built."""

    package: str
    target: str
    executable: str
    folder: Path


@dataclass
class Runner:
    """A name in the count file, what it is, and the commands that make it up with their folders."""

    name: str
    about: str
    runs: list
    passed: int = 0
    failed: int = 0
    ignored: int = 0
    faults: list = field(default_factory=list)

    def add(self, line):
        """Adds up one line of output, if it is a result."""
        result = parse_result(line)
        if result:
            self.passed += result[0]
            self.failed += result[1]
            self.ignored += result[2]

    def judge(self, exit_codes, committed):
        """Fills `faults`. `committed` is the expected count, or None when counts are being written."""
        if self.ignored:
            self.faults.append(f"{self.ignored} ignored: a test runs or it goes")
        if any(exit_codes) and not self.failed:
            self.faults.append("broke off")
        elif self.passed + self.failed == 0:
            self.faults.append("ran no test")
        elif committed is not None and self.passed + self.failed != committed:
            self.faults.append(
                f"ran {self.passed + self.failed} tests, .ci/test-counts says {committed}: "
                "if that is meant, run `make test-counts` and commit the file"
            )


def parse_result(line):
    """`(passed, failed, ignored)` of a libtest result line, None of any other line."""
    found = RESULT.match(ANSI.sub("", line))
    return tuple(int(number) for number in found.groups()) if found else None


def parse_counts(text):
    """`name count` per line, `#` begins a comment."""
    counts = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words:
            name, count = words
            counts[name] = int(count)
    return counts


def format_counts(runners):
    head = "# Tests per runner, written by `make test-counts`, compared by `make test`.\n"
    return head + "".join(f"{runner.name} {runner.passed}\n" for runner in runners)


def programs(messages, packages):
    """The test programs in cargo's JSON messages. `packages` has their names by manifest."""
    for message in messages:
        if message.get("reason") != "compiler-artifact" or not message.get("executable"):
            continue
        if message["profile"]["test"]:
            manifest = message["manifest_path"]
            yield Program(
                packages[manifest], message["target"]["name"], message["executable"], Path(manifest).parent
            )


def all_runners(built):
    """Every program belongs to exactly one runner: one that nobody claims would silently not run."""
    left = sorted(built, key=lambda program: (program.package, program.target))

    def take(belongs, *flags):
        mine = [program for program in left if belongs(program)]
        left[:] = [program for program in left if program not in mine]
        return [([program.executable, *flags], program.folder) for program in mine]

    def target(package, name=None):
        return lambda program: program.package == package and name in (None, program.target)

    on_envoy = ["--test-threads", str(ENVOY_THREADS)]
    examples = ["cargo", "test", *PACKAGES, "--doc", "--no-fail-fast"]
    return [
        Runner("engine", "the engine alone", take(target("tenant-policy"))),
        Runner("conformance", "the table of host behaviours in both", take(target("conformance", "table"), *on_envoy)),
        Runner("corpus-tiny-envoy", "the corpus in the tiny Envoy", take(target("tiny-envoy", "corpus"))),
        Runner("filter-tiny-envoy", "the filter in the tiny Envoy", take(target("tiny-envoy", "filter"))),
        Runner("tiny-envoy", "the tiny Envoy itself", take(target("tiny-envoy"))),
        Runner("corpus-envoy", "the corpus in the real Envoy", take(target("envoy-e2e", "corpus"), *on_envoy)),
        Runner("envoy", "end to end on the real Envoy", take(target("envoy-e2e"), *on_envoy)),
        Runner("tools", "corpus model, Envoy launcher, CLI", take(lambda _: True, *on_envoy)),
        Runner("examples", "examples in the documentation", [(examples, ROOT)]),
    ]


def build(packages=PACKAGES):
    """Builds every test program of these packages; None when one does not build."""
    describe = ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"]
    metadata = json.loads(subprocess.run(describe, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    names = {package["manifest_path"]: package["name"] for package in metadata["packages"]}
    command = ["cargo", "test", *packages, "--no-run", "--message-format", "json-render-diagnostics"]
    print(f"$ {' '.join(command)}", flush=True)
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        return None
    return list(programs(map(json.loads, result.stdout.splitlines()), names))


def run(command, folder, runner):
    """One command, shown live and added up; returns its exit code."""
    shown = command[0] if command[0] == "cargo" else os.path.relpath(command[0], ROOT)
    print(f"\n$ {' '.join([shown, *command[1:]])}", flush=True)
    # As `cargo test` would run it.
    env = {**os.environ, "CARGO_MANIFEST_DIR": str(folder)}
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            runner.add(line)
    return process.returncode


def missing():
    """What must be in place before a test can mean anything."""
    if not WASM.is_file():
        yield f"no filter at {WASM.relative_to(TARGET.parent)}: run `make wasm`"
    if not PROBE.is_file():
        yield f"no probe at {PROBE.relative_to(TARGET.parent)}: run `make probe`"
    own = os.environ.get("ENVOY_BIN")
    if own and not os.access(own, os.X_OK):
        yield f"no Envoy at {own}, which ENVOY_BIN names"
    elif not own and not any(os.access(envoy, os.X_OK) for envoy in TARGET.glob(ENVOY)):
        yield f"no Envoy at {TARGET.name}/{ENVOY}: run `make envoy`"


def table(runners, counts):
    rows = [("runner", "what", "passed", "failed", "ignored", "committed")]
    for runner in runners:
        committed = counts.get(runner.name, "-")
        rows.append((runner.name, runner.about, runner.passed, runner.failed, runner.ignored, committed))
    return columns(rows, flush_left=2)


def columns(rows, flush_left=0):
    """The lines of a table, so many columns of it flush left and the others flush right."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows)]
    for row in rows:
        cells = enumerate(zip(map(str, row), widths))
        yield "  ".join(cell.ljust(width) if at < flush_left else cell.rjust(width) for at, (cell, width) in cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write-counts", action="store_true", help="replace .ci/test-counts when all tests pass")
    write = parser.parse_args().write_counts

    broken = list(missing())
    if not write and not COUNTS.is_file():
        broken.append("no .ci/test-counts: run `make test-counts` and commit the file")
    if broken:
        print("\n".join(broken))
        print(f"0 passed, {len(broken)} failed")
        return 1

    built = build()
    if built is None:
        print("the tests do not build\n0 passed, 1 failed")
        return 1
    runners = all_runners(built)
    counts = parse_counts(COUNTS.read_text()) if COUNTS.is_file() else {}
    for runner in runners:
        exit_codes = [run(command, folder, runner) for command, folder in runner.runs]
        runner.judge(exit_codes, None if write else counts.get(runner.name, 0))

    print("\n" + "\n".join(table(runners, counts)))
    faults = [f"{runner.name}: {fault}" for runner in runners for fault in runner.faults]
    failed = sum(runner.failed for runner in runners) + len(faults)
    print("".join(f"{fault}\n" for fault in faults), end="")
    if write and not failed:
        COUNTS.write_text(format_counts(runners))
    print(f"{sum(runner.passed for runner in runners)} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as error:
        print(f"`{' '.join(error.cmd)}` failed")
        print("0 passed, 1 failed")
        sys.exit(1)
