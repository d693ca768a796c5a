"""Models in a folder: compressed and finetuned by the command, resumed after a kill, saved, loaded, measured; bad input."""

import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from see_min.__main__ import main
from see_min.bridge.pretrained import Pretrained, load_pretrained, save_compressed
from see_min.bridge.pretrained_job import PretrainedJob, PretrainedRun, run_pretrained
from see_min.bridge.pretrained_models import PretrainedTranslator
from see_min.checks import DataError
from see_min.sequences import pair_batches

transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [onset + rime + tail for onset in ("b", "d", "f", "gr", "k", "l", "m", "pl", "s", "t")
         for rime in ("ad", "en", "ilk", "om", "urt", "ip") for tail in ("", "o", "ani", "ul", "ek")][:295]
ROWS = len(SPECIAL) + len(WORDS)  # V, 300
SIZES = {"ratios": (4,), "stage1_steps": 2, "stage2_steps": 3, "sweeps": 2, "batch": 4, "context": 8, "lexicon": "none",
         "device": "cpu"}
METRIC = {"lm": "perplexity", "mlm": "masked accuracy", "encoder": "STS", "translation": "BLEU"}


# ------------------------------------------------------------------ folders of made-up models, a text, pairs of sentences


def tokenizer(special=SPECIAL, shape="[CLS] $A [SEP]", **more):
    """Whole words; [CLS] and [SEP] around a sentence."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    ids = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    whole = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    whole.pre_tokenizer = pre_tokenizers.Whitespace()
    whole.post_processor = processors.TemplateProcessing(single=shape, special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {f"{name.strip('[]').lower()}_token": name for name in special} | more
    return transformers.PreTrainedTokenizerFast(tokenizer_object=whole, model_max_length=64, **names)


def toy(kind, **changes):
    """A model of D 32 and two layers with random weights."""
    torch.manual_seed(0)
    small = {"vocab_size": ROWS, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 48,
             "max_position_embeddings": 64, "initializer_range": 0.2, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    return getattr(transformers, kind)(getattr(transformers, kind).config_class(**(small | changes))).eval()


def written(folder, kind, special=SPECIAL, dtype=torch.float32, **changes):
    toy(kind, **changes).to(dtype).save_pretrained(folder)
    tokenizer(special).save_pretrained(folder)
    return folder


def translator(kind="T5ForConditionalGeneration", **changes):
    """An encoder-decoder of D 32 with random weights; the encoder is deeper."""
    torch.manual_seed(0)
    own = {"T5": {"num_heads": 2, "num_layers": 2, "num_decoder_layers": 1, "d_ff": 48, "d_kv": 16, "dropout_rate": 0.0},
           "MT5": {"num_heads": 2, "num_layers": 2, "num_decoder_layers": 1, "d_ff": 48, "d_kv": 16, "dropout_rate": 0.0}}
    coder = {f"{side}_{name}": number for side, layers in (("encoder", 2), ("decoder", 1))
             for name, number in (("layers", layers), ("attention_heads", 2), ("ffn_dim", 48))}
    small = {"vocab_size": ROWS, "d_model": 32, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
             "decoder_start_token_id": 0}
    small |= own.get(kind.removesuffix("ForConditionalGeneration")) or coder | {"max_position_embeddings": 64, "init_std": 0.2}
    model = getattr(transformers, kind)(getattr(transformers, kind).config_class(**(small | changes))).eval()
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.normal_()
    return model


def ending():
    """The tokenizer of a translator: [SEP] ends a sentence."""
    return tokenizer(shape="$A [SEP]", eos_token="[SEP]")


def sentence(rng, length):
    share = 1 / np.arange(3, len(WORDS) + 3)
    return " ".join(WORDS[i] for i in rng.choice(len(WORDS), length, p=share / share.sum()))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with corpus.txt, valid.txt (every 20th line), sts.csv, source.txt, target.txt, a model a task, and llama.

    A target is what the dense translator makes of its source, so it has BLEU 100; source_20 and target_20 hold every 20th.
    """
    folder, rng = tmp_path_factory.mktemp("inputs"), np.random.default_rng(0)
    lines = [f"{sentence(rng, 9)} ." for _ in range(300)]
    (folder / "corpus.txt").write_text("\n".join(lines) + "\n")
    (folder / "valid.txt").write_text("\n".join(lines[::20]) + "\n")
    pairs = [f"{sentence(rng, 5)},{sentence(rng, 7)},{rng.random():.2f}" for _ in range(12)]
    (folder / "sts.csv").write_text("\n".join(pairs) + "\n")
    for name, kind in (("lm", "GPT2LMHeadModel"), ("mlm", "BertForMaskedLM"), ("encoder", "BertModel")):
        written(folder / name, kind)
    written(folder / "llama", "LlamaForCausalLM", dtype=torch.bfloat16, tie_word_embeddings=False)
    model = translator("MT5ForConditionalGeneration")
    model.generation_config.update(suppress_tokens=[0, 1, 2, 4], no_repeat_ngram_size=1)  # or it says one word all the time
    model.save_pretrained(folder / "translation")
    ending().save_pretrained(folder / "translation")
    sources = [sentence(rng, 3 + i % 4) for i in range(120)]
    targets = load_pretrained(folder / "translation", "translation", 8).translate(sources)
    for name, texts in (("source", sources), ("target", targets)):
        (folder / f"{name}.txt").write_text("\n".join(texts) + "\n")
        (folder / f"{name}_20.txt").write_text("\n".join(texts[::20]) + "\n")
    return folder


