"""Models in a folder: compressed by the command, resumed, saved, loaded, measured; bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SPECIAL, STEMS, WORDS, D, V, call, refused, tokenizer, transformer

from see_min import InputError
from see_min.experiments.cli import main
from see_min.experiments.hf_models import (
    Pretrained,
    PretrainedTranslator,
    load_pretrained,
    save_model,
)

pytest.importorskip("transformers")
pytest.importorskip("sacrebleu")
torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
METRIC = {"lm": "perplexity", "mlm": "masked accuracy", "encoder": "STS", "translation": "BLEU"}
T5 = "T5ForConditionalGeneration"
KINDS = {"lm": "GPT2LMHeadModel", "mlm": "BertForMaskedLM", "encoder": "BertModel"}
FLAGS = ["--quick", "--ratios", "4", "--batch-size", "4", "--block-size", "8", "--device", "cpu"]


# ------------------------------------------------------------------ folders of made-up models


def ending():
    """The tokenizer of a translator: [SEP] ends a sentence."""
    return tokenizer(shape="$A [SEP]", eos_token="[SEP]")


def sentence(rng, length):
    share = 1 / np.arange(3, len(WORDS) + 3)
    return " ".join(rng.choice(WORDS, length, p=share / share.sum()))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """corpus.txt, sts.csv, source.txt, target.txt, and a model per task.

    A target is what the dense translator makes of its source, so it has BLEU 100.
    """
    folder, rng = tmp_path_factory.mktemp("inputs"), np.random.default_rng(0)
    (folder / "corpus.txt").write_text("".join(f"{sentence(rng, 9)} .\n" for _ in range(300)))
    pairs = [f"{sentence(rng, 5)},{sentence(rng, 7)},{rng.random():.2f}" for _ in range(12)]
    (folder / "sts.csv").write_text("\n".join(pairs) + "\n")
    (folder / "lexicon.txt").write_text("".join(f"{w}\nm{w[0]}\tn{w[1]}\n" for w in STEMS[:99]))
    for name, kind in KINDS.items():
        transformer(kind).save_pretrained(folder / name)
        tokenizer().save_pretrained(folder / name)
    model = transformer("MT5ForConditionalGeneration")
    model.generation_config.update(suppress_tokens=[0, 1, 2, 4], no_repeat_ngram_size=1)
    model.save_pretrained(folder / "translation")
    ending().save_pretrained(folder / "translation")
    sources = [sentence(rng, 3 + i % 4) for i in range(60)]
    targets = load_pretrained(folder / "translation", "translation", 8).translate(sources)
    for name, texts in (("source", sources), ("target", targets)):
        (folder / f"{name}.txt").write_text("\n".join(texts) + "\n")
    return folder


def data(inputs, task):
    """The flags of a task's files."""
    if task == "translation":
        return ["--parallel", inputs / "source.txt", inputs / "target.txt"]
    sts = ["--sts", inputs / "sts.csv"] if task == "encoder" else []
    return ["--corpus", inputs / "corpus.txt", *sts]


def command(inputs, task, out, *more, path=None):
    return ["compress", path or inputs / task, "--task", task, *data(inputs, task), *FLAGS,
            "--lexicon", inputs / "lexicon.txt", "--out", out, *more]


def rows_of(out):
    return json.loads((out / "report.json").read_text())["rows"]


