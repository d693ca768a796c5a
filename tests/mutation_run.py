"""Break every core formula on purpose and see which test notices: `python tests/mutation_run.py [FILE.py ...]`, some ten minutes.

A mutant is one planted error in a copy of the package in a temporary folder; the tree itself is not touched. Prints the test that
failed first, or SURVIVED. Ends with exit code 1 if a mutant survives that is not known to compute the same, or one is caught
that is.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS = 300  # a mutant
TESTS = {"entangle.py": "entangle", "tensor_train.py": "tensor_train", "encoding.py": "encoding corners", "fit.py": "fit",
         "als.py": "fit", "alignment.py": "alignment"}


@dataclass(frozen=True)
class Mutant:
    """One planted error: `old`, which stands once in the file, becomes `new`; `same` says why nothing changes, if so."""

    file: str
    breaks: str
    old: str
    new: str
    same: str = ""


def of(file, *mutants):
    return [Mutant(file, *mutant) for mutant in mutants]


MUTANTS = [
    *of(
        "entangle.py",
        ("first factor fastest",
         "(product[:, :, :, None] * leaf[:, :, None, :])", "(product[:, :, None, :] * leaf[:, :, :, None])"),
        ("a factor is left out", "for leaf in leaves[1:]:", "for leaf in leaves[2:]:"),
        ("amplitudes are squared", "leaves[0] * amplitudes[:, :, None]", "leaves[0] * amplitudes[:, :, None] ** 2"),
        ("amplitudes in every slot", "[leaves[0] * amplitudes[:, :, None], *leaves[1:]]",
         "[leaf * amplitudes[:, :, None] for leaf in leaves]"),
        ("the halves change places", "(left.swapaxes(1, 2) @ right)", "(right.swapaxes(1, 2) @ left)"),
        ("order 1: only the first term", "return parts[0].sum(1)", "return parts[0][:, 0]"),
        ("inner product: sum over slots", "gram = gram * (a @ b", "gram = gram + (a @ b"),
        ("inner product: no cross terms", "gram.sum((1, 2))", "np.trace(gram, axis1=1, axis2=2)"),
        ("Schmidt: the other side of the cut", "sizes[:cut])), -1)", "sizes[cut:])), -1)"),
        ("Schmidt: values not squared", "(s / s[0]) ** 2", "s / s[0]"),
        ("Schmidt: weights do not sum to 1", "return weights / weights.sum()", "return weights"),
        ("entropy in bits", "np.log(p)", "np.log2(p)"),
        ("another split into halves", "half = len(leaves) // 2", "half = (len(leaves) + 1) // 2"),
    ),
    *of(
        "tensor_train.py",
        ("tails: values not squared", "np.cumsum(s[::-1] ** 2)", "np.cumsum(s[::-1])"),
        ("tails: no square root", "np.sqrt(np.append(np.cumsum(s[::-1] ** 2)[::-1], 0.0))",
         "np.append(np.cumsum(s[::-1] ** 2)[::-1], 0.0)"),
        ("the loss of one value more", "float(tails[keep])", "float(tails[keep - 1])"),
        ("tolerance itself not allowed", "np.argmax(tails <= tolerance)", "np.argmax(tails < tolerance)"),
        ("singular values lost", "s[:keep, None] * Vt[:keep]", "Vt[:keep]"),
        ("axes of a core swapped", "U[:, :keep].reshape(rank, size, keep)",
         "U[:, :keep].reshape(size, rank, keep).swapaxes(0, 1)"),
        ("dense array in Fortran order", "[core.shape[1] for core in cores])", "[core.shape[1] for core in cores], order='F')"),
        ("rounding: R for its transpose", "np.tensordot(right[j - 1], R.T, axes=1)", "np.tensordot(right[j - 1], R, axes=1)"),
        ("rounding: one core not orthonormal", "range(len(cores) - 1, 0, -1)", "range(len(cores) - 1, 1, -1)"),
        ("rounding: losses of earlier bonds lost", "dropped += eps", "dropped = eps"),
        ("cores not diagonal", "np.eye(table.shape[1])", "np.ones((table.shape[1], table.shape[1]))"),
        ("first core: only the first term", "cores[0].sum(1, keepdims=True)", "cores[0][:, :1]"),
        ("last core: only the first term", "cores[-1].sum(3, keepdims=True)", "cores[-1][..., :1]"),
        ("rows of cores: first factor fastest", "wpk,wkal->wpal", "wpk,wkal->wapl"),
    ),
    *of(
        "encoding.py",
        ("leaves of another term", "self.index[ids, :, j], term]", "self.index[ids, :, j], term[::-1]]"),
        ("amplitudes of other words", "self.amplitudes[ids]", "self.amplitudes[: len(ids)]"),
        ("the bag replaces the product", "rows[has] += self", "rows[has] = self"),
        ("the carrier upside down", "else rows @ self.carrier ", "else rows @ self.carrier[::-1] "),
        ("scores: inverse for transpose", "h = h @ self.carrier.T", "h = h @ np.linalg.pinv(self.carrier)"),
        ("scores: last word of a block missing", "min(start + block, V)", "min(start + block - 1, V)"),
        ("a shared table counted twice", "once.setdefault(id(table),", "once.setdefault(j,"),
        ("index type: off by one", "max(count - 1, 0)", "max(count, 0)"),
        ("padding of the bag counted", "np.count_nonzero(self.bag >= 0) *", "self.bag.size *"),
        ("lengths of the bag not counted", "bytes_ += len(self.bag) + ", "bytes_ += "),
    ),
    *of(
        "fit.py",
        ("weights without the one", "dtype=float) + 1) ** power", "dtype=float)) ** power"),
        ("weights of sum 1", "return weights / weights.mean()", "return weights / weights.sum()"),
        ("carrier: no square root", "np.sqrt(weights[block, None])", "weights[block, None]"),
        ("carrier: the least directions", "vectors[:, ::-1][:, :inner]", "vectors[:, :inner]"),
        ("carrier: other signs", "np.ascontiguousarray(vectors", "np.ascontiguousarray(-vectors",
         "the sign of a singular vector is free"),
        ("start: variance 1 for one slot alone", "plan.rank ** (-0.5 / len(plan.sizes))", "plan.rank**-0.5"),
        ("ridge meets other weights", "weights[rest].mean() / weights.mean() if weights[rest].any() else 1.0", "1.0"),
        ("units re-dealt from the first sweep on", "free if sweep else None", "free"),
        ("what lies beyond the carrier counted twice", "float(norm - inside)", "2 * float(norm - inside)"),
        ("two words own one vector", "np.bincount(unit)[unit] == 1", "np.bincount(unit)[unit] <= 2"),
        ("own vectors on top of their start", "vectors[own] = 0", "vectors[own] += 0"),
        ("own vectors with the wrong sign", "encoding.carrier) - encoding.inner_rows(ids)",
         "encoding.carrier) + encoding.inner_rows(ids)"),
        ("error over an unweighted norm", "norm += weights[block] @ (rows**2).sum(1)", "norm += (rows**2).sum()"),
    ),
    *of(
        "als.py",
        ("matrix not scaled", "self.residual[block] /= self.scale", "self.residual[block] /= 1.0"),
        ("bag vectors not scaled at the start", ".astype(float) / self.scale", ".astype(float)"),
        ("bag vectors not scaled at the end", "self.bag_vectors * self.scale", "self.bag_vectors"),
        ("leaves scaled in every slot", "self.scale ** (1 / n)", "self.scale"),
        ("another slot is unfolded", "int(np.prod(sizes[:j])), sizes[j]", "int(np.prod(sizes[j + 1 :])), sizes[j]"),
        ("Gram matrices added", "G *= leaf @ leaf", "G += leaf @ leaf"),
        ("units: no weights", "csr_array((self.f[block], (u", "csr_array((np.ones(len(u)), (u"),
        ("units: twice the ridge", "leaves = np.linalg.solve(A + _damping(A, self.ridge), B)",
         "leaves = np.linalg.solve(A + _damping(A, 2 * self.ridge), B)"),
        ("bag: no weights on the right", "(self.f[block, None] * self.residual[block])", "self.residual[block]"),
        ("bag: no weights on the left", "@ scipy.sparse.diags_array(self.f) @", "@"),
        ("history: no ridge", "data_error + self.ridge * squares", "data_error"),
        ("history: nothing beyond the carrier", "(self.beyond_carrier + data_error", "(data_error"),
        ("history: cross term once", "explained = 2 * (leaves * B)", "explained = (leaves * B)"),
        ("re-dealing: cross term once", "squares.T - 2 * b.reshape", "squares.T - b.reshape"),
        ("re-dealing: dearest unit", "low + cost.argmin(1)", "low + cost.argmax(1)"),
        ("re-dealing: knowledge units, too", "best = low + cost", "best = cost"),
        ("re-dealing: words that are not free", "np.where(units.free[block, j], best", "np.where(True, best"),
        ("re-dealing: terms that are not free", "np.where(units.free[block, k, j], best", "np.where(True, best"),
        ("one table: uphill", "- old[:, terms]  # (U, g, q)", "+ old[:, terms]"),
        ("one table: a step that raises the objective", "(new**2).sum() <= before", "(new**2).sum() <= 2 * before"),
        ("one table: no ridge in the comparison", "before = self._error(target, terms) + self.ridge * (old**2).sum()",
         "before = self._error(target, terms) + 2 * self.ridge * (old**2).sum()"),
    ),
    *of(
        "alignment.py",
        ("likelihood: no share for each f", "np.log(likelihood / lengths)", "np.log(likelihood)"),
        ("shares sum to 1 over f", "went / np.bincount(f, went)[f]", "went / np.bincount(e, went)[e]"),
        ("a word is not divided among its sources", "share / likelihood[token]", "share"),
        ("likelihood of squared shares", "np.bincount(token, share)", "np.bincount(token, share ** 2)"),
        ("translations of any probability", "if -share >= least", "if -share >= 0"),
        ("one translation more", "[:most]", "[: most + 1]"),
    ),
]


def mutated(text, mutant):
    """The text with the planted error; ValueError unless there is exactly one place for it."""
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.file}, {mutant.breaks}: expected {mutant.old!r} once, got it {text.count(mutant.old)} times")
    return text.replace(mutant.old, mutant.new)


def first_failure(folder, tests, seconds=SECONDS):
    """Run tests in a folder until one fails: file::test of that one, 'time limit', or None if all pass."""
    env = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return "time limit"
    failed = re.search(r"^(?:FAILED|ERROR) ([^\s\[]+)", done.stdout, re.MULTILINE)
    if done.returncode and not failed:
        raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return failed[1] if done.returncode else None


def verdict(folder, package, mutant, tests, seconds=SECONDS):
    """Plant the error in folder/package, run the tests, take the error out again: what `first_failure` says."""
    path = folder / package / mutant.file
    right = path.read_text(encoding="utf-8")
    path.write_text(mutated(right, mutant), encoding="utf-8")
    try:
        return first_failure(folder, tests, seconds)
    finally:
        path.write_text(right, encoding="utf-8")


def claim(test):
    """'D7' if the docstring of file::test starts with it, else ''."""
    file, _, name = test.partition("::")
    nodes = ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))) if name else ()
    docstrings = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, ast.FunctionDef) and node.name == name]
    found = re.match(r"D\d+(?=:)", "".join(docstrings))
    return found[0] if found else ""


def line(mutant, caught):
    """A row of the table."""
    shown = f"`{caught.partition('::')[2] or caught}` {claim(caught)}".strip() if caught else "SURVIVED"
    return f"| {mutant.file} | {mutant.breaks} | {shown} | {mutant.same} |"


def files_of(file):
    return [f"tests/test_{name}.py" for name in TESTS[file].split()]


def main(files):
    with tempfile.TemporaryDirectory() as name:
        folder, wrong, chosen = Path(name), [], [mutant for mutant in MUTANTS if not files or mutant.file in files]
        for part in ("see_min", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        for file in dict.fromkeys(mutant.file for mutant in chosen):
            if failed := first_failure(folder, files_of(file)):
                sys.exit(f"{failed} fails without any mutant")
        print("| file | planted error | caught by | why it computes the same |\n|---|---|---|---|", flush=True)
        for mutant in chosen:
            caught = verdict(folder, "see_min", mutant, files_of(mutant.file))
            wrong += [mutant] * (bool(caught) == bool(mutant.same))
            print(line(mutant, caught), flush=True)
    same = sum(bool(mutant.same) for mutant in chosen)
    print(f"\n{len(chosen)} mutants, {same} of them the same, {len(wrong)} not as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
