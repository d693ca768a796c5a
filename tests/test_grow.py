"""New words in models of transformers: tokenizer, embedding and head; the command `extend`."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import WORDS, D, V, call, refused, tokenizer, transformer

from see_min import InputError
from see_min.bridge import SememeEmbedding, add_words, compress, train_rows
from see_min.encoding import private_units
from see_min.words.lexicon import Lexicon
from see_min.words.new_words import new_rows

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
@pytest.mark.parametrize("kind, padding", [
    ("BertModel", 0), ("BertForMaskedLM", 0), ("GPT2LMHeadModel", 0),
    ("BertForMaskedLM", 1), ("GPT2LMHeadModel", 7),  # rows without a token: fewer, and more
])
def test_words_become_tokens_with_the_rows_of_the_core(kind, padding, compressed):
    model, words = model_of(kind, compressed, vocab_size=V + padding)
    layer = model.get_input_embeddings()
    old = layer.weight.detach().clone()
    source = SimpleNamespace(rows=lambda ids: old[ids].numpy())
    source = layer.to_encoding() if compressed else source
    ids = add_words(model, words, NEW, LEXICON)
    assert ids == [V, V + 1] == words(" zork quix", add_special_tokens=False)["input_ids"]
    new, kept = model.get_input_embeddings(), [*range(V), *range(V + 2, V + padding)]
    assert isinstance(new, SememeEmbedding) == compressed
    assert len(new.weight) == new.num_embeddings == model.config.vocab_size == len(kept) + 2
    torch.testing.assert_close(new.weight[kept], old[kept], atol=1e-5, rtol=1e-5)
    source.words = words.convert_ids_to_tokens(list(range(V))) + ["[PAD]"] * padding
    step = new.weight.abs().max().item() / 30 if compressed else 1e-5
    np.testing.assert_allclose(new.weight[ids].detach(), new_rows(source, NEW, LEXICON), atol=step)
    inputs = torch.tensor([[5, V, V + 1, 7]])
    out = model(input_ids=inputs)
    if "logits" in out:
        assert out.logits.shape == (1, 4, len(new.weight))
        state = model.base_model(input_ids=inputs)[0]
        head = model.get_output_embeddings()
        dense = (model.cls.predictions.transform(state) if "Bert" in kind else state) @ new.weight.T
        bias = 0 if head.bias is None else head.bias
        torch.testing.assert_close(out.logits, dense + bias, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind, mark", [("GPT2Tokenizer", "Ġ"), ("LlamaTokenizer", "▁")])
def test_the_space_before_a_word_is_read_and_written(kind, mark, tmp_path):
    transformers = pytest.importorskip("transformers")
    names = ["<unk>", "<s>", "</s>", mark, *map(chr, range(97, 123)), *(mark + w for w in WORDS)]
    words = getattr(transformers, kind)(vocab={t: id for id, t in enumerate(names)}, merges=[],
                                        unk_token="<unk>")
    side, model = words.padding_side, transformer("GPT2LMHeadModel", vocab_size=len(words))
    ids = add_words(model, words, NEW, LEXICON)
    words.save_pretrained(tmp_path)
    for one in (words, transformers.AutoTokenizer.from_pretrained(tmp_path)):
        found = one("a zork quix zorky", add_special_tokens=False)["input_ids"]
        assert [id for id in found if id >= ids[0]] == ids
        assert one.decode(found) == "a zork quix zorky" and one.padding_side == side


@pytest.mark.parametrize("compressed", [False, True], ids=["dense", "compressed"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_rows_of_new_words_train_alone(compressed, tied):
    model, words = model_of("GPT2LMHeadModel", compressed, tie_word_embeddings=tied)
    ids = add_words(model, words, NEW, LEXICON)
    layer, head = model.get_input_embeddings(), model.get_output_embeddings()
    tables = [layer.weight.detach().clone(), head.weight.detach().clone()]
    others = {id(p): p.detach().clone() for p in model.parameters()}
    parts = train_rows(model, ids)
    assert len(parts) == (1 if tied else 2)
    optimizer = torch.optim.Adam([weight for weight, _ in parts], lr=0.1)
    inputs = torch.tensor([[5, *ids, 7]])
    model(input_ids=inputs, labels=inputs).loss.backward()
    optimizer.step()
    for table, part in zip(tables, (layer, head)):
        moved = (part.weight - table).abs().amax(1) > 1e-6
        assert moved.nonzero().flatten().tolist() == ids
    trained = {id(weight) for weight, _ in parts}
    assert all(torch.equal(p, others[id(p)]) for p in model.parameters() if id(p) not in trained)


def test_rows_that_words_share_are_not_trained_alone():
    model, _ = model_of("BertModel", True)
    own, _ = private_units(model.get_input_embeddings().to_encoding().bag)
    shared = next(id for id in range(V) if id not in own)
    with pytest.raises(InputError, match=f"private vectors, got {shared}$"):
        train_rows(model, [shared])


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
    model, words = model_of("BertModel", True, vocab_size=V + 7)
    save_model(model, words, path / "small")
    (path / "small" / "evaluation.json").write_text(
        '{"task": "encoder", "block_size": 8, "value": 0, "text": ""}')
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


KILLED = """
import os
import shutil
import signal
import sys
from pathlib import Path
from see_min.experiments import cli, extend

