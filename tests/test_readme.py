"""The README says only what is there: its Python block runs, its commands are the ones that CI runs."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_block_compresses_a_matrix_and_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stems, endings = "add call copy load mask pack plot play scale sort test view".split(), ["", "s", "ed", "ing", "er"]
    words = [stem + ending for stem in stems for ending in endings]
    E0 = np.random.default_rng(0).standard_normal((len(words), 24))  # (60, 24)
    model = torch.nn.Sequential(torch.nn.Embedding(*E0.shape))
    block = re.search(r"```python\n(.*?)```", README, re.S)[1].replace("ratio=20", "ratio=4")
    scope = {"words": words, "counts": np.arange(len(words))[::-1], "E0": E0, "model": model}
    exec(block, scope)
    assert scope["encoding"].shape == E0.shape and scope["encoding"].floats <= E0.size / 4
    assert scope["history"][-1] < scope["history"][0] and (tmp_path / "words.npz").exists()
    ids = torch.tensor([5, 7])
    assert model(ids).detach().numpy() == pytest.approx(scope["encoding"].rows([5, 7]), abs=1e-5)


def test_readme_command_for_tests_is_what_ci_runs():
    ci = (ROOT / ".ci" / "run").read_text()
    for command in ("pip install -q -r requirements.txt", "python -m pytest", "python -m see_min compress --quick"):
        assert command in ci
    assert "pip install -r requirements.txt && python -m pytest" in README
