"""Two things that pytest does here besides running the tests.

Tests that prove a claim of docs/derivations.md can be run alone: `python -m pytest -m claim`.
`--skipped` runs what the last run skipped, once the packages that were missing are installed.
"""

import re

import pytest

SKIPPED, KEY = [], "see_min/skipped"  # node ids, of a whole file where the file was skipped


def pytest_addoption(parser):
    parser.addoption("--skipped", action="store_true", help="only what the last run skipped")


def pytest_collection_modifyitems(config, items):
    for item in items:
        docstring = getattr(getattr(item, "function", None), "__doc__", None) or ""
        if re.match(r"D\d+:", docstring):
            item.add_marker(pytest.mark.claim)
    if config.getoption("skipped"):
        before = set(config.cache.get(KEY, []))
        items[:] = [one for one in items if {one.nodeid, one.nodeid.split("::")[0]} & before]


def pytest_collectreport(report):
    pytest_runtest_logreport(report)


def pytest_runtest_logreport(report):
    if report.skipped:
        SKIPPED.append(report.nodeid)


def pytest_sessionfinish(session):
    if getattr(session.config, "cache", None):
        session.config.cache.set(KEY, SKIPPED)
