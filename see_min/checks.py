"""Errors as part of the interface: *name: expected the rule, got the value*."""

import numpy as np


class ShapeError(ValueError):
    """An array argument has the wrong number of axes or the wrong length along one."""


class DataError(ValueError):
    """A file, or a value that a user gave, cannot be used; the text says what was expected."""


def check_at_least(name, value, low):
    """Return `value` if it is at least `low`.

    Raises
    ------
    DataError
        If ``value < low`` or value is NaN.

    Examples
    --------
    >>> check_at_least("rank", 3, 1)
    3
    >>> check_at_least("rank", 0, 1)
    Traceback (most recent call last):
    ...
    see_min.checks.DataError: rank: expected at least 1, got 0
    """
    if not value >= low:
        raise DataError(f"{name}: expected at least {low}, got {value}")
    return value


def check_axes(name, array, *axes):
    """Return `array` as an ndarray if its shape matches `axes` (None matches any length).

    Raises
    ------
    ShapeError
        If the number of axes or a fixed length differs.

    Examples
    --------
    >>> check_axes("index", [[0, 1], [2, 3]], None, 2).shape
    (2, 2)
    >>> check_axes("index", [0, 1], None, 2)
    Traceback (most recent call last):
    ...
    see_min.checks.ShapeError: index: expected shape (*, 2), got (2,)
    """
    return check_shape(name, np.asarray(array), *axes)


def check_shape(name, array, *axes):
    """Return `array` as it is, if its shape matches `axes`: for matrices that are read a block of rows at a time.

    Raises
    ------
    ShapeError
        As `check_axes`.
    """
    array = array if hasattr(array, "shape") else np.asarray(array)
    if len(array.shape) != len(axes) or any(a is not None and a != s for a, s in zip(axes, array.shape)):
        rule = ", ".join("*" if a is None else str(a) for a in axes) + ("," if len(axes) == 1 else "")
        raise ShapeError(f"{name}: expected shape ({rule}), got {array.shape}")
    return array


def check_finite(name, array):
    """Return `array` if it holds neither NaN nor infinity.

    Raises
    ------
    DataError
        If a value is not finite; the text says how many are not.

    Examples
    --------
    >>> check_finite("matrix", np.array([1.0, np.nan]))
    Traceback (most recent call last):
    ...
    see_min.checks.DataError: matrix: expected finite numbers, got 1 that are NaN or infinite
    """
    bad = int(np.size(array) - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise DataError(f"{name}: expected finite numbers, got {bad} that are NaN or infinite")
    return array


def check_ids(name, ids, size):
    """Return `ids` as integers if each lies in 0 .. size - 1.

    Raises
    ------
    DataError
        If an id is not a whole number or is out of range.

    Examples
    --------
    >>> check_ids("ids", [0, 7], 5)
    Traceback (most recent call last):
    ...
    see_min.checks.DataError: ids: expected whole numbers from 0 to 4, got 7
    """
    ids = np.asarray(ids)
    if ids.size == 0:
        return ids.astype(np.int64)
    if ids.dtype.kind not in "iu":
        raise DataError(f"{name}: expected whole numbers from 0 to {size - 1}, got {ids.dtype}")
    wrong = ids[(ids < 0) | (ids >= size)]
    if wrong.size:
        raise DataError(f"{name}: expected whole numbers from 0 to {size - 1}, got {wrong.flat[0]}")
    return ids
