"""Checkpoints: identical logits in a fresh process, names kept, no code run, damage named."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from see_min.bridge.model import compress
from see_min.experiments.checkpoint import load_checkpoint, save_checkpoint
from see_min.toy.models import (
    BERTConfig,
    GPTConfig,
    TinyBERT,
    TinyGPT,
    TinyTranslator,
    TranslatorConfig,
)

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
IDS = [[1, 2, 10, 0, 7], [3, 4, 5, 6, 3]]
WORDS = [f"w{i}" for i in range(30)]
SIZES = 12, 1, 2, 7
KINDS = {
    "gpt": lambda: (TinyGPT(GPTConfig(30, *SIZES)), WORDS),
    "bert": lambda: (TinyBERT(BERTConfig(30, *SIZES, pad=3)), WORDS),
    "translator": lambda: (TinyTranslator(TranslatorConfig(30, 27, *SIZES)), [WORDS, WORDS[:27]]),
}
RELOAD = """
import sys, numpy as np, torch
from see_min.experiments.checkpoint import load_checkpoint
torch.set_num_threads(1)
for path in sys.argv[1:]:
    model, words = load_checkpoint(path)
    with torch.no_grad():
        logits = model(*[torch.tensor({ids})] * len(model.embeddings)).numpy()
    same = np.array_equal(logits, np.load(path + ".npy"))
    print(same, words[-1][-1], type(model).__name__, sum(p.numel() for p in model.parameters()))
"""


def made(kind, method=None):
    """A model of a kind, and its words."""
    torch.manual_seed(0)
    model, words = KINDS[kind]()
    for name in model.embeddings if method else ():
        rows = model.get_submodule(name).num_embeddings
        compress(model, WORDS[:rows], 2, name=name, method=method, sweeps=1)
    return model.eval(), words


def test_every_kind_of_model_gives_bit_identical_logits_in_a_fresh_process(tmp_path):
    paths, expected = [], []
    for kind, method in ((kind, method) for kind in KINDS for method in (None, "see", "svd")):
        model, words = made(kind, method)
        path = str(tmp_path / f"{kind}{method}.pt")
        save_checkpoint(model, path, words)
        with torch.no_grad():
            logits = model(*[torch.tensor(IDS)] * len(model.embeddings)).numpy()
        np.save(path + ".npy", logits)
        paths.append(path)
        parameters = sum(p.numel() for p in model.parameters())
        expected.append(f"True {words[-1][-1]} {type(model).__name__} {parameters}")
    run = subprocess.run([sys.executable, "-c", RELOAD.format(ids=IDS), *paths], cwd=ROOT,
                         text=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (run.returncode, run.stderr, run.stdout.splitlines()) == (0, "", expected)


@pytest.mark.parametrize("kind", ["gpt", "translator"])
def test_a_damaged_or_foreign_file_is_named(tmp_path, kind):
    path, (model, words) = tmp_path / "a.pt", made(kind, "see")
    save_checkpoint(model, path, words)
    whole, stored = path.read_bytes(), torch.load(path, weights_only=True)
    expected = re.escape(f"{path}: expected a checkpoint of see_min, got ")
    for data in (whole[:10], whole[: len(whole) // 2], whole[:-10], b"", b"text"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=expected):
            load_checkpoint(path)
    for other in ([], {}, {"format": "other"}, stored | {"format": "see_min bert 3"},
                  stored | {"state": {}}, stored | {"words": []}):
        torch.save(other, path)
        with pytest.raises(ValueError, match=expected):
            load_checkpoint(path)
    with pytest.raises(ValueError, match="none.pt: expected a checkpoint of see_min, got "):
        load_checkpoint(tmp_path / "none.pt")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_loading_executes_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": "see_min gpt 3", "config": Evil()}, "a.pt")
    with pytest.raises(ValueError, match="a.pt: expected a checkpoint"):
        load_checkpoint("a.pt")
    assert not (tmp_path / "executed").exists()
