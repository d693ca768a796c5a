"""Compress the embedding of a model in a folder, finetune it on plain text, report, and save it. Phases as in the main job.

The model is its own teacher. At each ratio every method starts from it, keeps the same number of floats and sees the same
batches.
"""

import hashlib
import json
import re
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from see_min.bridge.compress import compress, device_memory
from see_min.bridge.finetune import masked_accuracy, perplexity, stage1, stage2
from see_min.bridge.phases import Phases
from see_min.bridge.pretrained import load_pretrained, save_compressed
from see_min.bridge.training import Loop, join_processes, pick_device, processes
from see_min.checks import DataError, check_at_least
from see_min.compare import Task, check_encodings, plan_of
from see_min.files import check_writable
from see_min.lexicon_files import load_lexicon
from see_min.results import environment
from see_min.segmentation import read_lines
from see_min.sequences import language_batches, masked_batches, pair_batches, read_parallel
from see_min.similarity import read_sentence_pairs
from see_min.spans import span_batches, swap_chances
from see_min.vocabulary import build_vocabulary

METRICS = {"lm": "perplexity", "mlm": "masked accuracy", "encoder": "STS", "translation": "BLEU"}
FLAGS = {"corpus": "FILE, plain text to finetune on", "sts": "FILE.csv, which the task encoder is measured by",
         "parallel": "SOURCE TARGET, sentences and their translations"}
VALID = 20  # every 20th line is kept for the evaluation of lm and mlm, and every 20th pair of sentences for that of translation
FEWEST = 4  # ids of a sentence, special ones included


@dataclass(frozen=True)
class PretrainedJob:
    """What to do with a model in a folder. See `python -m see_min compress --help`."""

    model: str
    task: str = "encoder"
    corpus: str | None = None
    sts: str | None = None
    parallel: tuple | None = None
    lexicon: str = "sample"
    methods: tuple = ("see", "weighted-svd")
    ratios: tuple = (10, 40)
    policy: str = "superposed"
    order: int | None = None
    sweeps: int = 6
    context: int = 64
    batch: int = 32
    stage1_steps: int = 50
    stage2_steps: int = 300
    rate: float = 5e-5
    leaf_rate: float = 5e-4
    accumulate: int = 1
    bf16: bool = False
    seed: int = 0
    device: str = "auto"


