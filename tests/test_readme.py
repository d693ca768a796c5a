"""The README and the pages say only what is there: code blocks run, commands can be parsed."""

import base64
import re
import shlex
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from tiny import D, tokenizer, transformer

from see_min.bridge import compress
from see_min.experiments import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)
PAGES = ["README.md", "docs/architecture.md", "docs/hownet.md", "docs/related.md"]
COMMAND = re.compile(r"python -m see_min ([a-z][^`#\n|&)]*)")


def test_readme_blocks_compress_a_matrix_and_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stems = "add call copy load mask pack plot play scale sort test view".split()
    words = [stem + ending for stem in stems for ending in ("", "s", "ed", "ing", "er")]
    E0 = np.random.default_rng(0).standard_normal((len(words), 24))  # (60, 24)
    model = torch.nn.Sequential(torch.nn.Embedding(*E0.shape))
    scope = {"words": words, "counts": np.arange(60)[::-1], "E0": E0, "model": model}
    matrix, whole, *_ = BLOCKS
    exec(matrix.replace("ratio=20", "ratio=4"), scope)
    encoding = scope["encoding"]
    assert encoding.shape == E0.shape and encoding.bytes <= 4 * E0.size / 4
    assert type(encoding).load(tmp_path / "words.npz").words == words
    before = model[0].weight.detach().clone()
    exec(whole.replace("ratio=20", "ratio=4"), scope)
    after = model[0].weight.detach()
    assert isinstance(model[0], torch.nn.Embedding) and after.shape == before.shape
    assert not torch.equal(after, before)


def test_readme_blocks_compress_models_in_folders(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    transformer("GPT2LMHeadModel").save_pretrained("gpt")
    tokenizer().save_pretrained("gpt")
    scope, ids = {"folder": "gpt", "compress": compress}, torch.arange(4, 12)[None]
    exec(BLOCKS[2].replace("ratio=20", "ratio=3"), scope)
    again = transformers.AutoModelForCausalLM.from_pretrained("small")
    assert type(again.get_input_embeddings()).__name__ == "SememeEmbedding"
    assert torch.equal(again(ids).logits, scope["model"](ids).logits)


def test_readme_blocks_compress_an_encoder_of_sentences(tmp_path, monkeypatch):
    sentences = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer import modules

    monkeypatch.chdir(tmp_path)
    transformer("BertModel").save_pretrained("bert")
    tokenizer().save_pretrained("bert")
    parts = [modules.Transformer("bert"), modules.Pooling(D)]
    sentences.SentenceTransformer(modules=parts).save("st")
    scope = {"folder": "st", "compress": compress}
    exec(BLOCKS[3].replace("ratio=20", "ratio=3"), scope)
    texts = ["bad beno", "bilk"]
    again = sentences.SentenceTransformer("small-encoder").encode(texts)
    assert np.array_equal(again, scope["encoder"].encode(texts))
    assert not np.allclose(again, sentences.SentenceTransformer("st").encode(texts))


def test_the_picture_of_the_readme_is_that_of_the_tour():
    cells = nbformat.read(ROOT / "notebooks/00_tour.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    drawn = next(o.data["image/png"] for o in outputs if "image/png" in o.get("data", {}))
    assert base64.b64decode(drawn) == (ROOT / "docs/figures/parts.png").read_bytes()


def test_the_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 90 and max(map(len, lines)) <= 120


def commands(text):
    return [line.strip().split("  ")[0] for line in COMMAND.findall(text.replace("\\\n", " "))]


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_can_be_parsed(page):
    found = commands((ROOT / page).read_text(encoding="utf-8"))
    assert found
    for line in found:
        argv = shlex.split(line)
        parser, _ = cli.make_parser(argv[0])
        assert parser.parse_args(argv).command == argv[0], line
    with pytest.raises(SystemExit):
        parser.parse_args([*argv, "--no-such-flag"])
