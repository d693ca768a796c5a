"""`evaluate`: the metric of a model in a folder, plain or compressed, or of a toy checkpoint."""

import json
import sys
from pathlib import Path

import numpy as np

from see_min.bridge.model import device_memory
from see_min.errors import InputError
from see_min.experiments.checkpoint import load_checkpoint
from see_min.experiments.folders import FOLDERS, RECORD, FolderSettings, text_hash
from see_min.experiments.measure import masked_accuracy, perplexity, translation_score
from see_min.experiments.options import add_data_arguments
from see_min.experiments.train import masked_text
from see_min.toy import data
from see_min.toy.models import TinyGPT, TinyTranslator
from see_min.toy.training import pick_device

BATCH = 16  # windows of a batch of masked words


@device_memory()
def evaluate_folder(path, task=None, **files):
    """{"task", "metric", "value", "parameters", "note"} of a model in a folder.

    A compressed folder is measured as its report was where the text is the same: on the lines that
    were held out. The note says what differs.
    """
    record = _record(path)
    task = task or record.get("task", "encoder")
    sizes = {"block_size": record["block_size"]} if record.get("task") == task else {}
    settings = FolderSettings(model=str(path), task=task, **sizes, **files)
    subject = FOLDERS[task](settings, pick_device(settings.device))
    settings.need(*subject.measuring)
    same = record.get("task") == task and record["text"] == text_hash(settings)
    model = subject.load()
    subject.read_text(held_out=same and task != "encoder")
    note = "all of the text"
    if same:
        note = f"the data of the report, which has {record['value']:.4f}"
    elif record.get("task") == task:
        note = f"other data than those of the report, which has {record['value']:.4f}"
    return {"task": task, "metric": subject.metric, "value": subject.score(model)[0],
            "parameters": sum(p.numel() for p in model.parameters()), "note": note}


def _record(path):
    """How `compress` measured a folder; empty if it did not write it."""
    try:
        record = json.loads((Path(path) / RECORD).read_text())
        return record if {"task", "block_size", "value", "text"} <= record.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


@device_memory()
def evaluate_checkpoint(path, corpus=None, parallel=None, device="auto"):
    """{"metric", "value", "parameters", "note"} of a toy model on all of a text or all pairs."""
    model, words = load_checkpoint(path, pick_device(device))
    translator = isinstance(model, TinyTranslator)
    _check_words(path, model, words if translator else [words])
    needed = "parallel" if translator else "corpus"
    if (parallel is None) == translator or (corpus is None) != translator:
        kind, got = type(model).__name__, "none" if corpus is parallel is None else "another"
        raise InputError(f"{needed}: expected --{needed} alone with a {kind}, got {got}")
    if translator:
        metric, value = "BLEU", translation_score(model, data.read_parallel(*parallel), words)
    else:
        metric, value = _on_text(model, words, corpus)
    parameters = sum(p.numel() for p in model.parameters())
    note = "all of the text; the report has a part held out from training"
    return {"metric": metric, "value": value, "parameters": parameters, "note": note}


def _check_words(path, model, vocabularies):
    """Refuse a checkpoint that was saved without the words of its rows."""
    sizes = [model.get_submodule(name).num_embeddings for name in model.embeddings]
    lengths = [len(words) for words in vocabularies]
    if lengths != sizes:
        rule = f"{' and '.join(map(str, sizes))} words, one per row"
        raise InputError(f"{path}: expected {rule}, got {lengths}")


def _on_text(model, words, corpus):
    ids = data.text_ids(map(data.tokenize, data.file_documents(corpus)), words)
    block_size = model.config.block_size
    if len(ids) <= block_size:
        rule = f"more than {block_size} tokens, a window"
        raise InputError(f"{corpus}: expected {rule}, got {len(ids)}")
    if isinstance(model, TinyGPT):
        return "perplexity", perplexity(model, ids, max_windows=len(ids))[0]
    steps = -(-len(ids) // (block_size * BATCH))
    batches = masked_text(np.asarray(ids), words, block_size, BATCH, steps, seed=0)
    return "masked accuracy", masked_accuracy(model, batches)


def add_arguments(parser):
    """The flags of `evaluate`."""
    parser.add_argument("path", metavar="PATH", help="a folder of a Hugging Face model, or of "
                        "`compress`; or a FILE.pt of `train`")
    parser.add_argument("--task", choices=tuple(FOLDERS), help="of a folder (default: that of its "
                        "compression, else encoder)")
    parser.add_argument("--sts", metavar="FILE", help="CSV, sentence,sentence,score, of encoder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_data_arguments(parser)


def run(arguments, command):
    """Print the metric; on stderr, on what it was measured."""
    names = ("task", "corpus", "parallel", "sts", "device")
    given = {name: getattr(arguments, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.path.endswith(".pt"):
        for name in ("task", "sts"):
            if name in given:
                raise InputError(f"{name}: expected a folder with it, got {arguments.path}")
        result = evaluate_checkpoint(arguments.path, **given)
    else:
        result = evaluate_folder(arguments.path, **given)
    if arguments.json:
        print(json.dumps({"command": command, **result}, indent=1))
    else:
        print(f"{result['metric']} {result['value']:.4f}")
        print(f"measured on {result['note']}", file=sys.stderr)