class PretrainedRun:
    """One run: the model, its data, its phases."""

    def __init__(self, job, out, resume=False, say=print):
        self.job, self.out = job, Path(out)
        self.device = join_processes(pick_device(job.device))
        self.say = say if processes()[0] == 0 else lambda line: None
        self.loop = Loop(job.accumulate, job.bf16)
        self.teacher = load_pretrained(job.model, job.task, job.context, self.device)
        self._read()
        task = Task(np.empty((self.teacher.rows, self.dimension)), self.vocabulary, job.policy, job.order)
        for method in job.methods:
            for ratio in job.ratios:  # a ratio out of reach is refused before any work
                plan_of(task, method, ratio)
        parts = json.dumps(asdict(replace(job, ratios=(), methods=(), device="")))
        data = hashlib.sha256(parts.encode() + repr((self.train, self.valid, self.pairs, self.vocabulary.annotations)).encode())
        data.update(self.teacher.model.get_input_embeddings().weight.detach().float().cpu().numpy().tobytes())
        self.phase = Phases(self.out, data.hexdigest(), resume, self.say, processes()[0] == 0)

    @property
    def dimension(self):
        """D."""
        return self.teacher.model.get_input_embeddings().embedding_dim

    def _read(self):
        """Text as ids, counts, and what is known of the tokens."""
        job, start = self.job, time.perf_counter()
        counts = self._read_pairs() if job.task == "translation" else self._read_text()
        self.vocabulary = build_vocabulary(self.teacher.names, load_lexicon(job.lexicon), counts, seed=job.seed)
        self.say(f"{job.model}: {self.teacher.rows:,} x {self.dimension}; {counts.sum():,} tokens of text "
                 f"({time.perf_counter() - start:.0f} s)")

    def _count(self, ids):
        """Counts (V,) of ids in sequences of them."""
        return np.bincount(np.concatenate(ids).astype(int), minlength=self.teacher.rows)

    def _read_pairs(self):
        """Sentences and their translations; counts of the tokens of both."""
        pairs = sentences_of(self.job.parallel)
        ids = self.teacher.encode_pairs(pairs)
        self.train, self.valid, self.pairs = [one for i, one in enumerate(ids) if i % VALID], [], pairs[::VALID]
        check_at_least("parallel: number of pairs", len(pairs), 2)
        return self._count([side for one in ids for side in one])

    def _read_text(self):
        """Text as ids, and their counts."""
        job = self.job
        self.pairs = read_sentence_pairs(job.sts) if job.sts else None
        lines = [line.strip() for line in read_lines(job.corpus) if line.strip()]
        if not lines:
            raise DataError(f"{job.corpus}: expected text, got none")
        if job.task == "encoder":
            lines = [part for line in lines for part in re.split(r"(?<=[.;!?])\s+", line)]  # sentences
        ids = self.teacher.encode(lines, special=job.task == "encoder")
        if job.task == "encoder":
            self.train, self.valid = [one for one in ids if len(one) >= FEWEST], []
        else:
            self.train = check_window(job.corpus, [word for i, one in enumerate(ids) if i % VALID for word in one], job.context)
            self.valid = check_window(job.corpus, [number for one in ids[::VALID] for number in one], job.context)
        return self._count(ids)

    def batches(self, steps, seed):
        """Batches of finetuning; the same for every student."""
        job = self.job
        if job.task == "encoder":
            chances, special = swap_chances(self.vocabulary), self.teacher.tokenizer.all_special_ids
            return span_batches(self.train, job.batch, steps, seed, chances, special)
        if job.task == "translation":
            end = self.teacher.tokenizer.eos_token_id
            return pair_batches(self.train, job.batch, steps, seed, self.teacher.pad, self.teacher.begin, end)
        ids = np.array(self.train)
        if job.task == "lm":
            return language_batches(ids, job.context, job.batch, steps, seed)
        return masked(self.teacher, ids, job.batch, steps, seed)

    def row(self, model, method, ratio, stage, seconds, done=None):
        """One row of the report."""
        V, D = self.teacher.rows, self.dimension
        return {"method": method, "ratio": ratio, "stage": stage, "metric": METRICS[self.job.task],
                "value": score(model, self.valid, self.pairs), "rare_value": None,
                "embedding_floats": done.floats if done else V * D,
                "embedding_bytes": done.bytes if done else 4 * V * D,
                "model_floats": sum(p.numel() for p in model.parameters()), "seconds": seconds}

    def student(self, method, ratio):
        """Compress, stage 1, stage 2; three rows, and a folder."""
        job, start, student = self.job, time.perf_counter(), self.teacher.student()
        task = self.teacher.task
        done, = compress(student, self.vocabulary, ratio, task.embeddings[0], method, job.policy, job.order, job.sweeps, job.seed)
        rows = [self.row(student, method, ratio, "fit", time.perf_counter() - start, done)]
        result = stage1(student, self.teacher, self.batches(job.stage1_steps, job.seed), job.stage1_steps, job.leaf_rate,
                        task=task, loop=self.loop)
        rows.append(self.row(student, method, ratio, "stage1", result["seconds"], done) | result)
        result = stage2(student, self.teacher, self.batches(job.stage2_steps, job.seed + 1), job.stage2_steps, job.rate,
                        leaves=job.leaf_rate / job.rate, task=task, loop=self.loop)
        rows.append(self.row(student, method, ratio, "stage2", result["seconds"], done) | result)
        if processes()[0] == 0:
            save_compressed(student, self.out / f"{method}_{ratio:g}x")
        values = ", ".join(f"{r['stage']} {r['value']:.3f}" for r in rows)
        self.say(f"{method} at {ratio:g}x: {METRICS[job.task]} after {values} ({time.perf_counter() - start:.0f} s)")
        return rows


def check_window(path, ids, context):
    """Return the ids of a text if they fill a window and one more.

    Raises
    ------
    DataError

    Examples
    --------
    >>> check_window("a.txt", [5, 7], 1)
    [5, 7]
    """
    if len(ids) <= context:
        raise DataError(f"{path}: expected more than {context} tokens, a window, in each part, got {len(ids)}")
    return ids


