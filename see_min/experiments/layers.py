"""`compare --layers`: methods for the blocks of small models, before and after the same finetuning.

The small GPT and BERT of `train` are trained. Each method compresses every linear layer of their
blocks to 1/ratio of its parameters (quantization: to 16 / ratio bits), with calibration inputs from
the corpus; then all that is kept is finetuned alike. On the GPT, SEE compresses the embedding
besides. Numbers are cross entropies on held-out text, in nats.
"""

import copy
import time
from dataclasses import asdict, dataclass, field

import torch

from see_min.bridge.finetune import stage2
from see_min.bridge.swap import swap_embedding
from see_min.errors import InputError
from see_min.experiments import reports
from see_min.experiments.train import SUBJECTS, train_settings
from see_min.recipe import MIX
from see_min.related import registry
from see_min.related.layers.forms import FORMS, Blocks, check_forms, compress_blocks
from see_min.storage.files import check_writable
from see_min.toy.data import IGNORE
from see_min.toy.training import cross_entropy, on_device, pick_device

COMBINED = (("see", None), ("see", "rom"), ("see", "modegpt"), ("weighted-svd", "rom"))
LARGEST_RATIO = 8
EMBEDDING_RATIO, TOTAL_RATIO = 10, 4  # of SEE alone; of embedding and blocks together
TITLES = {"lm": "TinyGPT, next words", "mlm": "TinyBERT, masked words"}


@dataclass(frozen=True)
class LayerTask:
    """What is compared; InputError for a method that there is not, or a ratio out of reach."""

    ratios: tuple = (2, 4)
    methods: tuple = FORMS
    mask_steps: int = 60
    finetune_steps: int = 40
    held_out: int = 4  # batches
    training: dict = field(default_factory=dict)  # of `train_settings`

    def __post_init__(self):
        check_forms(self.methods)
        for ratio in self.ratios:
            if not 1 < ratio <= LARGEST_RATIO:
                rule = f"above 1 and at most {LARGEST_RATIO} for layers"
                raise InputError(f"ratio: expected {rule}, got {ratio:g}")


