"""What the jobs on the bridge's own models share: a dense teacher, students at equal floats, two stages, phases, rows.

A `Study` trains a teacher, compresses its embeddings by several methods at several ratios, and finetunes every student on the
same batches. Its subclasses say only what is their own: data, model, batches, score.
"""

import copy
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from see_min.bridge.checkpoint import load_checkpoint, save_checkpoint
from see_min.bridge.finetune import Task, pretrain, stage1, stage2
from see_min.bridge.phases import Phases
from see_min.bridge.swap import swap_embedding
from see_min.bridge.training import pick_device
from see_min.budget import low_rank, plan_policy, plan_product
from see_min.checks import DataError
from see_min.controls import hashed, shuffled
from see_min.files import write_atomic
from see_min.fit import carrier, fit, frequency_weights, low_rank_encoding, random_encoding, relative_error
from see_min.lexicon_files import load_lexicon
from see_min.metrics import DECIMALS
from see_min.morphemes import segment
from see_min.units import GENERAL, POLICIES, annotate, assign, shared_units

# of a fingerprint: files, whose content is in it, and what changes no other phase
UNCOUNTED = ("corpus", "parallel", "valid_parallel", "lexicon", "source_lexicon", "teacher", "ratios", "also", "device")


@dataclass(frozen=True)
class Settings:
    """What every job does; the defaults fit five minutes on two cores. See `python -m see_min compress --help`."""

    task: str = "lm"
    lexicon: str = "sample"
    ratios: tuple = (10, 40)
    order: int = 2
    paper_order: int = 3
    policy: str = "additive"
    paper_policy: str = "senses"
    also: tuple = ()
    teacher: str | None = None
    vocabulary: int = 4000
    dimension: int = 192
    blocks: int = 2
    heads: int = 4
    context: int = 64
    batch: int = 16
    teacher_steps: int = 700
    stage1_steps: int = 15
    stage2_steps: int = 85
    sweeps: int = 20
    windows: int = 320
    seed: int = 0
    device: str = "auto"
    quick: bool = False


@dataclass(frozen=True)
class Words:
    """An embedding: its dotted name, and the words of its rows, special ones and then by falling count, with what is known."""

    name: str
    words: list
    counts: np.ndarray  # (V,)
    annotations: list

    @cached_property
    def known(self):
        """How many knowledge units the words share."""
        return len(shared_units(self.annotations))