def sentences_of(paths):
    """Pairs (source, target) of sentences from two files with a line each."""
    return [(" ".join(source), " ".join(target)) for source, target in read_parallel(*paths)]


def masked(model, ids, size, steps, seed):
    """Batches of masked words for a Pretrained."""
    tokenizer = model.tokenizer
    return masked_batches(ids, model.context, size, steps, seed, tokenizer.mask_token_id, model.rows, tokenizer.all_special_ids)


def score(model, ids, pairs):
    """The metric of a Pretrained's task, on the ids of a text (lm, mlm) or on pairs of sentences (encoder, translation).

    Raises
    ------
    DataError
        If STS is not defined for the pairs.
    """
    if model.kind == "translation":
        return model.bleu(pairs)
    if model.kind == "encoder":
        value = model.sts(pairs)
        if value is None:
            raise DataError(f"sts: expected at least 3 pairs whose scores and cosines differ, got {len(pairs)} pairs")
        return value
    ids = np.array(ids)
    if model.kind == "lm":
        return perplexity(model, ids, context=model.context, rare_from=model.rows)[0]
    return masked_accuracy(model, masked(model, ids, 32, 20, seed=0))


def check_given(task, corpus, sts, parallel, training=False):
    """Refuse a task without the files that it is trained on or measured by.

    Raises
    ------
    DataError
    """
    given = {"corpus": corpus, "sts": sts, "parallel": parallel}
    needed = {"encoder": ("corpus", "sts") if training else ("sts",), "translation": ("parallel",)}.get(task, ("corpus",))
    for name in needed:
        if given[name] is None:
            raise DataError(f"{name}: expected --{name} {FLAGS[name]}, got none")


@device_memory()
def measure(path, task="encoder", corpus=None, sts=None, parallel=None, context=64, device="auto"):
    """The metric of a model in a folder: {"task", "metric", "value", "parameters"}.

    Raises
    ------
    DataError
        If the folder, the text or the pairs cannot be used.
    """
    check_given(task, corpus, sts, parallel)
    pairs = sentences_of(parallel) if task == "translation" else read_sentence_pairs(sts) if task == "encoder" else None
    lines = [] if pairs else [line.strip() for line in read_lines(corpus) if line.strip()]
    model = load_pretrained(path, task, context, pick_device(device))
    ids = [] if pairs else check_window(corpus, [number for line in model.encode(lines) for number in line], context)
    return {"task": task, "metric": METRICS[task], "value": score(model, ids, pairs),
            "parameters": sum(p.numel() for p in model.parameters())}


@device_memory()
def run_pretrained(job, out, resume=False, say=print):
    """Run all phases and return the report.

    Raises
    ------
    DataError
        For input that cannot be used, before anything is trained.
    """
    for name in ("stage1_steps", "stage2_steps", "batch", "context", "sweeps"):
        check_at_least(name.replace("_", "-"), getattr(job, name), 1)
    check_at_least("seed", job.seed, 0)
    for name in ("rate", "leaf_rate"):
        if not 0 < getattr(job, name) < float("inf"):
            raise DataError(f"{name.replace('_', '-')}: expected a number above 0, got {getattr(job, name):g}")
    if job.task not in METRICS:
        raise DataError(f"task: expected one of {', '.join(METRICS)} with a PATH, got {job.task!r}")
    check_encodings(job.methods, job.policy)
    check_given(job.task, job.corpus, job.sts, job.parallel, training=True)
    check_writable(out)
    start = time.perf_counter()
    run = PretrainedRun(job, out, resume, say)
    rows = run.phase("dense", lambda: [run.row(run.teacher, "dense", 1, "teacher", 0.0)])
    run.say(f"dense: {METRICS[job.task]} {rows[0]['value']:.3f}")
    for ratio in job.ratios:
        for method in job.methods:
            rows = rows + run.phase(f"{method}-{ratio:g}", run.student, method, ratio)
    task = asdict(job) | {"ratios": list(job.ratios), "methods": list(job.methods)}
    others = [method for method in job.methods if method not in ("see", "svd", "hashed", "shuffled")]
    return {"task": task, "environment": environment(), "others": others, "rows": rows, "seconds": time.perf_counter() - start}