def sizes(**changes):
    """SIZES as flags."""
    pairs = [(f"--{name.replace('_', '-')}", value) for name, value in (SIZES | changes).items()]
    return [str(word) for flag, value in pairs for word in (flag, *(value if isinstance(value, tuple) else (value,)))]


def command(inputs, task, out, *more, path=None, **changes):
    data = ["--parallel", str(inputs / "source.txt"), str(inputs / "target.txt")]
    data = data if task == "translation" else ["--corpus", str(inputs / "corpus.txt")]
    return ["compress", str(path or inputs / task), "--task", task, *data,
            *(["--sts", str(inputs / "sts.csv")] if task == "encoder" else []), *sizes(**changes), "--out", str(out), *more]


def call(capsys, *words):
    """(exit code, stdout, stderr) of a command in this process; an exception passes through."""
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


def report(out):
    return json.loads((out / "report.json").read_text())


def values(rows):
    """Rows without times."""
    return [{key: value for key, value in row.items() if key not in ("seconds", "tokens_per_second")} for row in rows]


@pytest.fixture(scope="module")
def outs(inputs, tmp_path_factory):
    """What the command writes, a folder a task."""
    folder = tmp_path_factory.mktemp("outs")
    for task in METRIC:
        assert main(command(inputs, task, folder / task)) == 0
    return folder


# ------------------------------------------------------------------ whole runs


@pytest.mark.parametrize("task", METRIC)
def test_compress_path_leaves_a_report_and_a_folder_a_method_for_every_task(outs, task):
    names = {path.name for path in (outs / task).iterdir()}
    assert {"report.json", "report.md", "report.png", "see_4x", "weighted-svd_4x"} <= names
    rows = report(outs / task)["rows"]
    stages = [(method, stage) for method in ("see", "weighted-svd") for stage in ("fit", "stage1", "stage2")]
    assert [(row["method"], row["stage"]) for row in rows] == [("dense", "teacher"), *stages]
    assert all(np.isfinite(row["value"]) and row["metric"] == METRIC[task] for row in rows)
    assert all(row["tokens_per_second"] > 0 for row in rows if row["stage"].startswith("stage"))
    for row in rows[1:]:  # see keeps to the budget; factors have the next rank, less than V + D floats more
        more = row["embedding_floats"] - ROWS * 32 / 4
        assert -100 < more <= 0 if row["method"] == "see" else 0 <= more < ROWS + 32
        assert row["model_floats"] == rows[0]["model_floats"] - ROWS * 32 + row["embedding_floats"]


@pytest.mark.parametrize("task", METRIC)
@pytest.mark.parametrize("method", ("see", "weighted-svd"))
def test_evaluate_prints_the_last_value_of_the_report(inputs, outs, capsys, task, method):
    data = ["--sts", inputs / "sts.csv"] if task == "encoder" else ["--corpus", inputs / "valid.txt"]
    data = ["--parallel", inputs / "source_20.txt", inputs / "target_20.txt"] if task == "translation" else data
    words = ["evaluate", outs / task / f"{method}_4x", "--task", task, *data, "--context", 8, "--device", "cpu"]
    last = [row for row in report(outs / task)["rows"] if row["method"] == method][-1]
    assert call(capsys, *words) == (0, f"{METRIC[task]} {last['value']:.4f}\n", "")
    result = json.loads(call(capsys, *words, "--json")[1])
    assert (result["task"], result["parameters"]) == (task, last["model_floats"])
    assert result["value"] == pytest.approx(last["value"], rel=1e-6)


