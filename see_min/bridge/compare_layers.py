"""Compare the layer methods of `see_min.related` on the blocks of small models, before and after the same short finetuning.

Two models: the small GPT of the main job, and a TinyBERT trained here on the same corpus. Each method compresses every linear
layer of the blocks to 1/ratio of its floats (quantization: 8 and 4 bits), with calibration inputs from the corpus. The students
are then finetuned alike, all that they keep moving but masks and codes (`see_min.bridge.finetune.stage2`). On the GPT, SEE
compresses the embedding of the same model besides. Numbers are cross entropies on held-out text, in nats.
"""

import copy
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from see_min.bridge.finetune import LANGUAGE, Task, cross_entropy, pretrain, stage2
from see_min.bridge.job import QUICK as QUICK_JOB
from see_min.bridge.job import Job, LanguageStudy
from see_min.bridge.layer_forms import FAMILY_OF, Blocks, compress_blocks
from see_min.bridge.models import BERTConfig, TinyBERT
from see_min.bridge.swap import swap_embedding
from see_min.bridge.training import on_device
from see_min.checks import DataError, check_at_least
from see_min.related.quantization import quantize
from see_min.sequences import IGNORE, language_batches, masked_batches

METHODS = ("svd", "rom", "modegpt", "numerical", "acip", "mpo", "csformer", "magnitude", "micro-prune", "micro-unify",
           "quantization")
COMBINED = (("see", None), ("see", "rom"), ("see", "modegpt"), ("svd", "rom"))  # of the embedding, of the blocks
LEAF_BITS = 8


@dataclass(frozen=True)
class LayerTask:
    """What is compared; `QUICK` has smaller models and fewer steps.

    Attributes
    ----------
    ratios : tuple of float
        Floats of the blocks' layers / floats kept. Quantization at 2 has 8 bits, at 4 it has 4, and so on.
    job : str
        Folder of a finished main job, whose model is taken if it is there.
    methods : tuple of str
    quick : bool
    seed : int
    steps, mask_steps, bert_steps : int
        Of finetuning, of ACIP's training of masks, of the training of the TinyBERT.
    rows, windows : int
        Of the calibration batch, and held-out windows for the cross entropies.
    embedding_ratio, total_ratio : float
        Of SEE alone, and of embedding and blocks together.
    """

    ratios: tuple = (2, 4)
    job: str = "out"
    methods: tuple = METHODS
    quick: bool = False
    seed: int = 0
    steps: int = 40
    mask_steps: int = 60
    bert_steps: int = 400
    rows: int = 32
    windows: int = 128
    embedding_ratio: float = 10
    total_ratio: float = 4


QUICK = {"quick": True, "steps": 10, "bert_steps": 100, "windows": 32}


@dataclass
class World:
    """A model, and the batches that all students share."""

    name: str
    model: torch.nn.Module
    task: Task
    calibration: object
    masks: list
    fine: list
    held_out: list


def check_task(task):
    """Refuse what cannot be compared, before any work.

    Raises
    ------
    DataError
    """
    for method in task.methods:
        if method not in METHODS:
            raise DataError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    for ratio in task.ratios:
        if not 1 < ratio <= 8:
            raise DataError(f"ratio: expected above 1 and at most 8 for layers, got {ratio:g}")
    check_at_least("seed", task.seed, 0)


def gpt_run(task, out, say):
    """The study of a main job with its teacher: that of the finished job if there is one, else trained here, in out/layers.

    Raises
    ------
    DataError
        If the job's settings cannot be read, or its teacher is of another model or other words.
    """
    folder = Path(task.job) / "phases"
    finished = not task.quick and (folder / "teacher.pt").is_file() and (folder / "teacher.json").is_file()
    settings = Job(seed=task.seed, **(QUICK_JOB | {"quick": True} if task.quick else {}))
    if finished:
        try:
            settings = replace(Job(**json.loads((folder / "job.json").read_text())), teacher=str(folder / "teacher.pt"))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"job: expected the settings of a main job in {folder}, got {error}") from None
    run = LanguageStudy(replace(settings, ratios=(task.embedding_ratio,), also=()), Path(out) / "layers", resume=True, say=say)
    run.train_teacher()
    return run