class Study:
    """One run of a job in a directory: its data, its teacher, and the phases that are already done.

    Parameters
    ----------
    job : Settings
    out : path
        Finished phases lie in out/phases; each is written whole or not at all.
    resume : bool
        Use finished phases of the same job and data.
    say : callable(str)
    """

    metric = None  # of see_min.metrics
    methods = ()  # that run when nothing is said
    task = Task()  # what the stages have to know of the model
    of_teacher, of_stage1, of_stage2 = {}, {}, {}  # further arguments of pretrain, stage1 and stage2
    of_dense = {}  # those of stage2 that are others where the dense model is trained on

    def __init__(self, job, out, resume=False, say=print):
        self.job, self.out, self.say = job, Path(out), say
        self.device = pick_device(job.device)
        write_atomic(self.out / "phases" / "job.json", json.dumps(asdict(job), indent=1))  # an unwritable out fails here
        self.embeddings, text = self.read()
        self._check_teacher()
        settings = json.dumps({name: value for name, value in asdict(job).items() if name not in UNCOUNTED})
        data = hashlib.sha256(settings.encode() + text + repr([one.annotations for one in self.embeddings]).encode())
        data.update(Path(job.teacher).read_bytes() if job.teacher else b"")
        self.phase = Phases(self.out, data.hexdigest(), resume, self.say)
        self._plan()

    @property
    def students(self):
        """The methods of the task, then the further policies that were asked for."""
        return tuple(dict.fromkeys((*self.methods, *self.job.also)))

    @property
    def words(self):
        """What a checkpoint keeps beside the model: the words of its only embedding, or those of each."""
        return self.embeddings[0].words

    # ------------------------------------------------------------------ what a task says

    @staticmethod
    def check(job):
        """Refuse settings that do not fit together and packages that are missing, before anything is read."""
        raise NotImplementedError

    def read(self):
        """(list of Words, one an embedding that is compressed; bytes of all ids, which the fingerprint covers)."""
        raise NotImplementedError

    def model(self):
        """A new dense model."""
        raise NotImplementedError

    def batches(self, steps, seed):
        """Batches of training."""
        raise NotImplementedError

    def score(self, model):
        """(value of the metric, the same for rare words or None)."""
        raise NotImplementedError

    def facts(self):
        """What the report says of the data."""
        raise NotImplementedError

    # ------------------------------------------------------------------ what all tasks share

    def lexicon(self, name):
        """Read a lexicon, and say what it lacks."""
        lexicon = load_lexicon(name)
        if lexicon.note:
            self.say(lexicon.note)
        return lexicon

    def annotated(self, name, words, counts, lexicon, cache="morphemes"):
        """Words of an embedding with their senses and morphemes."""
        pieces = segment(words, self.job.seed, self.out / "phases" / f"{cache}.json")
        return Words(name, words, counts, annotate(words, lexicon, pieces))

    def _plan(self):
        """(policy, a plan for each embedding) of every student, before any work: a ratio that one cannot reach is refused."""
        job = self.job
        self.plans = {}
        for ratio in job.ratios:
            for method in self.students:
                policy = method if method in POLICIES else job.paper_policy if method == "see-paper" else job.policy
                plans = [self._plan_one(method, policy, ratio, one) for one in self.embeddings]
                self.plans[method, ratio] = policy, plans

    def _plan_one(self, method, policy, ratio, embedding):
        job, known = self.job, embedding.known
        size = len(embedding.words), job.dimension, ratio
        if method == "svd":
            return low_rank(*size)
        if method == "see-paper":
            return plan_product(*size, job.paper_order, 0 if policy == "backoff" else known)
        return plan_policy(policy, *size, known, job.order if policy in GENERAL else job.paper_order)

    def _check_teacher(self):
        """Refuse a teacher of another model or of other words."""
        if self.job.teacher is None:
            return
        model, words = load_checkpoint(self.job.teacher)
        fresh = self.model()
        if type(model) is not type(fresh) or model.config != fresh.config or words != self.words:
            raise DataError(f"teacher: expected a model of this job's sizes and words, got another in {self.job.teacher}")

    def _teacher(self, path):
        """Train the dense model, or take the one that was named; its row."""
        job, seconds = self.job, 0.0
        if job.teacher:
            model = load_checkpoint(job.teacher, self.device)[0]
        else:
            torch.manual_seed(job.seed)
            self.say(f"training the dense teacher for {job.teacher_steps} steps")
            model = self.model().to(self.device)
            batches = self.batches(job.teacher_steps, job.seed)
            seconds = pretrain(model, batches, job.teacher_steps, task=self.task, **self.of_teacher)["seconds"]
        save_checkpoint(model, path, self.words)
        return [self.row(model, "dense", 1, "teacher", seconds)]

    def train_teacher(self):
        """The dense model, then the rows of `dense`: as trained, and trained on for as long as the students."""
        path, job = self.out / "phases" / "teacher.pt", self.job
        rows = self.phase("teacher", self._teacher, path)
        self.teacher = load_checkpoint(path, self.device)[0]
        weights = [self.teacher.get_submodule(one.name).weight for one in self.embeddings]
        self.matrices = [weight.detach().cpu().double().numpy() for weight in weights]  # E0 (V, D) each
        self.fine = list(self.batches(job.stage1_steps + job.stage2_steps, job.seed + 1))  # the same for every student
        self.say(f"teacher: {self.metric} {self.show(rows[0])} ({rows[0]['seconds']:.0f} s)")

        def train_on():
            model = copy.deepcopy(self.teacher)
            result = stage2(model, self.teacher, self.fine, len(self.fine), task=self.task, label="dense",
                            **(self.of_stage2 | self.of_dense))
            return [self.row(model, "dense", 1, "stage2", result["seconds"])]

        rows += self.phase("dense", train_on)
        self.say(f"dense, trained on as long as the students: {self.metric} {self.show(rows[1])}\n"
                 f"students: fit to the teacher's embedding, {job.stage1_steps} steps on embeddings and hidden states (stage 1), "
                 f"{job.stage2_steps} steps of distillation and cross entropy (stage 2)")
        return rows

    def encoding(self, method, policy, plan, embedding, E0):
        """Build and fit what a student starts from: (encoding, relative weighted error) of one embedding."""
        job, f = self.job, frequency_weights(embedding.counts)  # f (V,)
        if method == "svd":
            encoding = low_rank_encoding(E0, f, plan)
        else:
            annotations = embedding.annotations
            if method == "shuffled":
                annotations = shuffled(annotations, job.seed)
            if method == "hashed":
                annotations = hashed(embedding.words, annotations, plan.knowledge)
            units = assign(embedding.words, annotations, plan, policy)
            P = carrier(E0, f, plan.inner) if plan.carrier else None
            bar = tqdm(total=job.sweeps, desc=f"fit {method}", disable=None, leave=False)
            encoding, _ = fit(E0, random_encoding(units, plan, job.seed, P), f, units, job.sweeps,
                              progress=lambda sweep, error: bar.update())
            bar.close()
        return encoding, relative_error(E0, encoding, f)

    def compress(self, method, ratio):
        """One student: fit, stage 1, stage 2; its three rows."""
        job, start, student = self.job, time.perf_counter(), copy.deepcopy(self.teacher)
        policy, plans = self.plans[method, ratio]
        fitted = [self.encoding(method, policy, *parts) for parts in zip(plans, self.embeddings, self.matrices)]
        encodings, errors = zip(*fitted)
        for encoding, embedding in zip(encodings, self.embeddings):
            swap_embedding(student, encoding, embedding.name)
        row = lambda stage, seconds: self.row(student, method, ratio, stage, seconds, encodings)
        rows = [row("fit", time.perf_counter() - start) | {"weighted_error": sum(errors) / len(errors)}]
        first = job.stage1_steps
        result = stage1(student, self.teacher, self.fine[:first], first, task=self.task, **self.of_stage1)
        rows.append(row("stage1", result["seconds"]) | result)
        result = stage2(student, self.teacher, self.fine[first:], job.stage2_steps, task=self.task, **self.of_stage2)
        rows.append(row("stage2", result["seconds"]) | result)
        if method == "see":
            save_checkpoint(student, self.out / f"see_{ratio:g}x.pt", self.words)
        values = ", ".join(f"{r['stage']} {self.show(r)}" for r in rows)
        self.say(f"{method} at {ratio:g}x: {self.metric} after {values} ({time.perf_counter() - start:.0f} s)")
        return rows

    def show(self, row):
        """The value of a row as text."""
        return f"{row['value']:.{DECIMALS.get(self.metric, 1)}f}"

    def row(self, model, method, ratio, stage, seconds, encodings=()):
        """One row of the report; an embedding of several languages or heads is counted once."""
        value, rare = self.score(model)
        dense = sum(len(one.words) for one in self.embeddings) * self.job.dimension
        floats = sum(encoding.floats for encoding in encodings) if encodings else dense
        index_bytes = sum(encoding.index_bytes for encoding in encodings)
        return {"method": method, "ratio": ratio, "stage": stage, "metric": self.metric, "value": value, "rare_value": rare,
                "embedding_floats": floats, "embedding_bytes": 4 * floats + index_bytes,
                "model_floats": sum(p.numel() for p in model.parameters()), "seconds": seconds}
