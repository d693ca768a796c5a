"""Errors: the rule and the number, one test per rule."""

import numpy as np
import pytest

from see_min import errors
from see_min.errors import InputError, check_at_least, check_axes, check_finite, check_shape

IDS = "ids: expected whole numbers from 0 to 4, got "


@pytest.mark.parametrize(("call", "text"), [
    (lambda: check_at_least("lr", float("nan"), 0), "lr: expected at least 0, got nan"),
    (lambda: check_shape("f", 1.0, None, 3), "f: expected shape (*, 3), got ()"),
    (lambda: check_finite("E", [1, np.nan, np.inf]),
     "E: expected finite numbers, got 2 that are NaN or infinite"),
    (lambda: errors.check_ids("ids", [0, 5], 5), IDS + "5"),
    (lambda: errors.check_ids("ids", [-1], 5), IDS + "-1"),
    (lambda: errors.check_ids("ids", [0.0], 5), IDS + "float64"),
])
def test_every_check_names_the_rule_and_the_number(call, text):
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == text


def test_what_passes_a_check_is_returned():
    array = np.ones((2, 3))
    assert check_axes("E", array, None, 3) is array is check_shape("E", array, 2, 3)
    assert check_finite("E", array) is array and check_at_least("lr", 0, 0) == 0
    assert errors.require("numpy") is np
    assert errors.check_ids("ids", [4, 0], 5).tolist() == [4, 0]
    assert errors.check_ids("ids", [], 0).dtype == np.int64  # no ids fit any size
