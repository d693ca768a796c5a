"""Phases of long work: each is done once, kept whole or not at all, and taken from its file when a stopped run is resumed."""

import json
from pathlib import Path

from see_min.files import write_atomic


class Phases:
    """The finished phases of one run.

    Parameters
    ----------
    out : path
        They lie in out/phases.
    fingerprint : str
        Of everything that a phase depends on; phases of another fingerprint are worked again.
    resume : bool
        Use finished phases.
    say : callable(str)
    keep : bool
        Write finished phases; of several processes the first alone does.
    """

    def __init__(self, out, fingerprint, resume=False, say=print, keep=True):
        self.folder, self.fingerprint, self.resume, self.say, self.keep = Path(out) / "phases", fingerprint, resume, say, keep

    def __call__(self, name, work, *arguments):
        """`work(*arguments)` gives a JSON value; kept in phases/name.json, and taken from there when resuming."""
        path = self.folder / f"{name}.json"
        if self.resume:
            try:
                stored = json.loads(path.read_text())
                if stored["fingerprint"] == self.fingerprint:
                    self.say(f"{name}: done before")
                    return stored["value"]
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                pass  # not finished, or of another job
        if not self.keep:
            return work(*arguments)
        path.unlink(missing_ok=True)  # or, if this work is stopped, an older job would take its new checkpoint for its own
        value = work(*arguments)
        write_atomic(path, json.dumps({"fingerprint": self.fingerprint, "value": value}))
        return value
