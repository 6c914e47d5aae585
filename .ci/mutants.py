#!/usr/bin/env python3
"""Breaks the filter on purpose, one way after the other, and says which test notices.

Each file of host-tests/mutants is a sentence and a patch. For each one the filter is built with it, in a copy of
the tree, and the tests run as they are against that module: the corpus in the tiny Envoy, and the simulator with
its fixed seeds. Where neither notices, its scenes are asked that play every order in which workers can overtake each
other (host-tests/tests/filter/races), which takes longer. A mutant that nobody catches has survived, and fails the run;
so does a patch that does not apply or a module that does not build. One with which a test program never ends or breaks
off is caught, and shown as that.

    .ci/mutants.py [--only NAME]... [--list] [--missed target/mutants.out]

With --missed the mutants are those that `make cargo-mutants` has made and that the tests of the engine have missed.

The report, a table, is in target/mutants/report.md after each mutant, with what there is by then.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MUTANTS = ROOT / "host-tests" / "mutants"
WORK = ROOT / "target" / "mutants"
TREE = WORK / "tree"
WASM_TARGET = "wasm32-wasip1"

# Quick to build: what is asked of a mutant is that it is wrong, not that it is small.
PROFILE = "mutant"

# The judge that is asked last.
LAST = "races"

# A mutant may wait for ever, or try for ever.
TIMEOUT_SECONDS = 900

FAILED = re.compile(r"^test (.+?) +\.\.\. FAILED$", re.MULTILINE)
RESULT = re.compile(r"^test result: ", re.MULTILINE)
# How the simulator says which rule was broken, and by which seed or script. That some scene came up too seldom is
# no rule: a mutant that nothing else notices has survived.
BROKEN = re.compile(r"^(?:make sim |.*/scripts/)(.+: .+)\n  rule: ", re.MULTILINE)


def mutants(names, folder=MUTANTS):
    """The patch files by name, those of `names` if any are given."""
    found = {path.stem: path for path in sorted(folder.glob("*.patch"))}
    unknown = [name for name in names if name not in found]
    if unknown:
        sys.exit(f"no such mutant: {', '.join(unknown)}; there are {', '.join(found)}")
    return {name: path for name, path in found.items() if not names or name in names}


def taken_over(output):
    """Makes patches of what cargo-mutants has made and the tests have missed. Gives their folder."""
    folder = WORK / "missed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for outcome in json.loads((output / "outcomes.json").read_text())["outcomes"]:
        if outcome["summary"] == "MissedMutant":
            mutant = outcome["scenario"]["Mutant"]
            path = mutant["file"]
            # Its second line has what is done in place of a path.
            body = (output / outcome["diff_path"]).read_text().split("\n", 2)[2]
            name = Path(outcome["diff_path"]).stem
            patch = f"{mutant['name']}.\n\n--- a/{path}\n+++ b/{path}\n{body}"
            (folder / f"{name}.patch").write_text(patch)
    return folder


def sentence(patch):
    """What a mutant does, in its own words: the text in front of the patch."""
    words = patch.read_text().partition("\n--- ")[0].split()
    return " ".join(words)


def fresh_tree():
    """A copy of what git knows of the tree, changes that are not committed included.

    What is there already as it should be keeps its time, so that it is not built again; whatever is written gets the
    present one, so that nothing of an earlier run, least of all its last mutant, is taken for up to date.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    )
    names = {name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()}
    for there in [path for path in TREE.rglob("*") if path.is_file()]:
        if str(there.relative_to(TREE)) not in names:
            there.unlink()
    for name in names:
        source, copy = ROOT / name, TREE / name
        if not copy.is_file() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            shutil.copymode(source, copy)


def apply(patch, *flags):
    """Whether a patch applies to the copy, which lies inside of another repository that git must not see."""
    env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(WORK)}
    return subprocess.run(["git", "apply", *flags, str(patch)], cwd=TREE, env=env).returncode == 0


def build_module():
    """Builds the filter in the copy. Gives the path of the module, or None."""
    env = {**os.environ, "CARGO_TARGET_DIR": str(WORK / "build")}
    command = ["cargo", "build", "-q", "--locked", "--profile", PROFILE, "-p", "tenant-filter", "--target", WASM_TARGET]
    command += ["--config", "build.warnings='allow'"]
    built = subprocess.run(command, cwd=TREE, env=env, capture_output=True, text=True)
    if built.returncode:
        print(built.stderr[-4000:], file=sys.stderr)
        return None
    return WORK / "build" / WASM_TARGET / PROFILE / "tenant_filter.wasm"


