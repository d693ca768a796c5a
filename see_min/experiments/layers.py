"""`compare --layers`: methods for the blocks of small models, before and after the same finetuning.

A TinyGPT and a TinyBERT are trained on the default corpus. Each method compresses every linear
layer of their blocks to 1/ratio of its parameters (quantization: to 16 / ratio bits), with
calibration inputs from the corpus; then all that is kept is finetuned alike. On the GPT, SEE
compresses the embedding besides. Numbers are cross entropies on held-out text, in nats.
"""

import copy
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial

import torch

from see_min.bridge.finetune import LANGUAGE, EmbeddingTask, stage2
from see_min.bridge.swap import swap_embedding
from see_min.errors import InputError
from see_min.experiments import reports
from see_min.experiments.options import check_seed
from see_min.files import check_writable
from see_min.recipe import MIX
from see_min.related import registry
from see_min.related.layers.forms import FORMS, Blocks, compress_blocks
from see_min.toy.data import (
    IGNORE,
    PACKAGES,
    build_corpus,
    default_documents,
    language_batches,
    masked_batches,
)
from see_min.toy.models import BERTConfig, GPTConfig, TinyBERT, TinyGPT
from see_min.toy.training import cross_entropy, on_device, pick_device, pretrain
from see_min.words.vocabulary import build_vocabulary

COMBINED = (("see", None), ("see", "rom"), ("see", "modegpt"), ("weighted-svd", "rom"))
LARGEST_RATIO = 8
TITLES = {"gpt": "TinyGPT, next words", "bert": "TinyBERT, masked words"}


@dataclass(frozen=True)
class LayerTask:
    """What is compared; the fields below `seed` are sizes of models and steps of training."""

    ratios: tuple = (2, 4)
    methods: tuple = FORMS
    embedding_ratio: float = 10  # of SEE alone
    total_ratio: float = 4  # of embedding and blocks together
    seed: int = 0
    packages: tuple = PACKAGES
    vocab_size: int = 4000
    n_embd: int = 192
    block_size: int = 64
    batch_size: int = 16
    gpt_steps: int = 700
    bert_steps: int = 400
    mask_steps: int = 60
    finetune_steps: int = 40
    held_out: int = 4  # batches

    def __post_init__(self):
        for method in self.methods:
            if method not in FORMS:
                raise InputError(f"method: expected one of {', '.join(FORMS)}, got {method!r}")
        for ratio in self.ratios:
            if not 1 < ratio <= LARGEST_RATIO:
                rule = f"above 1 and at most {LARGEST_RATIO} for layers"
                raise InputError(f"ratio: expected {rule}, got {ratio:g}")
        check_seed(self.seed)


QUICK = {"packages": ("numpy",), "vocab_size": 600, "n_embd": 64, "block_size": 24, "gpt_steps": 60,
         "bert_steps": 40, "mask_steps": 20, "finetune_steps": 5, "held_out": 1}


@dataclass
class Setup:
    """A trained model, and the batches that all its students share."""

    name: str
    model: torch.nn.Module
    task: EmbeddingTask
    calibration: object
    masks: list
    fine: list
    held_out: list


def make_setups(task, corpus, log):
    """The two models; each is trained when it is asked for."""
    V, sizes = len(corpus.words), {"n_embd": task.n_embd, "block_size": task.block_size}
    gpt = TinyGPT, GPTConfig(V, **sizes)
    yield make_setup(task, corpus, log, "gpt", gpt, LANGUAGE, language_batches, task.gpt_steps)
    # ids after those of the words: the pad, the mask
    masked = partial(masked_batches, mask=V + 1, vocab_size=V + 2, special=(0, V))
    bert, loss = (TinyBERT, BERTConfig(V + 2, pad=V, **sizes)), EmbeddingTask(pad=V)
    yield make_setup(task, corpus, log, "bert", bert, loss, masked, task.bert_steps)