def worlds(task, run, say):
    """The two models with their batches; the second is trained when it is asked for."""
    job, seed = run.job, task.seed
    held_out = lambda make: list(make(run.valid, job.context, job.batch, -(-task.windows // job.batch), seed + 4))
    rest = lambda make: (next(make(run.train, job.context, task.rows, 1, seed + 1)),
                         list(make(run.train, job.context, job.batch, task.mask_steps, seed + 2)),
                         list(make(run.train, job.context, job.batch, task.steps, seed + 3)), held_out(make))
    yield World("gpt", run.teacher, LANGUAGE, *rest(language_batches))
    V = len(run.words)
    masked = lambda ids, context, size, steps, seed: masked_batches(ids, context, size, steps, seed, V + 1, V + 2, (0, V))
    torch.manual_seed(seed)
    model = TinyBERT(BERTConfig(V + 2, job.dimension, job.blocks, job.heads, job.context, pad=V)).to(run.device)
    say(f"training a TinyBERT for {task.bert_steps} steps")
    pretrain(model, masked(run.train, job.context, job.batch, task.bert_steps, seed), task.bert_steps, task=Task(pad=V),
             label="TinyBERT")
    yield World("bert", model, Task(pad=V), *rest(masked))


@torch.no_grad()
def held_out_loss(model, batches):
    """Mean of -ln p(target) over all targets of the batches."""
    device, total, count = next(model.parameters()).device, 0.0, 0
    for batch in batches:
        batch = on_device(batch, device)
        targets = int((batch.targets != IGNORE).sum())
        total, count = total + float(cross_entropy(model(*batch.inputs), batch.targets)) * targets, count + targets
    return total / max(count, 1)


class Students:
    """Rows of one world: every student begins as a copy of its model."""

    def __init__(self, world, task, say):
        self.world, self.task, self.say, self.memory = world, task, say, {}
        self.blocks = Blocks(copy.deepcopy(world.model), world.calibration)
        with torch.no_grad():
            self.states = self.blocks.model.hidden_states(*self.blocks.batch.inputs)[-1]  # (b, t, D)
        self.block_floats = self.blocks.floats()
        self.embedding_floats = world.model.token_embedding.weight.numel()
        self.other_floats = sum(p.numel() for p in world.model.parameters()) - self.block_floats - self.embedding_floats

    def row(self, method, ratio, encoding=None, embedding="dense", leaf_bits=32):
        """Compress, measure, finetune, measure."""
        world, start = self.world, time.perf_counter()
        model = copy.deepcopy(world.model)
        if encoding is not None:
            swap_embedding(model, encoding, "token_embedding")
        blocks = Blocks(model, world.calibration, world.masks, self.memory if encoding is None else None)
        if method != "dense":
            compress_blocks(blocks, method, ratio)
        seconds = time.perf_counter() - start
        loss = lambda: held_out_loss(_rounded(model) if leaf_bits < 32 else model, world.held_out)
        row = {"model": world.name, "embedding": embedding, "method": method, "family": FAMILY_OF.get(method, ""),
               "ratio": ratio, "leaf_bits": leaf_bits, **self._errors(blocks), "before": loss()}
        finetuned = stage2(model, world.model, world.fine, len(world.fine), task=world.task, label=method)
        row |= {"after": loss(), **self._sizes(blocks, encoding, leaf_bits), "seconds": seconds,
                "finetune_seconds": finetuned["seconds"]}
        self.say(f"{world.name}: {title(row)}: cross entropy {row['before']:.3f}, finetuned {row['after']:.3f} "
                 f"({time.perf_counter() - start:.0f} s)")
        return row

    def _errors(self, blocks):
        """Relative squared errors of the weights, None where these have another basis, and of the last block's states."""
        with torch.no_grad():
            states = blocks.model.hidden_states(*blocks.batch.inputs)[-1]
        weight = [0.0, 0.0]
        for name, kept in blocks.kept.items():
            W = self.blocks.weight(name)
            weight[0], weight[1] = weight[0] + ((W - kept.dense()) ** 2).sum(), weight[1] + (W**2).sum()
        other_basis = any(kept.shift is not None for kept in blocks.kept.values())  # MoDeGPT turns values, and moves their bias
        return {"weight_error": None if other_basis else float(weight[0] / (weight[1] or 1)),
                "output_error": float((states - self.states).square().sum() / self.states.square().sum())}

    def _sizes(self, blocks, encoding, leaf_bits):
        floats, embedding = blocks.floats(), 32 * self.embedding_floats
        if encoding is not None:
            embedding = 8 * encoding.index_bytes + leaf_bits * encoding.floats
        if leaf_bits < 32:
            embedding += 64 * sum(len(p) for p in blocks.model.token_embedding.parameters())  # step and least value of a row
        bits = 32 * floats + blocks.index_bits()
        return {"block_floats": int(floats), "block_bits": int(bits), "embedding_bits": int(embedding),
                "model_bits": int(32 * self.other_floats + bits + embedding)}


def _rounded(model):
    """A copy of the model with every float of its embedding as one of 256 values of its row."""
    model = copy.deepcopy(model)
    for parameter in model.token_embedding.parameters():
        rows = parameter.detach().double().flatten(1).cpu().numpy()
        codes, step, low = quantize(rows, LEAF_BITS)
        parameter.data = torch.as_tensor(low + step * codes, dtype=parameter.dtype, device=parameter.device).view_as(parameter)
    return model


def title(row):
    """What a row is called.

    Examples
    --------
    >>> title({"embedding": "see", "method": "rom", "ratio": 4, "leaf_bits": 8})
    'see, leaves of 8 bits + rom, 4x'
    """
    leaves = f", leaves of {row['leaf_bits']} bits" if row["leaf_bits"] < 32 else ""
    parts = [row["embedding"] + leaves] if row["embedding"] != "dense" else []
    if row["method"] != "dense":
        parts.append(f"{row['method']}, {row['ratio']:.3g}x")
    return " + ".join(parts) or "dense"


def compare_layers(task, out, say=print):
    """All methods on both models, then SEE together with them: {"task", "rows"}.

    Raises
    ------
    DataError
        For input that cannot be used.

    Source: ours.
    """
    check_task(task)
    start, rows = time.perf_counter(), []
    run = gpt_run(task, out, say)
    for world in worlds(task, run, say):
        students = Students(world, task, say)
        rows.append(students.row("dense", 1))
        for ratio in task.ratios:
            for method in task.methods:
                rows.append(students.row(method, 2 * ratio if method == "quantization" else ratio))
        if world.name == "gpt":
            rows += combined(students, task, run)
    sizes = {"vocabulary": len(run.words)} | {name: getattr(run.job, name) for name in ("dimension", "blocks", "context")}
    return {"task": asdict(task) | sizes, "rows": rows, "seconds": time.perf_counter() - start}


def combined(students, task, run):
    """SEE on the embedding, alone and with the blocks at a total of 1/total_ratio of both; then with rounded leaves.

    Raises
    ------
    DataError
        If the total leaves no room for the blocks.
    """
    rows, both = [], students.embedding_floats + students.block_floats
    for embedding, method in COMBINED:
        policy, (plan,) = run.plans[embedding, task.embedding_ratio]
        encoding, _ = run.encoding(embedding, policy, plan, run.embeddings[0], run.matrices[0])
        left = both / task.total_ratio - encoding.floats
        if method and left <= 0:
            raise DataError(f"total ratio: expected room for the blocks, got none at {task.total_ratio:g}")
        for leaf_bits in (32, LEAF_BITS) if embedding == "see" else (32,):
            ratio = students.block_floats / left if method else 1
            rows.append(students.row(method or "dense", ratio, encoding, embedding, leaf_bits))
    return rows
