"""The README and the pages say only what is there: code blocks run, commands can be parsed."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from see_min.experiments import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ["README.md", "docs/architecture.md", "docs/hownet.md", "docs/related.md"]
COMMAND = re.compile(r"python -m see_min ([a-z][^`#\n|&)]*)")


def test_readme_blocks_compress_a_matrix_and_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stems = "add call copy load mask pack plot play scale sort test view".split()
    words = [stem + ending for stem in stems for ending in ("", "s", "ed", "ing", "er")]
    E0 = np.random.default_rng(0).standard_normal((len(words), 24))  # (60, 24)
    model = torch.nn.Sequential(torch.nn.Embedding(*E0.shape))
    scope = {"words": words, "counts": np.arange(60)[::-1], "E0": E0, "model": model}
    matrix, whole = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(matrix.replace("ratio=20", "ratio=4"), scope)
    encoding = scope["encoding"]
    assert encoding.shape == E0.shape and encoding.bytes <= 4 * E0.size / 4
    assert type(encoding).load(tmp_path / "words.npz").words == words
    before = model[0].weight.detach().clone()
    exec(whole.replace("ratio=20", "ratio=4"), scope)
    after = model[0].weight.detach()
    assert isinstance(model[0], torch.nn.Embedding) and after.shape == before.shape
    assert not torch.equal(after, before)


def commands(text):
    return [line.strip().split("  ")[0] for line in COMMAND.findall(text.replace("\\\n", " "))]


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_can_be_parsed(page):
    found = commands((ROOT / page).read_text(encoding="utf-8"))
    assert found and len(README.splitlines()) <= 110
    for line in found:
        argv = shlex.split(line)
        parser, _ = cli.make_parser(argv[0])
        assert parser.parse_args(argv).command == argv[0], line


def test_a_command_with_an_unknown_flag_is_found():
    parser, _ = cli.make_parser("train")
    with pytest.raises(SystemExit):
        parser.parse_args(shlex.split(commands("`python -m see_min train --policy see`")[0]))
