"""New words in models of transformers: tokenizer, embedding and head; the command `extend`."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import WORDS, D, V, call, refused, tokenizer, transformer

from see_min import InputError
from see_min.bridge import SememeEmbedding, add_words, compress
from see_min.new_words import new_rows
from see_min.words.lexicon import Lexicon

torch = pytest.importorskip("torch")
SEMEMES = "land water animal part tool".split()
LEXICON = Lexicon.of({w: [[SEMEMES[i % 5], SEMEMES[i // 5 % 5]]] for i, w in enumerate(WORDS)})
NEW = {"zork": [["land", "tool"]], "quix": [["water"], ["animal", "part"]]}


def model_of(kind, compressed, **changes):
    model, words = transformer(kind, **changes), tokenizer()
    if compressed:
        compress(model, words.get_vocab(), ratio=5, lexicon=LEXICON, sweeps=1)
    return model, words


@pytest.mark.parametrize("compressed", [False, True], ids=["dense", "compressed"])
@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "GPT2LMHeadModel"])
def test_words_become_tokens_with_the_rows_of_the_core(kind, compressed):
    model, words = model_of(kind, compressed)
    layer = model.get_input_embeddings()
    old, source = layer.weight.detach().clone(), None
    if compressed:
        source = layer.to_encoding()
    ids = add_words(model, words, NEW, LEXICON)
    assert ids == [V, V + 1] == words(" zork quix", add_special_tokens=False)["input_ids"]
    new = model.get_input_embeddings()
    assert isinstance(new, SememeEmbedding) == compressed
    torch.testing.assert_close(new.weight[:V], old, atol=1e-5, rtol=1e-5)
    if source is not None:
        source.words = words.convert_ids_to_tokens(list(range(V)))
        step = new.weight.abs().max().item() / 30
        np.testing.assert_allclose(new.weight[V:].detach(), new_rows(source, NEW, LEXICON),
                                   atol=step)
    inputs = torch.tensor([[5, V, V + 1, 7]])
    out = model(input_ids=inputs)
    if "logits" in out:
        assert out.logits.shape == (1, 4, V + 2)
        state = model.base_model(input_ids=inputs)[0]
        head = model.get_output_embeddings()
        dense = (model.cls.predictions.transform(state) if "Bert" in kind else state) @ new.weight.T
        bias = 0 if head.bias is None else head.bias
        torch.testing.assert_close(out.logits, dense + bias, atol=1e-4, rtol=1e-4)


def test_a_head_of_its_own_gets_rows_of_its_own():
    model, words = model_of("GPT2LMHeadModel", False, tie_word_embeddings=False)
    W = model.lm_head.weight.detach().clone()
    add_words(model, words, NEW, LEXICON)
    assert model.lm_head.weight.shape == (V + 2, D)
    torch.testing.assert_close(model.lm_head.weight[:V], W)
    assert (model.lm_head.weight[V:] - model.transformer.wte.weight[V:]).abs().max() > 0.01


@pytest.mark.parametrize("words, text", [
    ({WORDS[3]: None}, "one token"),
    ([], "words: expected at least 1"),
    (["two words"], "without spaces"),
    (["1234"], "nothing of '1234'"),  # and letters that the tokenizer does not know
])
def test_what_cannot_be_added_is_refused_and_nothing_changes(words, text):
    model, own = model_of("BertModel", True)
    before = {key: x.clone() for key, x in model.state_dict().items()}
    with pytest.raises(InputError, match=text):
        add_words(model, own, words, LEXICON)
    assert len(own) == V
    for key, x in model.state_dict().items():
        assert torch.equal(x, before[key])


@pytest.mark.parametrize("pieces", [True, False])
def test_pieces_of_a_word_have_a_part_in_its_row_unless_they_must_not(pieces):
    model, words = model_of("BertModel", False)
    old = model.get_input_embeddings().weight.detach().double().numpy()
    word = f"{WORDS[3]}-{WORDS[4]}"
    source = SimpleNamespace(words=words.convert_ids_to_tokens(list(range(V))),
                             rows=lambda ids: old[ids])
    spelled = {word: words.convert_tokens_to_ids([WORDS[3], WORDS[4]])} if pieces else None
    senses = {word: [["land", "tool"]]}
    expected = new_rows(source, senses, LEXICON, spelled)
    other = new_rows(source, senses, LEXICON, None if pieces else {word: [5, 6]})
    id = add_words(model, words, senses, LEXICON, pieces)
    row = model.get_input_embeddings().weight[id].detach().numpy()
    np.testing.assert_allclose(row, expected, atol=1e-5)
    assert np.abs(row - other).max() > 1e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A compressed folder, a lexicon file and a file of new words."""
    from see_min.experiments.hf_models import save_model

    path = tmp_path_factory.mktemp("grow")
    model, words = model_of("BertModel", True)
    save_model(model, words, path / "small")
    lines = [f"{w}\n" + "\t".join(LEXICON.senses(w)[0]) for w in WORDS]
    (path / "lexicon.txt").write_text("\n".join(lines) + "\n")
    (path / "new.txt").write_text(f"zork\tland tool\nquix\t= the {WORDS[7]}, {WORDS[8]}\n")
    return path


def test_extend_writes_a_folder_that_a_new_process_reads(folder, capsys):
    arguments = ["extend", folder / "small", "--words", folder / "new.txt",
                 "--lexicon", folder / "lexicon.txt", "--out", folder / "grown"]
    old = {p.name: p.read_bytes() for p in (folder / "small").iterdir()}
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (0, f"zork\t{V}\nquix\t{V + 1}\n"), err
    assert old == {p.name: p.read_bytes() for p in (folder / "small").iterdir()}
    program = ("import sys, see_min.bridge, transformers as t\n"
               "m = t.AutoModel.from_pretrained(sys.argv[1])\n"
               "k = t.AutoTokenizer.from_pretrained(sys.argv[1])\n"
               "ids = k('zork quix', add_special_tokens=False, return_tensors='pt').input_ids\n"
               "print(ids.tolist(), m(input_ids=ids)[0].isfinite().all().item())")
    run = subprocess.run([sys.executable, "-c", program, folder / "grown"], capture_output=True,
                         text=True, env=os.environ, check=True)
    assert run.stdout == f"[[{V}, {V + 1}]] True\n"
    code, out, err = call(capsys, "explain", folder / "grown", "zork")
    assert code == 0, err
    assert "sememe:land + sememe:tool" in " ".join(out.split()), out
    assert "grown" in refused(capsys, *arguments)  # it is there


def test_extend_that_is_stopped_leaves_no_folder_and_the_old_one(folder, capsys, monkeypatch):
    from see_min.experiments import extend

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(extend, "save_model", lambda *_: stop())
    code, _, _ = call(capsys, "extend", folder / "small", "--words", folder / "new.txt",
                      "--lexicon", folder / "lexicon.txt", "--out", folder / "stopped")
    assert code == 130
    assert sorted(p.name for p in folder.iterdir() if "stopped" in p.name) == []


@pytest.mark.parametrize("text, expected", [
    ("", "at least 1 word"), ("a\t\n", ":1: expected a word"), ("a\t= xyzzy\n", "that the lexicon"),
    ("\tland\n", ":1: expected a word"),
])
def test_extend_refuses_other_lines(folder, capsys, tmp_path, text, expected):
    (tmp_path / "words.txt").write_text(text)
    err = refused(capsys, "extend", folder / "small", "--words", tmp_path / "words.txt",
                  "--out", tmp_path / "out")
    assert expected in err
