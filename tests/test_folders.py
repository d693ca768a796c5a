"""Models in a folder: compressed by the command, resumed, saved, loaded, measured; bad input."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from see_min.experiments.cli import main
from see_min.experiments.hf_models import Pretrained, PretrainedTranslator, load_pretrained

transformers = pytest.importorskip("transformers")
pytest.importorskip("sacrebleu")
torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [onset + rime + tail for onset in ("b", "d", "f", "gr", "k", "l", "m", "pl", "s", "t")
    for rime in ("ad", "en", "ilk", "om", "urt", "ip") for tail in ("", "o", "ani", "ul", "ek")]
ROWS = 300  # V
WORDS = WORDS[: ROWS - len(SPECIAL)]
METRIC = {"lm": "perplexity", "mlm": "masked accuracy", "encoder": "STS", "translation": "BLEU"}
FLAGS = ["--quick", "--ratios", "4", "--batch-size", "4", "--block-size", "8", "--lexicon", "none",
    "--device", "cpu"]


# ------------------------------------------------------------------ folders of made-up models


def tokenizer(special=SPECIAL, shape="[CLS] $A [SEP]", **more):
    """Whole words; [CLS] and [SEP] around a sentence."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    ids = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    whole = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    whole.pre_tokenizer = pre_tokenizers.Whitespace()
    edges = [("[CLS]", 2), ("[SEP]", 3)]
    whole.post_processor = processors.TemplateProcessing(single=shape, special_tokens=edges)
    names = {f"{name.strip('[]').lower()}_token": name for name in special} | more
    return transformers.PreTrainedTokenizerFast(tokenizer_object=whole, model_max_length=64,
        **names)