@pytest.fixture(scope="module")
def outs(inputs, tmp_path_factory):
    """What the command writes, a folder per task."""
    folder = tmp_path_factory.mktemp("outs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "morfessor", None)  # what has codes alone splits no words
        for task in METRIC:
            assert main([str(word) for word in command(inputs, task, folder / task)]) == 0
    return folder


# ------------------------------------------------------------------ whole runs


@pytest.mark.parametrize("task", METRIC)
def test_every_task_leaves_a_report_and_a_folder_per_student(outs, task):
    names = {path.name for path in (outs / task).iterdir()}
    students = {"see_4x", "weighted-svd_4x"}
    assert names == students | {"phases", "report.json", "report.md", "report.png"}
    rows = rows_of(outs / task)
    stages = [(m, stage) for m in ("see", "weighted-svd") for stage in ("fit", "stage1", "stage2")]
    dense = ["teacher", "stage2"] if task in ("lm", "mlm") else ["teacher"]  # of text, or without
    found = [(row["method"], row["stage"]) for row in rows]
    assert found == [*(("dense", stage) for stage in dense), *stages]
    assert all(np.isfinite(row["value"]) and row["metric"] == METRIC[task] for row in rows)
    for row in rows[len(dense):]:
        if row["method"] == "see":
            assert 0.6 * V * D < row["embedding_bytes"] <= V * D  # a quarter of 4 V D
        else:
            assert 0 <= row["embedding_parameters"] - V * D / 4 < V + D  # rounded up to a rank
        assert (row["model_parameters"] == rows[0]["model_parameters"] - V * D
            + row["embedding_parameters"])
    if task == "translation":
        assert rows[0]["value"] == pytest.approx(100)


@pytest.mark.parametrize("task", METRIC)
def test_evaluate_measures_what_the_report_did_where_the_text_is_the_same(inputs, outs, capsys,
                                                                          task):
    flags = data(inputs, task)[-2:] if task == "encoder" else data(inputs, task)
    words = ["evaluate", outs / task / "see_4x", *flags, "--device", "cpu"]
    last = [row for row in rows_of(outs / task) if row["method"] == "see"][-1]
    code, out, err = call(capsys, *words)
    assert (code, out) == (0, f"{METRIC[task]} {last['value']:.4f}\n")
    assert err == f"measured on the data of the report, which has {last['value']:.4f}\n"


def test_evaluate_says_when_the_data_are_others(inputs, outs, tmp_path, capsys):
    (tmp_path / "other.txt").write_text((inputs / "corpus.txt").read_text() + "bad beno\n")
    words = ["evaluate", outs / "lm" / "see_4x", "--corpus", tmp_path / "other.txt"]
    said = call(capsys, *words)[2]
    assert said.startswith("measured on other data than those of the report, which has ")
    plain = ["evaluate", inputs / "lm", "--task", "lm", "--corpus", inputs / "corpus.txt"]
    assert call(capsys, *plain)[2] == "measured on all of the text\n"


def test_resuming_a_finished_run_works_nothing_again(inputs, outs, capsys):
    before = rows_of(outs / "lm")
    times = {path: path.stat().st_mtime_ns for path in outs.glob("lm/*/*")}
    code, out, _ = call(capsys, *command(inputs, "lm", outs / "lm", "--resume"))
    assert code == 0 and out.count("done before") == 4 and rows_of(outs / "lm") == before
    assert times == {path: path.stat().st_mtime_ns for path in outs.glob("lm/*/*")}


def test_explain_names_the_units_of_a_saved_folder(outs, capsys):
    code, out, err = call(capsys, "explain", outs / "translation" / "see_4x", "gradani")
    assert code == 0 and "bucket:" in out and "unit:" not in out, err


def test_two_tables_are_compressed_the_other_weights_kept_as_int8_and_the_costs_told(inputs,
        tmp_path):
    """Each table has the counts of its side; a folder is loaded in a process of its own."""
    two = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": V, "num_beams": 1}
    transformer("MarianMTModel", **two).save_pretrained(tmp_path / "model")
    ending().save_pretrained(tmp_path / "model")
    words = command(inputs, "translation", tmp_path / "out", "--methods", "see", "--weights",
                    "int8", path=tmp_path / "model")
    words.remove("--quick")
    assert main([*map(str, words), "--stage1-steps", "1", "--stage2-steps", "1"]) == 0
    dense, *_, last = rows_of(tmp_path / "out")
    assert 1.2 * V * D < last["embedding_bytes"] <= 2 * V * D  # a quarter of 8 V D
    for row in (dense, last):
        assert row["folder"].keys() == {"bytes", "load_seconds", "peak_bytes", "tokens_per_second"}
    assert last["folder"]["bytes"] < dense["folder"]["bytes"]
    report = (tmp_path / "out" / "report.md").read_text()
    assert "| folder | MB on disk | seconds to load |" in report
    stored = json.loads((tmp_path / "out" / "see_4x" / "config.json").read_text())
    assert len(stored["quantization_config"]["embeddings"]) == 2
    again = load_pretrained(tmp_path / "out" / "see_4x", "translation", 8)
    assert again.translate(["bad beno"]) and list(again.tables()) == list(again.task.embeddings)


def test_two_processes_give_the_numbers_of_one_and_write_once(inputs, tmp_path, capsys):
    few = ["--methods", "see", "--lr", "1e-5", "--stage1-steps", "1"]
    words = command(inputs, "lm", tmp_path / "two", *few)
    torchrun = "-m torch.distributed.run --standalone --nproc_per_node 2 -m see_min".split()
    done = subprocess.run([sys.executable, *torchrun, *map(str, words)], env=ENVIRONMENT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("dense: perplexity") == done.stdout.count("written: ") == 1
    words[words.index("--out") + 1] = tmp_path / "one"
    assert call(capsys, *words)[0] == 0
    for ours, expected in zip(rows_of(tmp_path / "two"), rows_of(tmp_path / "one"), strict=True):
        assert ours["value"] == pytest.approx(expected["value"], rel=1e-4)
    two, one = (sorted(p.name for p in (tmp_path / name).rglob("*")) for name in ("two", "one"))
    assert two == one


# ------------------------------------------------------------------ the protocol


@pytest.mark.parametrize("kind", ["GPT2LMHeadModel", "LlamaForCausalLM", "BertForMaskedLM"])
def test_hidden_states_and_logits_are_the_models(kind):
    model = Pretrained(transformer(kind), tokenizer(), "mlm" if "Masked" in kind else "lm", 8)
    ids = torch.arange(14).reshape(2, 7) + 5
    with torch.no_grad():
        whole = model.model(input_ids=ids, output_hidden_states=True)
        torch.testing.assert_close(model(ids), whole.logits, rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(model.hidden_states(ids), whole.hidden_states, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_a_vector_is_the_mean_over_the_tokens_of_its_sentence_alone():
    model = Pretrained(transformer("BertModel"), tokenizer(), "encoder")
    texts = ["bad beno", "bilk", "bad " * 9]
    for text, vector in zip(texts, model.vectors(texts), strict=True):
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            alone = model.model(input_ids=ids).last_hidden_state[0].mean(0)
        torch.testing.assert_close(vector, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [T5, "BartForConditionalGeneration", "MarianMTModel"])
def test_translators_have_the_protocol(kind):
    model = PretrainedTranslator(transformer(kind), ending(), block_size=6)
    source, target = torch.tensor([[5, 11, 3]]), torch.tensor([[0, 7]])
    assert [state.shape[1] for state in model.hidden_states(source, target)] == [3, 3, 2, 2]
    with torch.no_grad():
        whole = model.model(input_ids=source, decoder_input_ids=target).logits
        torch.testing.assert_close(model(source, target), whole, rtol=1e-4, atol=1e-4)
    assert len(model.translate(["bad beno", "bilk"])) == 2


def test_pairs_are_cut_to_the_block_size_with_their_ends():
    model = PretrainedTranslator(transformer(T5), ending(), block_size=4)
    pairs = [("bad bado badani badul", "bad"), ("badek", "beno ben benani benul")]
    assert model.encode_pairs(pairs) == [([5, 6, 7], [5]), ([9], [11, 10, 12])]


LM, MLM = "BertLMHeadModel", "BertForMaskedLM"


@pytest.mark.parametrize("task, kind, changes, tokens, text", [
    ("lm", LM, {}, {}, "task: expected mlm or encoder for a model that reads both"),
    ("encoder", T5, {}, {}, "task: expected translation"),
    ("translation", T5, {}, {}, "tokenizer: expected a eos_token for translation, got none"),
    ("translation", T5, {"decoder_start_token_id": None}, {"eos_token": "[SEP]"},
     "expected a decoder_start_token_id"),
    ("mlm", MLM, {}, {"special": SPECIAL[:4]}, "expected a mask_token for mlm, got none"),
    ("mlm", MLM, {"max_position_embeddings": 7}, {}, "block-size: expected at most 7"),
    ("encoder", "BertModel", {"vocab_size": 10}, {}, "tokenizer: expected at most 10 tokens"),
])
def test_models_that_do_not_fit_a_task_are_refused(task, kind, changes, tokens, text):
    make = PretrainedTranslator if task == "translation" else Pretrained
    with pytest.raises(ValueError, match=text):
        make(transformer(kind, **changes), tokenizer(**tokens), task, 8)


# ------------------------------------------------------------------ input that cannot be used


@pytest.mark.parametrize("task, more, text", [
    ("lm", "--ratios 100000", "ratio: expected"),
    ("lm", "--accumulate 9", "accumulate: expected at most the batch size, 4, got 9"),
    ("lm", "--sts s", "sts: expected none with --task lm, got s"),
    ("encoder", "--block-size 3", "block-size: expected at least 4, got 3"),
    ("mlm", "--task lm", "task: expected mlm or encoder"),
    ("lm", "--task mlm", "expected a model and a tokenizer"),
    ("lm", "--task encoder", "sts: expected --sts FILE.csv, got none"),
    ("lm", "--task translation", "corpus: expected none with --task translation, got "),
    ("lm", "--corpus {blank}", "blank.txt: expected text, got none"),
    ("lm", "--corpus {short}", "short.txt: expected more than 8 tokens, a window, in each part"),
    ("encoder", "--corpus {short}", "short.txt: expected a sentence of at least 4 tokens"),
    ("lm", "--out {model}/out", "out: expected a folder outside of the model's, got "),
])
def test_options_that_make_no_sense_are_refused(inputs, tmp_path, capsys, task, more, text):
    files = {name: tmp_path / f"{name}.txt" for name in ("blank", "short")}
    files["blank"].write_text("\n\n")
    files["short"].write_text("bad\n")
    before = sorted(inputs.rglob("*"))
    more = more.format(**files, model=inputs / task).split()
    assert text in refused(capsys, *command(inputs, task, tmp_path / "out", *more))
    assert not (tmp_path / "out").exists() and sorted(inputs.rglob("*")) == before


def test_evaluate_refuses_what_does_not_fit(inputs, outs, capsys, tmp_path):
    (tmp_path / "two.csv").write_text("bad,beno,1\nbad,bilk,2\n")
    for text, words in {
        "sts: expected --sts FILE": [inputs / "encoder"],
        "corpus: expected --corpus FILE": [outs / "lm" / "see_4x"],
        "no weights for ": [outs / "encoder" / "see_4x", "--task", "mlm", *data(inputs, "mlm")],
        "at least 3 pairs": [inputs / "encoder", "--sts", tmp_path / "two.csv"],
    }.items():
        assert text in refused(capsys, "evaluate", *words)


def test_a_saved_folder_replaces_the_former_and_copies_nothing_from_outside(tmp_path):
    model, words, like = transformer("BertModel"), tokenizer(), tmp_path / "like"
    (like / "1_Pooling").mkdir(parents=True)
    (like / "modules.json").write_text('[{"path": ""}, {"path": "1_Pooling"}]')
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "former.txt").write_text("x")
    save_model(model, words, tmp_path / "out", like)
    assert (tmp_path / "out" / "1_Pooling").is_dir()
    assert not (tmp_path / "out" / "former.txt").exists()
    (like / "modules.json").write_text('[{"path": "../out"}]')
    with pytest.raises(InputError, match="^modules.json: expected folders beside it, got '../out'"):
        save_model(model, words, tmp_path / "new", like)
    assert {path.name for path in tmp_path.iterdir()} == {"like", "out"}