@pytest.mark.parametrize("task", METRIC)
def test_resume_of_a_finished_run_works_nothing_again(inputs, outs, capsys, task):
    before = report(outs / task)["rows"]
    times = {path: path.stat().st_mtime_ns for path in outs.glob(f"{task}/*/*")}
    code, out, _ = call(capsys, *command(inputs, task, outs / task, "--resume"))
    assert code == 0 and out.count("done before") == 3
    assert report(outs / task)["rows"] == before
    assert times == {path: path.stat().st_mtime_ns for path in outs.glob(f"{task}/*/*")}


@pytest.mark.parametrize("event", [2, 6, 9])
def test_a_run_killed_at_any_moment_resumes_to_the_same_rows(inputs, outs, tmp_path, capsys, event):
    """Events are the steps of training and the writing of folders, 5 and 1 a student."""
    words = command(inputs, "lm", tmp_path)
    process = subprocess.run([sys.executable, "-c", KILLED, str(event), *words], cwd=ROOT, env=ENVIRONMENT, capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert not (tmp_path / "report.json").exists()
    whole = [path.parent.name for path in tmp_path.rglob("see_min.pt")]
    assert whole == (["see_4x"] if event > 6 else [])
    code, out, _ = call(capsys, *words, "--resume")
    assert code == 0 and out.count("done before") == 1 + len(whole)
    assert values(report(tmp_path)["rows"]) == values(report(outs / "lm")["rows"])


KILLED = """
import os, signal, sys
import torch
from see_min.__main__ import main
torch.set_num_threads(1)
last, events = int(sys.argv.pop(1)), []
def killing(work):
    def call(*arguments, **options):
        events.append(1)
        if len(events) == last:
            if work is save:
                arguments[1].write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*arguments, **options)
    return call
save = torch.save
torch.save, torch.nn.utils.clip_grad_norm_ = killing(save), killing(torch.nn.utils.clip_grad_norm_)
sys.exit(main(sys.argv[1:]))
"""


# ------------------------------------------------------------------ several processes


def test_two_processes_give_the_numbers_of_one_and_write_once(inputs, tmp_path, capsys):
    """Stage 1 hardly moves: its loss is divided by the variance of each part, so there two processes are only near."""
    settings = {"leaf_rate": 1e-6, "rate": 1e-2, "stage1_steps": 1, "context": 6}
    words = command(inputs, "lm", tmp_path / "two", "--methods", "see", **settings)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "see_min", *words]
    done = subprocess.run(torchrun, cwd=ROOT, env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("dense: perplexity") == done.stdout.count("written: ") == 1
    code, out, _ = call(capsys, *command(inputs, "lm", tmp_path / "one", "--methods", "see", **settings))
    assert code == 0
    two, one = (values(report(tmp_path / name)["rows"]) for name in ("two", "one"))
    for ours, expected in zip(two, one, strict=True):
        assert ours["value"] == pytest.approx(expected["value"], rel=1e-4)
    assert two[3]["loss"] == pytest.approx(one[3]["loss"], rel=1e-4) and two[3]["tokens"] == one[3]["tokens"]
    assert abs(one[3]["value"] / one[2]["value"] - 1) > 0.01  # stage 2 moved
    assert sorted(path.name for path in (tmp_path / "two").rglob("*")) == sorted(p.name for p in (tmp_path / "one").rglob("*"))


# ------------------------------------------------------------------ models

READ = """
import sys
import torch
from see_min.bridge.pretrained import load_pretrained
torch.set_num_threads(1)
folder, task, path = sys.argv[1:]
model = load_pretrained(folder, task, 8)
ids = torch.arange(16).reshape(2, 8) + 5
with torch.no_grad():
    torch.save([*model.hidden_states(ids), *([] if task == "encoder" else [model(ids)])], path)
"""


def job(inputs, name, task, **changes):
    return PretrainedJob(str(inputs / name), task, str(inputs / "corpus.txt"), str(inputs / "sts.csv"), **(SIZES | changes))


@pytest.mark.parametrize("name, task", [("lm", "lm"), ("llama", "lm"), ("mlm", "mlm"), ("encoder", "encoder")])
def test_a_saved_folder_gives_the_same_bits_in_a_fresh_process(inputs, tmp_path, name, task):
    run = PretrainedRun(job(inputs, name, task), tmp_path, say=lambda line: None)
    kept = []
    keep = run.row
    run.row = lambda model, *rest: kept.append(model) or keep(model, *rest)
    before = {key: value.clone() for key, value in run.teacher.state_dict().items()}
    run.student("see", 4)
    after, student = run.teacher.state_dict(), kept[-1]
    assert all(torch.equal(before[key], after[key]) for key in before), "the teacher moved"
    moved = {key for key, value in student.state_dict().items() if key in before and not torch.equal(value, before[key])}
    assert any(".weight" in key for key in moved)
    ids = torch.arange(16).reshape(2, 8) + 5  # (2, 8)
    with torch.no_grad():
        here = [*student.hidden_states(ids), *([] if task == "encoder" else [student(ids)])]
    words = [sys.executable, "-c", READ, tmp_path / "see_4x", task, tmp_path / "there.pt"]
    subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, check=True)
    there = torch.load(tmp_path / "there.pt")
    assert len(here) == len(there) and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(here, there))


