"""Which test notices a planted error? `python tests/mutation_run.py [FILE.py ...]`, ten minutes.

Mutation testing: every error of mutations.txt is planted in a copy of the core in a temporary
folder. Prints the test that failed first, or SURVIVED; exit code 1 if an error survives.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


CORNERS = "quantizer_corners.py"
TESTS = {"storage/budget.py": ["budget.py", "storage.py"], "fitting/starts.py": [CORNERS],
         "storage/codes.py": ["storage.py", CORNERS], "storage/encodings.py": ["storage.py"],
         "fitting/least_squares.py": ["fitting.py", CORNERS]}  # others: a test of their own name


class Mutant(NamedTuple):
    """`old`, which stands once in the file, becomes `new`."""

    file: str
    breaks: str
    old: str
    new: str


def read_mutants(path=ROOT / "tests" / "mutations.txt"):
    mutants, file = [], None
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            file = line.strip("[]")
        elif line and not line.startswith("#"):
            mutants.append(Mutant(file, *line.split(" | ")))
    return mutants


def mutated(text, mutant):
    """The text with the planted error."""
    if (times := text.count(mutant.old)) != 1:
        sys.exit(f"{mutant.file}: expected {mutant.old!r} once, got it {times} times")
    return text.replace(mutant.old, mutant.new)


def first_failure(folder, file):
    """The test of a file of the core that fails first in a folder, or None."""
    env = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-B", "-m", "pytest", "-x", "-rfE", "-p", "no:cacheprovider"]
    call += [f"tests/test_{name}" for name in TESTS.get(file, [Path(file).name])]
    how = {"cwd": folder, "env": env, "stdout": subprocess.PIPE, "text": True, "timeout": 300}
    try:
        done = subprocess.run(call, **how)
    except subprocess.TimeoutExpired:
        return "time limit"
    failed = re.search(r"^(?:FAILED|ERROR) [^\s\[]+::([^\s\[]+)", done.stdout, re.MULTILINE)
    if done.returncode and not failed:
        sys.exit(f"pytest ended with {done.returncode}: {done.stdout[-500:]}")
    return failed[1] if failed else None


def main(files):
    mutants = [mutant for mutant in read_mutants() if not files or mutant.file in files]
    survived = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("see_min", "tests"):
            shutil.copytree(ROOT / part, folder / part)
        shutil.copy(ROOT / "pyproject.toml", folder)
        for file in dict.fromkeys(mutant.file for mutant in mutants):
            if failed := first_failure(folder, file):
                sys.exit(f"{failed} fails without any planted error")
        for mutant in mutants:
            path = folder / "see_min" / mutant.file
            right = path.read_text(encoding="utf-8")
            path.write_text(mutated(right, mutant), encoding="utf-8")
            caught = first_failure(folder, mutant.file)
            path.write_text(right, encoding="utf-8")
            survived += caught is None
            print(f"| {mutant.file} | {mutant.breaks} | {caught or 'SURVIVED'} |", flush=True)
    print(f"\n{len(mutants)} planted errors, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