def make_setup(task, corpus, log, name, made_of, loss, batches, steps):
    """One trained model with its batches."""

    def draw(ids, steps, seed):
        return batches(ids, task.block_size, task.batch_size, steps, task.seed + seed)

    torch.manual_seed(task.seed)
    kind, config = made_of
    model = kind(config).to(pick_device("auto"))
    log(f"training a {kind.__name__} for {steps} steps")
    pretrain(model, draw(corpus.train, steps, 0), steps, label=name)
    return Setup(
        name, model, loss, calibration=next(draw(corpus.train, 1, 1)),
        masks=list(draw(corpus.train, task.mask_steps, 2)),
        fine=list(draw(corpus.train, task.finetune_steps, 3)),
        held_out=list(draw(corpus.valid, task.held_out, 4)))


@torch.no_grad()
def held_out_loss(model, batches):
    """Mean of -ln p(target) over all targets of the batches."""
    device, total, count = next(model.parameters()).device, 0.0, 0
    for batch in batches:
        batch = on_device(batch, device)
        targets = int((batch.targets != IGNORE).sum())
        total += float(cross_entropy(model(*batch.inputs), batch.targets)) * targets
        count += targets
    return total / max(count, 1)


class Evaluation:
    """Rows of one setup: every student begins as a copy of its model."""

    def __init__(self, setup, log):
        self.setup, self.log, self.cache = setup, log, {}
        blocks = Blocks(copy.deepcopy(setup.model), setup.calibration)
        self.states, self.block_parameters = last_states(blocks), blocks.parameters()
        self.embedding_parameters = setup.model.token_embedding.weight.numel()
        every = sum(parameter.numel() for parameter in setup.model.parameters())
        self.other_parameters = every - self.block_parameters - self.embedding_parameters

    def row(self, method, ratio, encoding=None, embedding="dense"):
        """Compress, measure, finetune, measure."""
        setup, start = self.setup, time.perf_counter()
        model = copy.deepcopy(setup.model)
        if encoding is not None:
            swap_embedding(model, encoding, "token_embedding")
        cache = self.cache if encoding is None else None
        blocks = Blocks(model, setup.calibration, setup.masks, cache)
        if method != "dense":
            compress_blocks(blocks, method, ratio)
        seconds, error = time.perf_counter() - start, last_states(blocks) - self.states
        before = held_out_loss(model, setup.held_out)
        stage2(model, setup.model, setup.fine, len(setup.fine), task=setup.task, label=method)
        after = held_out_loss(model, setup.held_out)
        row = {"model": setup.name, "embedding": embedding, "method": method, "ratio": ratio,
               "output_error": float(error.square().sum() / self.states.square().sum()),
               "before": before, "after": after, "seconds": seconds,
               **self._sizes(blocks, encoding)}
        values = f"cross entropy {before:.3f}, finetuned {after:.3f}"
        self.log(f"{setup.name}: {row_name(row)}: {values}")
        return row

    def _sizes(self, blocks, encoding):
        """Parameters of the blocks, bytes of blocks and model with indices, codes and masks."""
        embedding = 4 * self.embedding_parameters if encoding is None else encoding.bytes
        block_bytes = 4 * blocks.parameters() + blocks.index_bits() / 8
        return {"block_parameters": int(blocks.parameters()), "block_bytes": int(block_bytes),
                "model_bytes": int(4 * self.other_parameters + block_bytes + embedding)}


@torch.no_grad()
def last_states(blocks):
    """The last hidden states (b, t, D) on the calibration batch."""
    return blocks.model.hidden_states(*blocks.batch.inputs)[-1]


def row_name(row):
    """What a row is called.

    Examples
    --------
    >>> row_name({"embedding": "see", "method": "rom", "ratio": 4})
    'see + rom, 4x'
    """
    parts = [row["embedding"]] if row["embedding"] != "dense" else []
    if row["method"] != "dense":
        parts.append(f"{row['method']}, {row['ratio']:.3g}x")
    return " + ".join(parts) or "dense"