out, add = Path(sys.argv[-1]), extend.add_words
CHANGES = "os.mkdir os.rename os.remove os.rmdir shutil.rmtree shutil.copyfile".split()


def content():
    return {path.name: path.read_bytes() for path in out.iterdir()} if out.exists() else None


def killed_at_each_change(*arguments):
    ids, found = add(*arguments), []
    for last in range(1000):
        if not (child := os.fork()):  # it goes on with what adding is followed by
            left = iter(range(last))

            def strike(event, of):
                change = event in CHANGES or event == "open" and set(str(of[1])) & set("wax+")
                if change and next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(strike)
            return ids
        status = os.waitpid(child, 0)[1]
        found.append(content())
        if not os.WIFSIGNALED(status):
            break
        shutil.rmtree(out, ignore_errors=True)
    whole = [one == found[-1] for one in found if one is not None]
    print(os.waitstatus_to_exitcode(status), len(found) - len(whole), all(whole), len(whole))
    os._exit(0)


extend.add_words = killed_at_each_change
sys.exit(cli.main(["extend", *sys.argv[1:]]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_extend_killed_at_any_change_leaves_no_folder_or_the_whole_one(folder):
    """At any change of a file or folder, each time after what earlier kills have left."""
    old = {p.name: p.read_bytes() for p in (folder / "small").iterdir()}
    run = subprocess.run(
        [sys.executable, "-c", KILLED, folder / "small", "--words", folder / "new.txt",
         "--lexicon", folder / "lexicon.txt", "--out", folder / "killed"],
        capture_output=True, text=True, env=os.environ, check=True)
    *_, line = run.stdout.splitlines()
    code, absent, same, whole = line.split()
    assert (code, same) == ("0", "True") and int(absent) > 8 and int(whole) > 1, run.stdout
    assert old == {p.name: p.read_bytes() for p in (folder / "small").iterdir()}
    assert [p.name for p in folder.iterdir() if "killed" in p.name] == ["killed"]
    from see_min.experiments.hf_models import load_model

    model, words = load_model(folder / "killed", "encoder")
    assert words.convert_tokens_to_ids("quix") == V + 1
    assert model.get_input_embeddings().num_embeddings == V + 7


def test_extend_gives_a_word_of_which_nothing_is_known_the_mean_of_its_pieces(folder, capsys,
                                                                              tmp_path):
    word, out = f"{WORDS[3]}-{WORDS[4]}", tmp_path / "out"
    (tmp_path / "words.txt").write_text(f"{word}\n")
    arguments = ["extend", folder / "small", "--words", tmp_path / "words.txt", "--out", out]
    assert f"got nothing of '{word}'" in refused(capsys, *arguments, "--no-pieces")
    assert call(capsys, *arguments)[:2] == (0, f"{word}\t{V}\n")


@pytest.mark.parametrize("text, expected", [
    ("", "at least 1 word"), ("a\t\n", ":1: expected a word"), ("a\t= xyzzy\n", "that the lexicon"),
    ("\tland\n", ":1: expected a word"),
])
def test_extend_refuses_other_lines(folder, capsys, tmp_path, text, expected):
    (tmp_path / "words.txt").write_text(text)
    err = refused(capsys, "extend", folder / "small", "--words", tmp_path / "words.txt",
                  "--out", tmp_path / "out")
    assert expected in err