@pytest.mark.parametrize("name, task", [("lm", "lm"), ("llama", "lm"), ("mlm", "mlm")])
def test_logits_of_the_last_state_are_those_of_the_model(inputs, name, task):
    model = load_pretrained(inputs / name, task)
    ids = torch.arange(24).reshape(2, 12)  # (2, 12)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(model.hidden_states(ids)[-1]), model.model(input_ids=ids).logits)
        torch.testing.assert_close(model(ids), model.model(input_ids=ids).logits)


def test_a_model_that_scales_its_logits_is_refused(monkeypatch):
    model, plain = toy("LlamaForCausalLM"), transformers.LlamaForCausalLM.forward

    def scaled(self, *arguments, **options):
        out = plain(self, *arguments, **options)
        out.logits = out.logits * 0.5
        return out

    Pretrained(model, tokenizer(), "lm")
    monkeypatch.setattr(transformers.LlamaForCausalLM, "forward", scaled)
    with pytest.raises(DataError, match="^model: expected logits that are a head's of the last state, got LlamaForCausalLM$"):
        Pretrained(model, tokenizer(), "lm")


def test_vectors_of_sentences_are_those_of_each_sentence_alone(inputs):
    model = load_pretrained(inputs / "encoder", "encoder")
    rng = np.random.default_rng(1)
    sentences = [sentence(rng, length) for length in (3, 11, 1, 7)]
    alone = []
    for text in sentences:
        ids = torch.tensor([[2, *(len(SPECIAL) + WORDS.index(word) for word in text.split()), 3]])  # (1, t)
        with torch.no_grad():
            alone.append(model.model(input_ids=ids).last_hidden_state[0].mean(0))
    torch.testing.assert_close(model.vectors(sentences), torch.stack(alone), rtol=1e-4, atol=1e-5)  # padding changes sums' order


# ------------------------------------------------------------------ translators

KINDS = {"T5": ("T5ForConditionalGeneration", {}),
         "T5 without scale": ("T5ForConditionalGeneration", {"tie_word_embeddings": False}),
         "MT5": ("MT5ForConditionalGeneration", {}),
         "BART": ("BartForConditionalGeneration", {"scale_embedding": True, "forced_eos_token_id": None}),
         "Marian": ("MarianMTModel", {"num_beams": 1, "forced_eos_token_id": None}),
         "M2M": ("M2M100ForConditionalGeneration", {})}
every_translator = pytest.mark.parametrize("kind, changes", KINDS.values(), ids=KINDS)