def compare_layers(task, log=print):
    """All methods on both models, then SEE together with them: {"task", "rows"}."""
    rows = []
    corpus = build_corpus(default_documents(task.packages), task.vocab_size, task.seed)
    for setup in make_setups(task, corpus, log):
        evaluation = Evaluation(setup, log)
        rows.append(evaluation.row("dense", 1))
        for ratio in task.ratios:
            for method in task.methods:
                bits = 2 if method == "quantization" else 1  # 8 bits at 2, 4 bits at 4
                rows.append(evaluation.row(method, bits * ratio))
        if setup.name == "gpt":
            rows += combined_rows(evaluation, task, corpus)
    return {"task": asdict(task), "rows": rows}


def combined_rows(evaluation, task, corpus):
    """SEE on the embedding, alone and with blocks at 1/total_ratio of both together."""
    vocabulary = build_vocabulary(corpus.words, "sample", corpus.counts)
    matrix = evaluation.setup.model.token_embedding.weight.detach().double().cpu().numpy()
    both, rows = matrix.size + evaluation.block_parameters, []
    for embedding, method in COMBINED:
        ratio = task.embedding_ratio
        encoding = registry.approximate(matrix, vocabulary, embedding, ratio, task.seed)
        left = both / task.total_ratio - encoding.parameters  # for the blocks
        ratio = evaluation.block_parameters / left if method else 1
        rows.append(evaluation.row(method or "dense", ratio, encoding, embedding))
    return rows


def table(report):
    """The comparison as Markdown, a table per model."""
    head = ["embedding and blocks", "parameters of blocks", "bytes of blocks", "bytes of model",
            "output error", "cross entropy", "finetuned", "seconds"]
    steps = report["task"]["finetune_steps"]
    text = [f"Command: `{report['task']['command']}`",
            "Sizes are shares of the dense ones. The output error: squared, relative, of the last "
            "hidden states on the calibration batch. Cross entropies in nats on held-out "
            f"text, before and after {steps} steps of the same finetuning (lower is better)."]
    for model, title in TITLES.items():
        rows, lines = [row for row in report["rows"] if row["model"] == model], []
        for row in rows:
            sizes = [f"1/{rows[0][key] / row[key]:.2f}"
                     for key in ("block_parameters", "block_bytes", "model_bytes")]
            values = [f"{row[key]:.3f}" for key in ("output_error", "before", "after")]
            lines.append([row_name(row), *sizes, *values, f"{row['seconds']:.1f}"])
        text += [f"{title}:", reports.markdown_table(head, lines)]
    return "\n\n".join([*text, reports.environment_lines(report)]) + "\n"


def run(arguments, command):
    """Compare, and write layers.json and .md; InputError for flags of a matrix."""
    for name in ("matrix", "model", "vocabulary", "corpus", "sts", "similarity"):
        if getattr(arguments, name):
            raise InputError(f"{name}: expected no --layers with it, got one")
    if len(arguments.seeds) > 1:
        raise InputError(f"seeds: expected one with --layers, got {len(arguments.seeds)}")
    for name, default in (("lexicon", "sample"), ("mix", MIX)):
        if getattr(arguments, name) != default:
            raise InputError(f"{name}: expected no --layers with it, got one")
    given = {name: tuple(dict.fromkeys(getattr(arguments, name)))
             for name in ("methods", "ratios") if getattr(arguments, name)}
    if given.get("methods") == ("all",):
        del given["methods"]
    task = LayerTask(**((QUICK if arguments.quick else {}) | given | {"seed": arguments.seeds[0]}))
    check_writable(arguments.out)
    report = compare_layers(task, log=lambda line: print(line, file=sys.stderr, flush=True))
    report["task"] = {"command": command, **report["task"]}
    report["environment"] = reports.environment()
    paths = reports.write_files(report, arguments.out, "layers", table)
    print(f"{table(report)}written: {', '.join(map(str, paths))}")