def toy(kind, **changes):
    """A model of D 32 and two layers with random weights."""
    torch.manual_seed(0)
    small = {"vocab_size": ROWS, "num_hidden_layers": 2, "num_attention_heads": 2,
        "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 64,
        "initializer_range": 0.2, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    make = getattr(transformers, kind)
    return make(make.config_class(**(small | changes))).eval()


def translator(kind="T5ForConditionalGeneration", **changes):
    """An encoder-decoder of D 32 with random weights; the encoder is deeper."""
    torch.manual_seed(0)
    small = {"vocab_size": ROWS, "d_model": 32, "pad_token_id": 0, "eos_token_id": 3,
        "decoder_start_token_id": 0}
    if "T5" in kind:
        small |= {"num_heads": 2, "num_layers": 2, "num_decoder_layers": 1, "d_ff": 48, "d_kv": 16}
    else:
        small |= {"max_position_embeddings": 64, "init_std": 0.2, "bos_token_id": 2}
        for side, layers in (("encoder", 2), ("decoder", 1)):
            small |= {f"{side}_layers": layers, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 48}
    make = getattr(transformers, kind)
    model = make(make.config_class(**(small | changes))).eval()
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.normal_()
    return model


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
    for name, kind in (("lm", "GPT2LMHeadModel"), ("mlm", "BertForMaskedLM"),
            ("encoder", "BertModel")):
        toy(kind).save_pretrained(folder / name)
        tokenizer().save_pretrained(folder / name)
    model = translator("MT5ForConditionalGeneration")
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
    return ["compress", path or inputs / task, "--task", task, *data(inputs, task), *FLAGS, "--out",
        out, *more]


def call(capsys, *words):
    """(exit code, stdout, stderr); an exception passes through."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def refused(capsys, *words):
    """The one line of stderr of a command that must not work."""
    code, _, err = call(capsys, *words)
    assert code == 2 and err.count("\n") == 1 and "Traceback" not in err, (code, err)
    return err


def rows_of(out):
    return json.loads((out / "report.json").read_text())["rows"]


@pytest.fixture(scope="module")
def outs(inputs, tmp_path_factory):
    """What the command writes, a folder per task."""
    folder = tmp_path_factory.mktemp("outs")
    for task in METRIC:
        assert main([str(word) for word in command(inputs, task, folder / task)]) == 0
    return folder


# ------------------------------------------------------------------ whole runs


@pytest.mark.parametrize("task", METRIC)
def test_every_task_leaves_a_report_and_a_folder_per_student(outs, task):
    names = {path.name for path in (outs / task).iterdir()}
    assert names == {"phases", "report.json", "report.md", "report.png", "see_4x",
        "weighted-svd_4x"}
    rows = rows_of(outs / task)
    stages = [(m, stage) for m in ("see", "weighted-svd") for stage in ("fit", "stage1", "stage2")]
    assert [(row["method"], row["stage"]) for row in rows] == [("dense", "teacher"), *stages]
    assert all(np.isfinite(row["value"]) and row["metric"] == METRIC[task] for row in rows)
    for row in rows[1:]:
        more = row["embedding_parameters"] - ROWS * 32 / 4
        assert -100 < more <= 0 if row["method"] == "see" else 0 <= more < ROWS + 32
        assert (row["model_parameters"] == rows[0]["model_parameters"] - ROWS * 32
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
    result = json.loads(call(capsys, *words, "--json")[1])
    assert (result["task"], result["parameters"]) == (task, last["model_parameters"])


def test_evaluate_says_when_the_data_are_others(inputs, outs, tmp_path, capsys):
    (tmp_path / "other.txt").write_text((inputs / "corpus.txt").read_text() + "bad beno\n")
    words = ["evaluate", outs / "lm" / "see_4x", "--corpus", tmp_path / "other.txt"]
    assert call(capsys,
        *words)[2].startswith("measured on other data than those of the report, which has ")
    plain = call(capsys, "evaluate", inputs / "lm", "--task", "lm", "--corpus",
        inputs / "corpus.txt")
    assert plain[2] == "measured on all of the text\n"


def test_resuming_a_finished_run_works_nothing_again(inputs, outs, capsys):
    before = rows_of(outs / "lm")
    times = {path: path.stat().st_mtime_ns for path in outs.glob("lm/*/*")}
    code, out, _ = call(capsys, *command(inputs, "lm", outs / "lm", "--resume"))
    assert code == 0 and out.count("done before") == 3 and rows_of(outs / "lm") == before
    assert times == {path: path.stat().st_mtime_ns for path in outs.glob("lm/*/*")}


READ = """
import sys, torch
from see_min.experiments.hf_models import load_pretrained
torch.set_num_threads(1)
folder, path = sys.argv[1:]
with torch.no_grad():
    torch.save(load_pretrained(folder, "lm", 8)(torch.arange(16).reshape(2, 8) + 5), path)
"""


def test_a_saved_folder_gives_the_same_bits_in_a_fresh_process(outs, tmp_path):
    folder = outs / "lm" / "see_4x"
    subprocess.run([sys.executable, "-c", READ, folder, tmp_path / "x"], env=ENVIRONMENT,
        check=True)
    with torch.no_grad():
        here = load_pretrained(folder, "lm", 8)(torch.arange(16).reshape(2, 8) + 5)
    assert torch.equal(here, torch.load(tmp_path / "x"))


def test_two_processes_give_the_numbers_of_one_and_write_once(inputs, tmp_path, capsys):
    words = command(inputs, "lm", tmp_path / "two", "--methods", "see", "--lr", "1e-5",
        "--stage1-steps", "1")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node",
        "2", "-m"]
    done = subprocess.run([*torchrun, "see_min", *map(str, words)], env=ENVIRONMENT,
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
    task = "mlm" if "Masked" in kind else "lm"
    model, ids = Pretrained(toy(kind), tokenizer(), task, 8), torch.arange(14).reshape(2, 7) + 5
    with torch.no_grad():
        whole = model.model(input_ids=ids, output_hidden_states=True)
        torch.testing.assert_close(model(ids), whole.logits, rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(model.hidden_states(ids), whole.hidden_states, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_a_vector_is_the_mean_over_the_tokens_of_its_sentence_alone():
    model, texts = (Pretrained(toy("BertModel"), tokenizer(), "encoder"),
        ["bad beno", "bilk", "bad " * 9])
    for text, vector in zip(texts, model.vectors(texts), strict=True):
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            alone = model.model(input_ids=ids).last_hidden_state[0].mean(0)
        torch.testing.assert_close(vector, alone, rtol=1e-4, atol=1e-5)


def test_rows_that_no_token_has_are_named():
    names = Pretrained(toy("BertModel", vocab_size=303), tokenizer(), "encoder").names
    assert names[:5] == SPECIAL and names[-3:] == ["[ROW300]", "[ROW301]", "[ROW302]"]


@pytest.mark.parametrize("kind", ["T5ForConditionalGeneration", "MT5ForConditionalGeneration",
    "BartForConditionalGeneration", "MarianMTModel"])
def test_translators_have_the_protocol(kind):
    model = PretrainedTranslator(translator(kind), ending(), block_size=6)
    source, target = torch.tensor([[5, 11, 3]]), torch.tensor([[0, 7]])
    assert [state.shape[1] for state in model.hidden_states(source, target)] == [3, 3, 2, 2]
    with torch.no_grad():
        whole = model.model(input_ids=source, decoder_input_ids=target).logits
        torch.testing.assert_close(model(source, target), whole, rtol=1e-4, atol=1e-4)
    assert len(model.translate(["bad beno", "bilk"])) == 2


def test_pairs_are_cut_to_the_block_size_with_their_ends():
    model = PretrainedTranslator(translator(), ending(), block_size=4)
    pairs = model.encode_pairs([("bad bado badani badul", "bad"),
        ("badek", "beno ben benani benul")])
    assert pairs == [([5, 6, 7], [5]), ([9], [11, 10, 12])]


def refuse_model(model, words, task, block_size=8):
    kind = PretrainedTranslator if task == "translation" else Pretrained
    with pytest.raises(ValueError) as caught:
        kind(model, words, task, block_size)
    return str(caught.value)


def test_models_that_do_not_fit_a_task_are_refused():
    bert = toy("BertLMHeadModel")
    assert refuse_model(bert, tokenizer(),
        "lm").startswith("task: expected mlm or encoder for a model that reads both")
    bart = translator("BartForConditionalGeneration", tie_word_embeddings=False)
    assert "expected one embedding for encoder and decoder" in refuse_model(bart, ending(),
        "translation")
    assert "expected a eos_token" in refuse_model(translator(), tokenizer(), "translation")
    start = translator(decoder_start_token_id=None)
    assert "expected a decoder_start_token_id" in refuse_model(start, ending(), "translation")
    assert "task: expected translation" in refuse_model(translator(), ending(), "encoder")
    mlm = toy("BertForMaskedLM")
    assert "expected a mask_token for mlm, got none" in refuse_model(mlm, tokenizer(SPECIAL[:4]),
        "mlm")
    assert "block-size: expected at most 64" in refuse_model(mlm, tokenizer(), "mlm", 65)
    small = toy("BertModel", vocab_size=10)
    assert "tokenizer: expected at most 10 tokens" in refuse_model(small, tokenizer(), "encoder")


# ------------------------------------------------------------------ input that cannot be used


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("change, text", [(shutil.rmtree, "folder"),
    (lambda f: [p.unlink() for p in f.glob("*token*")], "no words in the tokenizer"),
    (lambda f: (f / "model.safetensors").unlink(), "expected a model and a tokenizer"),
    (lambda f: cut(f / "model.safetensors"), "expected a model and a tokenizer")],
    ids=["missing", "no tokenizer", "no weights", "cut weights"])
def test_a_folder_that_is_not_whole_is_refused(inputs, tmp_path, capsys, change, text):
    folder = shutil.copytree(inputs / "lm", tmp_path / "model")
    change(folder)
    assert text in refused(capsys, *command(inputs, "lm", tmp_path / "out", path=folder))


LINES = [("lm", "--corpus", "", "corpus: expected --corpus FILE"),
    ("encoder", "--sts", "", "sts: expected --sts FILE"), ("lm", None, "--ratios 100000",
    "ratio: expected"),
    ("lm", None, "--methods see pq", "method: expected one whose result is an encoding, got 'pq'"),
    ("lm", None, "--block-size 65", "block-size: expected at most 64"),
    ("lm", None, "--lr 0", "lr: expected a number above 0, got 0"),
    ("lm", None, "--accumulate 9", "batch: expected at least 9"),
    ("lm", None, "--corpus none", "none: expected a file that can be read"),
    ("mlm", None, "--task lm", "task: expected mlm or encoder"),
    ("lm", None, "--task mlm", "expected a model and a tokenizer")]


@pytest.mark.parametrize("task, without, more, text", LINES)
def test_options_that_make_no_sense_are_refused(inputs, tmp_path, capsys, task, without, more,
        text):
    words = [str(word) for word in command(inputs, task, tmp_path / "out", *more.split())]
    if without:
        del words[words.index(without) : words.index(without) + 2]
    assert text in refused(capsys, *words)
    assert not list(tmp_path.glob("out/*_*x"))


def test_evaluate_refuses_what_does_not_fit(inputs, outs, capsys, tmp_path):
    corpus = ["--corpus", inputs / "corpus.txt"]
    assert "sts: expected --sts FILE" in refused(capsys, "evaluate", inputs / "encoder")
    assert "corpus: expected --corpus FILE" in refused(capsys, "evaluate", outs / "lm" / "see_4x")
    assert "task: expected mlm or encoder" in refused(capsys, "evaluate", inputs / "mlm", "--task",
        "lm", *corpus)
    assert "see_min.pt" in refused(capsys, "evaluate", outs / "encoder" / "see_4x", "--task", "mlm",
        *corpus)
    (tmp_path / "two.csv").write_text("bad,beno,1\nbad,bilk,2\n")
    assert "at least 3 pairs" in refused(capsys, "evaluate", inputs / "encoder", "--sts",
        tmp_path / "two.csv")


@pytest.mark.parametrize("text", ["\n\n", "bad\n", "bad beno\n" * 5])
def test_a_text_shorter_than_a_window_is_refused(inputs, tmp_path, capsys, text):
    (tmp_path / "short.txt").write_text(text)
    words = command(inputs, "lm", tmp_path / "out", "--corpus", tmp_path / "short.txt")
    assert "expected" in refused(capsys, *words)


def test_running_out_of_memory_is_one_line_and_leaves_no_phase(inputs, tmp_path, capsys,
        monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore lines")

    monkeypatch.setattr("see_min.experiments.engine.stage1", full)
    text = "device: expected enough memory, got CUDA out of memory. Tried to allocate 2 GiB.\n"
    assert refused(capsys, *command(inputs, "lm", tmp_path)) == f"see_min: {text}"
    assert [path.name for path in tmp_path.rglob("*.*")] == ["dense.json"]


def test_without_transformers_one_line_says_what_to_install(inputs, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "pip install transformers" in refused(capsys, *command(inputs, "lm", tmp_path))