@every_translator
def test_logits_of_a_translator_are_those_of_its_model_for_labels(kind, changes):
    """The model shifts labels itself; padding of either side changes nothing."""
    model = PretrainedTranslator(translator(kind, **changes), ending())
    batch = next(pair_batches([([9, 8, 7], [5, 6]), ([30], [11, 12, 13])], 2, 1, 0, model.pad, model.begin, 3))
    source, target = map(torch.as_tensor, batch.inputs)  # (2, s), (2, t)
    labels, here = torch.as_tensor(batch.targets), torch.as_tensor(batch.targets) != -100
    with torch.no_grad():
        theirs = model.model(input_ids=source, attention_mask=(source != 0).long(), labels=labels)
        ours = model(source, target)
        loss = torch.nn.functional.cross_entropy(ours[here], labels[here])
        swapped = model(source, target.flip(0))
    torch.testing.assert_close(ours[here], theirs.logits[here], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss, theirs.loss, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(swapped[here], ours[here], atol=1e-3)


@every_translator
def test_a_translator_has_equally_many_states_a_side_and_its_embeddings_are_one(kind, changes):
    model = PretrainedTranslator(translator(kind, **changes), ending())
    source, target = torch.tensor([[9, 8, 3]]), torch.tensor([[0, 5, 6, 7]])
    states = model.hidden_states(source, target)
    assert [state.shape[1] for state in states] == [3, 3, 4, 4]  # of two blocks of the encoder the last
    out = model.model.get_encoder()(input_ids=source, output_hidden_states=True).hidden_states
    assert len(out) == 3 and torch.equal(states[0], out[0]) and torch.equal(states[1], out[2])
    assert len(model.task.parameters(model)) == 1 and model.task.parameters(model)[0].shape == (ROWS, 32)


@every_translator
def test_a_translation_is_the_greedy_one_of_each_sentence_alone(kind, changes):
    model = PretrainedTranslator(translator(kind, **changes), ending(), context=6)
    sentences = ["bad beno bilk", "dad", "grom plad"]
    for text, found in zip(sentences, model.translate(sentences)):
        source = torch.tensor([[*(len(SPECIAL) + WORDS.index(word) for word in text.split()), 3]])  # (1, s)
        target = torch.tensor([[model.begin]])
        while target.shape[1] < 7 and (target.shape[1] == 1 or target[0, -1] != 3):
            with torch.no_grad():
                best = model(source, target)[:, -1:].argmax(-1)  # (1, 1)
            target = torch.cat([target, best], 1)
        assert found == " ".join(WORDS[i - len(SPECIAL)] for i in target[0, 1:].tolist() if i >= len(SPECIAL))


def test_a_translator_may_have_more_blocks_in_its_decoder_than_in_its_encoder():
    model = PretrainedTranslator(translator(num_layers=1, num_decoder_layers=3), ending(), context=6)
    source, target = torch.tensor([[5, 11, 3]]), torch.tensor([[0]])
    assert [state.shape[1] for state in model.hidden_states(source, target)] == [3, 3, 1, 1]
    assert len(model.translate(["bad beno"])) == 1


def test_pairs_are_cut_to_the_context_with_their_ends():
    model = PretrainedTranslator(translator(), ending(), context=4)
    pairs = model.encode_pairs([("bad bado badani badul", "bad"), ("badek", "beno ben benani benul benek")])
    assert pairs == [([5, 6, 7], [5]), ([9], [11, 10, 12])]
    bare = tokenizer(shape="$A", eos_token="[SEP]")  # a tokenizer that writes no end
    assert PretrainedTranslator(translator(), bare, context=4).encode_pairs([("bad bado badani badul", "")]) == [([5, 6, 7], [])]


def test_stages_of_a_translator_lower_their_losses_and_move_what_they_should(inputs, tmp_path):
    settings = {"stage1_steps": 40, "stage2_steps": 40, "leaf_rate": 5e-3, "rate": 5e-4, "batch": 16}
    paths = str(inputs / "source.txt"), str(inputs / "target.txt")
    run = PretrainedRun(PretrainedJob(str(inputs / "translation"), "translation", parallel=paths, **(SIZES | settings)), tmp_path,
                        say=lambda line: None)
    assert run.row(run.teacher, "dense", 1, "teacher", 0.0)["value"] == pytest.approx(100)
    assert len(run.train) == 114 and len(run.pairs) == 6
    short = PretrainedRun(PretrainedJob(str(inputs / "translation"), "translation", parallel=paths,
                                        **(SIZES | settings | {"stage1_steps": 1, "stage2_steps": 1})), tmp_path,
                          say=lambda line: None)
    long, first = (values(one.student("see", 4)) for one in (run, short))
    assert long[1]["loss"] < 0.9 * first[1]["loss"] and long[2]["loss"] < 0.8 * first[2]["loss"]


@pytest.mark.parametrize("model, words, text", [
    (lambda: translator("BartForConditionalGeneration", tie_word_embeddings=False), ending,
     "model: expected one embedding for encoder and decoder, got BartForConditionalGeneration with two"),
    (translator, tokenizer, "tokenizer: expected a eos_token for translation, got none"),
    (lambda: translator(decoder_start_token_id=None), ending,
     "model: expected a decoder_start_token_id, got T5ForConditionalGeneration without"),
    (lambda: transformers.ProphetNetForConditionalGeneration(transformers.ProphetNetConfig(
        vocab_size=ROWS, hidden_size=32, num_encoder_layers=1, num_decoder_layers=1, encoder_ffn_dim=8, decoder_ffn_dim=8,
        num_encoder_attention_heads=2, num_decoder_attention_heads=2, decoder_start_token_id=0)), ending,
     "model: expected logits that are a head's of the last state, got ProphetNetForConditionalGeneration"),
], ids=["two embeddings", "no end", "no begin", "another head"])
def test_a_translator_that_does_not_fit_is_refused(model, words, text):
    with pytest.raises(DataError, match=f"^{text}$"):
        PretrainedTranslator(model(), words())


def test_parallel_texts_that_cannot_be_used_are_refused(inputs, tmp_path, capsys, monkeypatch):
    words = command(inputs, "translation", tmp_path / "out")
    place = words.index("--parallel") + 2
    texts = {"one.txt": "bad\n", "none.txt": "\n", "binary.txt": b"\xff\xfe\n"}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    for name, expected in (("one.txt", "expected as many lines in both, got 120 and 1"), ("none.txt", "lines in both"),
                           ("binary.txt", "expected UTF-8"), ("missing.txt", "expected a file that can be read")):
        words[place] = str(tmp_path / name)
        assert expected in refused(capsys, *words)
    words[place - 1] = words[place] = str(tmp_path / "one.txt")
    assert refused(capsys, *words) == "see_min: parallel: number of pairs: expected at least 2, got 1\n"
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    text = "see_min: sacrebleu: expected the package to be installed, got none: pip install sacrebleu\n"
    assert refused(capsys, *command(inputs, "translation", tmp_path / "out")) == text


# ------------------------------------------------------------------ input that cannot be used


def broken(inputs, folder, task, change):
    """A copy of a model's folder, changed."""
    shutil.copytree(inputs / task, folder)
    change(folder)
    return folder


def cut(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


FOLDERS = {
    "missing": (lambda folder: shutil.rmtree(folder), "folder"),
    "no tokenizer": (lambda folder: [path.unlink() for path in folder.glob("*token*")], "no words in the tokenizer"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "expected a model and a tokenizer"),
    "cut weights": (lambda folder: cut(folder / "model.safetensors"), "expected a model and a tokenizer"),
    "cut config": (lambda folder: cut(folder / "config.json"), "expected a model and a tokenizer"),
}


@pytest.mark.parametrize("change, text", FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_is_not_whole_is_refused(inputs, tmp_path, capsys, change, text):
    for task in ("lm", "mlm"):
        folder = broken(inputs, tmp_path / task, task, change)
        assert text in refused(capsys, *command(inputs, task, tmp_path / "out", path=folder))
        assert text in refused(capsys, "evaluate", folder, "--task", task, "--corpus", inputs / "valid.txt")


@pytest.mark.parametrize("share", (0.0, 0.5, 0.99))
def test_a_corrupt_see_min_file_is_refused(inputs, outs, tmp_path, capsys, share):
    folder = shutil.copytree(outs / "lm" / "see_4x", tmp_path / "model")
    cut(folder / "see_min.pt", share)
    assert "see_min.pt" in refused(capsys, "evaluate", folder, "--task", "lm", "--corpus", inputs / "valid.txt")


OURS = {"format": "see_min transformer 1", "names": [], "state": {}, "dtype": "torch.float32"}


@pytest.mark.parametrize("stored", [[], {}, {"format": "other"}, OURS, OURS | {"names": 3}, OURS | {"names": ["no"]},
                                    OURS | {"state": 3}, OURS | {"dtype": "x"}, OURS | {"dtype": "torch.save"}])
def test_a_see_min_file_with_other_contents_is_refused(inputs, outs, tmp_path, capsys, stored):
    folder = shutil.copytree(outs / "lm" / "see_4x", tmp_path / "model")
    torch.save(stored, folder / "see_min.pt")
    assert "see_min.pt" in refused(capsys, "evaluate", folder, "--task", "lm", "--corpus", inputs / "valid.txt")


def test_a_folder_without_the_head_of_the_task_is_refused(inputs, outs, tmp_path, capsys):
    for task in ("mlm", "lm"):
        path = inputs / "encoder"
        assert "cls.predictions" in refused(capsys, *command(inputs, task, tmp_path, path=path))
    corpus = ["--corpus", inputs / "valid.txt"]
    assert "see_min.pt" in refused(capsys, "evaluate", outs / "encoder" / "see_4x", "--task", "mlm", *corpus)


@pytest.mark.parametrize("name, task", [("lm", "translation"), ("encoder", "translation"), ("translation", "encoder"),
                                        ("translation", "mlm"), ("translation", "lm")])
def test_a_folder_of_another_kind_of_model_is_refused(inputs, tmp_path, capsys, name, task):
    text = refused(capsys, *command(inputs, task, tmp_path / "out", path=inputs / name))
    start = "task: expected translation for an encoder with" if task == "encoder" else f"{inputs / name}: expected a model and"
    assert text.startswith(f"see_min: {start}")
    assert not list(tmp_path.rglob("*_4x"))


def test_a_tokenizer_without_the_token_of_the_task_is_refused(inputs, tmp_path, capsys):
    folder = written(tmp_path / "model", "BertForMaskedLM", special=SPECIAL[:4])
    text = refused(capsys, *command(inputs, "mlm", tmp_path, path=folder))
    assert text == "see_min: tokenizer: expected a mask_token for mlm, got none\n"


LINES = {
    "no corpus": ("lm", ["--corpus"], [], {}, "corpus: expected --corpus FILE"),
    "no sts": ("encoder", ["--sts"], [], {}, "sts: expected --sts FILE"),
    "unknown task": ("lm", [], ["--task", "images"], {}, "argument --task: invalid choice"),
    "translation without pairs": ("lm", [], ["--task", "translation"], {}, "parallel: expected --parallel SOURCE TARGET"),
    "dimension": ("lm", [], ["--dimension", "8"], {}, "dimension: expected no PATH with it, got one"),
    "ratio": ("lm", [], [], {"ratios": (100000,)}, "ratio"),
    "pq": ("lm", [], ["--methods", "see", "pq"], {}, "method: expected one whose result is an encoding, got 'pq'"),
    "unknown method": ("lm", [], ["--methods", "zip"], {}, "method: expected one of"),
    "long context": ("lm", [], [], {"context": 65}, "context: expected at most 64"),
    "long context, encoder": ("encoder", [], [], {"context": 65}, "context: expected at most 64"),
    "no context": ("lm", [], [], {"context": 0}, "context: expected at least 1, got 0"),
    "cuda": ("lm", [], [], {"device": "cuda"}, "device: expected a machine with CUDA, got none: use --device cpu"),
    "no rate": ("lm", [], ["--rate", "0"], {}, "rate: expected a number above 0, got 0"),
    "leaf rate": ("lm", [], ["--leaf-rate", "nan"], {}, "leaf-rate: expected a number above 0, got nan"),
    "accumulate": ("lm", [], ["--accumulate", "9"], {}, "batch: expected at least 9"),
    "seed": ("lm", [], ["--seed", "-1"], {}, "seed: expected at least 0"),
}


@pytest.mark.parametrize("task, without, more, changes, text", LINES.values(), ids=LINES)
def test_options_that_make_no_sense_are_refused(inputs, tmp_path, capsys, task, without, more, changes, text):
    words = command(inputs, task, tmp_path / "out", *more, **changes)
    for flag in without:
        place = words.index(flag)
        del words[place : place + 2]
    assert text in refused(capsys, *words)
    assert not list(tmp_path.glob("out/*_*x")), "refused after a student had been made"


@pytest.mark.parametrize("flag", (["--sts", "a.csv"], ["--bf16"], ["--methods", "see"]))
def test_options_of_a_path_are_refused_without_one(tmp_path, capsys, flag):
    assert "expected a PATH with it, got none" in refused(capsys, "compress", *flag, "--out", tmp_path)


TEXTS = {"empty": "\n\n", "a word": "bad\n", "a line": "bad beno bilk " * 9, "short lines": "bad beno\n" * 5}


@pytest.mark.parametrize("task", [task for task in METRIC if task != "translation"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_shorter_than_a_window_is_refused_or_works(inputs, tmp_path, capsys, task, text):
    """An encoder takes sentences of any number; the others need a window each for training and for evaluation."""
    (tmp_path / "short.txt").write_text(text)
    words = command(inputs, task, tmp_path / "out", "--methods", "weighted-svd")
    words[words.index("--corpus") + 1] = str(tmp_path / "short.txt")
    if task == "encoder" and len(text.split()) > 1:
        assert call(capsys, *words)[0] == 0
    else:
        assert "expected" in refused(capsys, *words)


def test_evaluate_names_what_is_missing(inputs, tmp_path, capsys):
    assert "sts: expected --sts FILE" in refused(capsys, "evaluate", inputs / "encoder")
    assert "corpus: expected --corpus FILE" in refused(capsys, "evaluate", inputs / "lm", "--task", "lm")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "two.csv").write_text("bad,beno,1\nbad,bilk,2\n")
    assert "expected" in refused(capsys, "evaluate", inputs / "lm", "--task", "lm", "--corpus", tmp_path / "empty.txt")
    assert "expected" in refused(capsys, "evaluate", inputs / "mlm", "--task", "mlm", "--corpus", tmp_path / "empty.txt")
    assert "sts: expected at least 3 pairs" in refused(capsys, "evaluate", inputs / "encoder", "--sts", tmp_path / "two.csv")
    for context in (0, 65):
        assert "context: expected" in refused(capsys, "evaluate", inputs / "lm", "--task", "lm", "--corpus", inputs / "valid.txt",
                                              "--context", context)


def test_without_transformers_one_line_says_what_to_install(inputs, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    text = "see_min: transformers: expected the package to be installed, got none: pip install transformers\n"
    assert refused(capsys, *command(inputs, "lm", tmp_path)) == text
    assert refused(capsys, "evaluate", inputs / "encoder", "--sts", inputs / "sts.csv") == text


def test_a_corpus_that_is_missing_or_not_utf_8_is_refused(inputs, tmp_path, capsys):
    (tmp_path / "binary").write_bytes(b"bad beno\n\x80\xff\n")
    words = command(inputs, "lm", tmp_path / "out")
    for name, text in (("binary", "binary:2: expected UTF-8, got byte 0x80"), ("none", "none: expected a file that can be read")):
        words[words.index("--corpus") + 1] = str(tmp_path / name)
        assert text in refused(capsys, *words)


@pytest.mark.parametrize("stage", ["compress.approximate", *(f"pretrained_job.{name}" for name in ("stage1", "stage2", "score"))])
def test_running_out_of_memory_is_one_line_and_leaves_no_folder_and_no_phase(inputs, tmp_path, capsys, monkeypatch, stage):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore lines")

    module, name = stage.split(".")
    monkeypatch.setattr(importlib.import_module(f"see_min.bridge.{module}"), name, full)
    text = "see_min: device: expected enough memory, got CUDA out of memory. Tried to allocate 2 GiB.\n"
    assert refused(capsys, *command(inputs, "lm", tmp_path)) == text
    assert [path.name for path in tmp_path.rglob("*.*")] == (["dense.json"] if name != "score" else [])
    if name == "score":
        words = ["evaluate", inputs / "lm", "--task", "lm", "--corpus", inputs / "valid.txt", "--context", 8]
        assert refused(capsys, *words) == text


@pytest.mark.parametrize("most", [200, 20_000])
def test_a_full_disk_is_one_line_and_leaves_no_half_of_a_file(inputs, tmp_path, capsys, most):
    """A limit on the length of files stands for the disk: the config does not fit, or the state does not."""
    model, limits = load_pretrained(inputs / "lm", "lm"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        with pytest.raises(DataError, match="^out: expected "):
            save_compressed(model, tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [path for path in tmp_path.rglob("*") if path.name == "see_min.pt" or path.name.startswith(".")]


def test_a_folder_that_cannot_be_written_is_refused(inputs, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert refused(capsys, *command(inputs, "lm", tmp_path / "file")).startswith("see_min: out: expected a directory that can be")
    with pytest.raises(DataError, match="expected"):
        run_pretrained(job(inputs, "lm", "lm"), tmp_path / "file", say=lambda line: None)
    with pytest.raises(DataError, match="expected"):
        save_compressed(load_pretrained(inputs / "lm", "lm"), tmp_path / "file")
