"""Tests that prove a claim of docs/derivations.md can be run alone: `python -m pytest -m claim`."""

import re

import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        docstring = getattr(getattr(item, "function", None), "__doc__", None) or ""
        if re.match(r"D\d+:", docstring):
            item.add_marker(pytest.mark.claim)