def test_programs():
    """The test programs that judge a module, built once, by the name under which the report has them."""
    command = ["cargo", "test", "--locked", "-p", "tiny-envoy", "--test", "corpus", "--test", "filter", "--no-run"]
    command += ["-p", "tenantgate-sim", "--test", "seeds"]
    command += ["--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    programs = {}
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message.get("executable"):
            name = {"corpus": "corpus", "seeds": "simulator", "filter": LAST}.get(message["target"]["name"])
            if name:
                command = [message["executable"], *(["races::"] if name == LAST else [])]
                programs[name] = (command, Path(message["manifest_path"]).parent)
    return programs


@dataclass(frozen=True)
class Verdict:
    """What a judge has said of a module."""

    # What counts against a mutant: the rules that the simulator has seen broken, or tests.
    against: tuple
    # The tests that have failed.
    failed: tuple
    # Why it has said no more, if it has not come to its end.
    unended: str = ""

    def catches(self):
        return bool(self.against or self.unended)

    def faults(self):
        """What must not be said of the filter as it is: that a scene came up too seldom is among it."""
        tests = [test for test in self.failed if test not in self.against]
        return [*self.against, *tests, *([self.unended] if self.unended else [])]


def heard(judge, output, code):
    """The verdict of a judge by its output and its exit code, which is None where it has not come to its end in time."""
    failed = tuple(FAILED.findall(output))
    against = tuple(BROKEN.findall(output)) if judge == "simulator" else failed
    if code is None:
        return Verdict(against, failed, "never ended")
    has_ended = RESULT.search(output) and (failed or not code)
    return Verdict(against, failed, "" if has_ended else "broke off")


def ask(judge, program, folder, wasm):
    """Has a judge try a module."""
    env = {**os.environ, "TENANT_FILTER_WASM": str(wasm), "RUST_BACKTRACE": "0"}
    try:
        ran = subprocess.run(
            program, cwd=folder, env=env, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return heard(judge, "", None)
    return heard(judge, ran.stdout + ran.stderr, ran.returncode)


def verdicts_of(programs, wasm):
    """What the judges say of a module, in the order of `programs`; nothing of the last where another has caught it."""
    said = {judge: ask(judge, *programs[judge], wasm) for judge in programs if judge != LAST}
    if not any(verdict.catches() for verdict in said.values()):
        said[LAST] = ask(LAST, *programs[LAST], wasm)
    return [said.get(judge) for judge in programs]


def cell(verdict):
    """A verdict as a cell of the report: the first of what has failed by name, the others by number."""
    if verdict is None:
        return ""
    words = []
    if verdict.against:
        rest = f" and {len(verdict.against) - 1} more" if len(verdict.against) > 1 else ""
        words.append(f"`{verdict.against[0].strip()}`{rest}")
    if verdict.unended:
        words.append(f"({verdict.unended})")
    return ", ".join(words) or "–"


class Report:
    """What has become of the mutants so far."""

    def __init__(self, judges, of):
        head = ["mutant", *judges, "what it does"]
        self.judges = judges
        self.of = of
        self.rows = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        self.tried, self.survivors, self.broken, self.unended = 0, [], [], []

    def add(self, name, what, verdicts):
        """Adds a mutant; without verdicts it does not apply or does not build. Gives the line that says so."""
        self.tried += 1
        if verdicts is None:
            self.broken.append(name)
            cells = ["does not apply or does not build"] * len(self.judges)
            line = cells[0]
        else:
            cells = [cell(verdict) for verdict in verdicts]
            line = ", ".join(f"{judge} {said}" for judge, said in zip(self.judges, cells) if said)
            verdicts = [verdict for verdict in verdicts if verdict]
            if not any(verdict.catches() for verdict in verdicts):
                self.survivors.append(name)
            elif not any(verdict.against for verdict in verdicts):
                self.unended.append(name)
        self.rows.append(f"| {name} | {' | '.join(cells)} | {what} |")
        return f"{name}: {line}"

    def closing(self):
        of = "" if self.tried == self.of else f" of {self.of}"
        closing = f"{self.tried}{of} mutants, {len(self.survivors)} survivors, {len(self.broken)} broken"
        if self.unended:
            closing += f", {len(self.unended)} caught only since a judge never ended or broke off"
        return closing

    def text(self):
        return "\n".join([*self.rows, "", self.closing(), ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this mutant; may be repeated")
    parser.add_argument("--list", action="store_true", help="list the mutants and what they do")
    parser.add_argument("--missed", type=Path, metavar="OUTPUT", help="what cargo-mutants has left under OUTPUT")
    arguments = parser.parse_args()
    chosen = mutants(arguments.only, taken_over(arguments.missed) if arguments.missed else MUTANTS)
    if arguments.list:
        for name, patch in chosen.items():
            print(f"{name}: {sentence(patch)}")
        return 0

    programs = test_programs()
    fresh_tree()
    if len(programs) != 3:
        sys.exit(f"of corpus, simulator and {LAST} there is only {', '.join(programs) or 'none'}")
    healthy = build_module()
    if healthy is None:
        sys.exit("the filter as it is does not build")
    is_sound = True
    for judge, (program, folder) in programs.items():
        if judge == LAST:
            continue
        for fault in ask(judge, program, folder, healthy).faults():
            print(f"{judge}: {fault.strip()}", file=sys.stderr)
            is_sound = False
    if not is_sound:
        sys.exit("the filter as it is does not pass: run `make test` first")

    report = Report(list(programs), len(chosen))
    for name, patch in chosen.items():
        wasm = build_module() if apply(patch) else None
        verdicts = wasm and verdicts_of(programs, wasm)
        print(report.add(name, sentence(patch), verdicts), flush=True)
        (WORK / "report.md").write_text(report.text())
        if not apply(patch, "--reverse") and wasm is not None:
            sys.exit(f"{name} cannot be taken back")
    for name in report.survivors:
        print(f"survived: {name}: {sentence(chosen[name])}")
    print(report.closing())
    return 1 if report.survivors or report.broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as error:
        print(f"`{' '.join(map(str, error.cmd))}` failed")
        sys.exit(1)