QUICK = {"mask_steps": 20, "finetune_steps": 5, "held_out": 1}
QUICK_TRAINING = {"quick": True, "teacher_steps": 60}


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
    """Rows of a subject of `train`: every student is a copy of its model and sees its batches."""

    def __init__(self, name, task, out, log):
        self.name, self.log, self.cache = name, log, {}
        settings = train_settings(name, **task.training)
        self.subject = SUBJECTS[name](settings, pick_device("auto"), log)
        self.subject.read()
        self.model, _ = self.subject.teacher(out / f"{name}.pt", resumed=False)
        batches, seed = self.subject.batches, settings.seed
        self.calibration = next(batches(1, seed + 1))
        self.masks = list(batches(task.mask_steps, seed + 2))
        self.fine = list(batches(task.finetune_steps, seed + 3))
        self.held_out = list(batches(task.held_out, seed + 4, self.subject.valid))
        blocks = Blocks(copy.deepcopy(self.model), self.calibration)
        self.states, self.block_parameters = last_states(blocks), blocks.parameters()
        self.embedding_parameters = self.model.token_embedding.weight.numel()
        every = sum(parameter.numel() for parameter in self.model.parameters())
        self.other_parameters = every - self.block_parameters - self.embedding_parameters

    def row(self, method, ratio, encoding=None, embedding="dense"):
        """Compress, measure, finetune, measure."""
        start, model = time.perf_counter(), copy.deepcopy(self.model)
        if encoding is not None:
            swap_embedding(model, encoding, "token_embedding")
        cache = self.cache if encoding is None else None
        blocks = Blocks(model, self.calibration, self.masks, cache)
        if method != "dense":
            compress_blocks(blocks, method, ratio)
        seconds, error = time.perf_counter() - start, last_states(blocks) - self.states
        before = held_out_loss(model, self.held_out)
        stage2(model, self.model, self.fine, len(self.fine), task=self.subject.task, label=method)
        after = held_out_loss(model, self.held_out)
        row = {"model": self.name, "embedding": embedding, "method": method, "ratio": ratio,
               "output_error": float(error.square().sum() / self.states.square().sum()),
               "before": before, "after": after, "seconds": seconds,
               **self._sizes(blocks, encoding)}
        values = f"cross entropy {before:.3f}, finetuned {after:.3f}"
        self.log(f"{self.name}: {row_name(row)}: {values}")
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

    >>> row_name({"embedding": "see", "method": "rom", "ratio": 4})
    'see + rom, 4x'
    """
    parts = [row["embedding"]] if row["embedding"] != "dense" else []
    if row["method"] != "dense":
        parts.append(f"{row['method']}, {row['ratio']:.3g}x")
    return " + ".join(parts) or "dense"


def compare_layers(task, out, log=print):
    """All methods on both models, then SEE together with them: {"task", "rows"}."""
    rows = []
    for name in TITLES:
        evaluation = Evaluation(name, task, out, log)
        rows.append(evaluation.row("dense", 1))
        for ratio in task.ratios:
            for method in task.methods:
                bits = 2 if method == "quantization" else 1  # 8 bits at 2, 4 bits at 4
                rows.append(evaluation.row(method, bits * ratio))
        if name == "lm":
            rows += combined_rows(evaluation)
    told = asdict(task) | {"embedding_ratio": EMBEDDING_RATIO, "total_ratio": TOTAL_RATIO}
    return {"task": told | told.pop("training"), "rows": rows}


def combined_rows(evaluation):
    """SEE on the embedding, alone and with blocks at 1/TOTAL_RATIO of both together."""
    vocabulary = evaluation.subject.vocabularies["token_embedding"]
    matrix = evaluation.model.token_embedding.weight.detach().double().cpu().numpy()  # (V, D)
    both, rows = matrix.size + evaluation.block_parameters, []
    seed = evaluation.subject.settings.seed
    for embedding, method in COMBINED:
        encoding = registry.approximate(matrix, vocabulary, embedding, EMBEDDING_RATIO, seed)
        left = both / TOTAL_RATIO - encoding.parameters  # for the blocks
        ratio = evaluation.block_parameters / left if method else 1
        rows.append(evaluation.row(method or "dense", ratio, encoding, embedding))
    return rows


def table(report):
    """The comparison as Markdown, a table per model."""
    head = ["embedding and blocks", "parameters of blocks", "bytes of blocks", "bytes of model",
            "output error", "cross entropy", "finetuned", "seconds"]
    steps = report["task"]["finetune_steps"]
    text = ["Sizes are shares of the dense ones. The output error: squared, relative, of the last "
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
    return reports.as_markdown(report, *text)


def run(arguments, command):
    """Compare, and write layers.json and .md, in phases the models; InputError for other flags."""
    defaults = {"lexicon": "sample", "mix": MIX}
    for name in ("matrix", "model", "vocabulary", "corpus", "sts", "similarity", "bits", *defaults):
        if (getattr(arguments, name) or None) != defaults.get(name):
            raise InputError(f"{name}: expected no --layers with it, got one")
    if len(arguments.seeds) > 1:
        raise InputError(f"seeds: expected one with --layers, got {len(arguments.seeds)}")
    given = {name: tuple(dict.fromkeys(getattr(arguments, name)))
             for name in ("methods", "ratios") if getattr(arguments, name)}
    if given.get("methods") == ("all",):
        del given["methods"]
    training = (QUICK_TRAINING if arguments.quick else {}) | {"seed": arguments.seeds[0]}
    task = LayerTask(**(QUICK if arguments.quick else {}), **given, training=training)
    report = compare_layers(task, check_writable(arguments.out) / "phases", reports.progress)
    reports.write_report(report, command, arguments.out, "layers", table)
