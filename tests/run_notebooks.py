"""Execute notebooks afresh: `python tests/run_notebooks.py [NOTEBOOK.ipynb ...]`, all of notebooks/ when none is named.

Prints the name and the seconds of each and, where a cell raises, its number and the error in one line; then the exit code is 1.
Every notebook runs in an empty temporary folder of its own and its outputs are thrown away: nothing in the repository is changed.
"""

import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

FOLDER = Path(__file__).parents[1] / "notebooks"
SECONDS = 600  # a cell


def failure(path, seconds=SECONDS):
    """What went wrong when the notebook was executed, in one line; None if nothing did."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises its own, those of json and those of files
        return one_line(f"expected a notebook, got {type(error).__name__}: {error}")
    with tempfile.TemporaryDirectory() as folder:
        # a tag of a cell must not allow it to raise
        client = NotebookClient(notebook, timeout=seconds, force_raise_errors=True, resources={"metadata": {"path": folder}})
        try:
            client.execute()
        except CellExecutionError as error:
            return one_line(f"cell {failing(notebook)}: {error.ename}: {error.evalue}")
        except (CellTimeoutError, DeadKernelError) as error:
            return one_line(f"{type(error).__name__}: {error}")


def failing(notebook):
    """The number of the first cell, counted from 1, with an error among its outputs."""
    outputs = [[output.output_type for output in cell.get("outputs", [])] for cell in notebook.cells]
    return next(number for number, kinds in enumerate(outputs, start=1) if "error" in kinds)


def one_line(text):
    return " ".join(text.split())[:300]


def main(names):
    paths = [Path(name) for name in names] or sorted(FOLDER.glob("*.ipynb"))
    failed = 0
    for path in paths:
        start = time.perf_counter()
        error = failure(path)
        failed += error is not None
        print(f"{path.name}: {time.perf_counter() - start:.1f} s" + (f", FAILED, {error}" if error else ""), flush=True)
    print(f"{len(paths)} notebooks, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
