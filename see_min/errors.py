"""Errors as part of the interface: *name: expected the rule, got the value*."""

import importlib

import numpy as np


class InputError(ValueError):
    """An argument, a file or a setting cannot be used; the text says what was expected."""


def require(package, install=None):
    """Import a package that not every user needs; if it is missing, raise an
    InputError that names the command for it.

    >>> require("no_such_one")
    Traceback (most recent call last):
    ...
    see_min.errors.InputError: no_such_one: expected the package, got none: pip install no_such_one
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        name = package.partition(".")[0]
        command = install or f"pip install {name}"
        raise InputError(f"{name}: expected the package, got none: {command}") from None


def check_at_least(name, value, low):
    """Return `value` if it is at least `low`, else InputError; NaN is not."""
    if not value >= low:
        raise InputError(f"{name}: expected at least {low}, got {value}")
    return value


def check_axes(name, array, *axes):
    """Return `array` as an ndarray if its shape matches `axes` (None matches any length).

    >>> check_axes("index", [0, 1], None, 2)
    Traceback (most recent call last):
    ...
    see_min.errors.InputError: index: expected shape (*, 2), got (2,)
    """
    return check_shape(name, np.asarray(array), *axes)


def check_shape(name, array, *axes):
    """As `check_axes`, InputError too, but the array stays what it is: it may be read in blocks."""
    array = array if hasattr(array, "shape") else np.asarray(array)
    matches = all(a is None or a == s for a, s in zip(axes, array.shape))
    if len(array.shape) != len(axes) or not matches:
        rule = ", ".join("*" if a is None else str(a) for a in axes)
        rule += "," if len(axes) == 1 else ""
        raise InputError(f"{name}: expected shape ({rule}), got {tuple(array.shape)}")
    return array


def check_finite(name, array):
    """Return `array` if it holds neither NaN nor infinity, else InputError."""
    bad = int(np.size(array) - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise InputError(f"{name}: expected finite numbers, got {bad} that are NaN or infinite")
    return array


def check_ids(name, ids, size):
    """Return `ids` as integers if each lies in 0 .. size - 1, else InputError."""
    ids = np.asarray(ids)
    if ids.size == 0:
        return ids.astype(np.int64)
    rule = f"{name}: expected whole numbers from 0 to {size - 1}"
    if ids.dtype.kind not in "iu":
        raise InputError(f"{rule}, got {ids.dtype}")
    wrong = ids[(ids < 0) | (ids >= size)]
    if wrong.size:
        raise InputError(f"{rule}, got {wrong.flat[0]}")
    return ids
