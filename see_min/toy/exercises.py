"""What the checks of the notebooks' exercises have in common."""

import numpy as np


def compare(answer, oracle, cases, rtol=1e-9, atol=1e-12):
    """Show the first case, of cases from the smallest on, where an answer differs from the oracle.

    A case is the tuple of the arguments. Numbers, arrays and sequences of them are compared with a
    tolerance, all else with ==.

    >>> compare(lambda n: n * n, lambda n: n + n, [(0,), (2,)])
    right in 2 cases
    >>> compare(lambda n: n * n, lambda n: n + n, [(0,), (1,), (2,)])
    Traceback (most recent call last):
    AssertionError: smallest counterexample: (1,)
    expected 2
    got      1
    """
    for case in cases:
        expected, got = oracle(*case), answer(*case)
        if not _alike(expected, got, rtol, atol):
            raise AssertionError(f"smallest counterexample: {case}\nexpected {expected}\n"
                                 f"got      {got}")
    print(f"right in {len(cases)} cases")


def _alike(expected, got, rtol, atol):
    try:
        return np.shape(expected) == np.shape(got) and np.allclose(expected, got, rtol, atol)
    except (TypeError, ValueError):  # not numbers, or of several shapes
        return expected == got
