"""Execute notebooks afresh: `python tests/run_notebooks.py [NOTEBOOK.ipynb ...]`, or all of them.

Prints name and seconds of each and, where a cell raises, its number and the error; then the exit
code is 1. Every notebook runs in an empty temporary folder and its outputs are thrown away. The
solutions of its exercises, solutions/NN.py beside it, run as one more cell at its end.
"""

import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell

FOLDER = Path(__file__).parents[1] / "notebooks"
SECONDS = 600  # per cell


def failure(path, seconds=SECONDS):
    """What went wrong when the notebook was executed, in one line; None if nothing did."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises its own, those of json and those of files
        return one_line(f"expected a notebook, got {type(error).__name__}: {error}")
    solutions = path.parent / "solutions" / f"{path.name[:2]}.py"
    if solutions.exists():
        notebook.cells.append(new_code_cell(solutions.read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        # force_raise_errors: a tag of a cell must not allow it to raise
        client = NotebookClient(
            notebook, timeout=seconds, force_raise_errors=True, resources=resources
        )
        try:
            client.execute()
        except CellExecutionError as error:
            return one_line(f"cell {failing(notebook)}: {error.ename}: {error.evalue}")
        except (CellTimeoutError, DeadKernelError) as error:
            return one_line(f"{type(error).__name__}: {error}")


def failing(notebook):
    """The number of the first cell, counted from 1, with an error among its outputs."""
    for number, cell in enumerate(notebook.cells, start=1):
        if any(output.output_type == "error" for output in cell.get("outputs", [])):
            return number


def one_line(text):
    return " ".join(text.split())[:300]


def main(names):
    paths = [Path(name) for name in names] or sorted(FOLDER.glob("*.ipynb"))
    failed = 0
    for path in paths:
        start = time.perf_counter()
        error = failure(path)
        failed += error is not None
        ending = f", FAILED, {error}" if error else ""
        print(f"{path.name}: {time.perf_counter() - start:.1f} s{ending}", flush=True)
    print(f"{len(paths)} notebooks, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
