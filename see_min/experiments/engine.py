"""One engine for every experiment: a dense teacher, students of equal size, resumable phases.

    teacher --measure--> row
    for each ratio and method:
        copy of the teacher --fit--> row --stage 1--> row --stage 2--> row; the student is saved

A `Subject` says only what is its own: model, words, batches, measure. All students see the same
batches. A phase is a file, written whole or not at all; a stopped run goes on after the last one.
"""

import copy
import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tqdm import tqdm

from see_min.bridge.finetune import LANGUAGE, stage1, stage2
from see_min.bridge.model import compress, device_memory
from see_min.errors import InputError, check_at_least
from see_min.experiments.reports import environment, format_value
from see_min.files import check_writable, write_atomic
from see_min.fitting import frequency_weights, relative_error
from see_min.related.registry import EMBEDDINGS, check_methods, plan_method
from see_min.toy.training import TrainConfig, join_processes, pick_device, processes

# not in a fingerprint: what changes no other phase, and files, whose contents are in it
UNCOUNTED = ("ratios", "methods", "device", "lexicon", "corpus", "parallel", "valid_parallel",
             "source_lexicon", "model", "sts", "teacher")


@dataclass(frozen=True)
class Settings:
    """What every experiment does."""

    task: str = "lm"
    lexicon: str = "sample"
    methods: tuple = ("see",)
    ratios: tuple = (10, 40)
    order: int | None = None
    sweeps: int = 10
    corpus: str | None = None
    parallel: tuple | None = None
    block_size: int = 64
    batch_size: int = 16
    stage1_steps: int = 15
    stage2_steps: int = 85
    stage1_lr: float = 2e-3
    lr: float = 1e-3  # of stage 2
    embedding_lr_scale: float = 2.0  # of the embedding in stage 2, times lr
    accumulate: int = 1
    bf16: bool = False
    seed: int = 0
    device: str = "auto"

    def __post_init__(self):
        for field in fields(self):
            name, value = field.name.replace("_", "-"), getattr(self, field.name)
            if field.type is int and name != "seed":
                check_at_least(name, value, 1)
            if field.type is float and name != "dropout" and not 0 < value < math.inf:
                raise InputError(f"{name}: expected a number above 0, got {value:g}")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed: expected 0 to 2^63 - 1, got {self.seed}")
        encodings = {method.name: method.encoding for method in EMBEDDINGS}
        for method in check_methods(self.methods):
            if not encodings.get(method, True):
                rule = "one whose result is an encoding"
                raise InputError(f"method: expected {rule}, got {method!r}")


class Subject:
    """What an experiment compresses; subclasses fill in what raises NotImplementedError.

    `read` sets `vocabularies`, {name of an embedding: Vocabulary}, and `data`, the bytes that a
    fingerprint covers besides the settings; `dimension` is D.
    """

    metric = "perplexity"
    task = LANGUAGE  # what the stages have to know of the model
    extra_training = True  # whether the dense model is also trained on for as long as the students
    dense_options = {}  # arguments of stage 2 that differ where the dense model is trained on

    def __init__(self, settings, device, log=print):
        self.settings, self.device, self.log = settings, device, log

    def read(self, out):
        """Read data and words; `out` is a folder that keeps what takes long."""
        raise NotImplementedError

    def teacher(self, path, resumed):
        """(dense model, seconds of training); a model trained here is kept in `path`."""
        raise NotImplementedError

    def batches(self, steps, seed):
        """Batches of training."""
        raise NotImplementedError

    def score(self, model):
        """(value of the metric, the same for rare words or None)."""
        raise NotImplementedError

    def save(self, model, out, name, row):
        """Keep a student whose last row is `row`."""
        raise NotImplementedError

    def facts(self):
        """What the report says of the data."""
        return {"vocabulary": [len(words) for words in self.vocabularies.values()]}


class Experiment:
    """One run in a folder: `Experiment(settings, subject, out).run()` is the report.

    Raises
    ------
    InputError
        For input that cannot be used, a ratio that a method cannot reach among it, before any work.
    """

    def __init__(self, settings, subject, out, resume=False, log=print):
        self.settings, self.subject, self.out = settings, subject, check_writable(out)
        self.first, self.log = processes()[0] == 0, log  # the first process alone writes
        subject.read(self.out / "phases")
        for ratio in settings.ratios:
            for method in settings.methods:
                for words in subject.vocabularies.values():
                    shape = len(words), subject.dimension
                    plan_method(shape, words, method, ratio, order=settings.order)
        fingerprint = _fingerprint(settings, subject)
        self.phase = Phases(self.out, fingerprint, resume, self.log, self.first)
        self.config = TrainConfig(settings.accumulate, settings.bf16)
        self.model = None  # the teacher

    def run(self):
        """All phases; their rows, and what a reader needs to repeat them."""
        start, settings = time.perf_counter(), self.settings
        path = self.out / "phases" / "teacher.pt"
        rows = self.phase("dense", self._dense, path)
        if self.model is None:
            self.model, _ = self.subject.teacher(path, resumed=True)
        self.log(f"dense: {self.subject.metric} {self._show(rows[0])} ({rows[0]['seconds']:.0f} s)")
        self.batches = list(self.subject.batches(self._steps, settings.seed + 1))
        if self.subject.extra_training:
            rows += self.phase("dense-extra", self._train_on)
            self.log(f"dense, same extra training: {self.subject.metric} {self._show(rows[-1])}")
        for ratio in settings.ratios:
            for method in settings.methods:
                rows += self.phase(f"{method}-{ratio:g}", self._student, method, ratio)
        told = {key: value for key, value in asdict(settings).items() if value not in (None, False)}
        return {"task": told | self.subject.facts(), "environment": environment(), "rows": rows,
                "seconds": time.perf_counter() - start}

    @property
    def _steps(self):
        return self.settings.stage1_steps + self.settings.stage2_steps

    def _dense(self, path):
        self.model, seconds = self.subject.teacher(path, resumed=False)
        return [self._row(self.model, "dense", 1, "teacher", seconds)]

    def _train_on(self):
        model = copy.deepcopy(self.model)
        options = self._rates | self.subject.dense_options
        result = stage2(model, self.model, self.batches, self._steps, task=self.subject.task,
                        config=self.config, label="dense", **options)
        return [self._row(model, "dense", 1, "stage2", result["seconds"])]

    @property
    def _rates(self):
        return {"lr": self.settings.lr, "embedding_lr_scale": self.settings.embedding_lr_scale}

    def _student(self, method, ratio):
        """Fit, stage 1, stage 2: three rows."""
        settings, start, first = self.settings, time.perf_counter(), self.settings.stage1_steps
        student = copy.deepcopy(self.model)
        done, error = self._compress(student, method, ratio)
        seconds = time.perf_counter() - start
        rows = [self._row(student, method, ratio, "fit", seconds, done) | {"weighted_error": error}]
        common = {"task": self.subject.task, "config": self.config}
        lr = settings.stage1_lr
        result = stage1(student, self.model, self.batches[:first], first, lr, **common)
        rows.append(self._row(student, method, ratio, "stage1", 0, done) | result)
        result = stage2(student, self.model, self.batches[first:], settings.stage2_steps,
                        **common, **self._rates)
        rows.append(self._row(student, method, ratio, "stage2", 0, done) | result)
        if self.first:
            self.subject.save(student, self.out, f"{method}_{ratio:g}x", rows[-1])
        values = ", ".join(f"{row['stage']} {self._show(row)}" for row in rows)
        seconds = time.perf_counter() - start
        self.log(f"{method} at {ratio:g}x: {self.subject.metric} after {values} ({seconds:.0f} s)")
        return rows

    def _compress(self, student, method, ratio):
        """([Compressed of each embedding], mean relative error weighted by frequency)."""
        settings, done, errors = self.settings, [], []
        for name, words in self.subject.vocabularies.items():
            options = {"sweeps": settings.sweeps, "seed": settings.seed, "order": settings.order}
            with tqdm(total=settings.sweeps, desc=method, disable=None, leave=False) as bar:
                options["progress"] = lambda sweep, error, bar=bar: bar.update()
                done += compress(student, words, ratio, name=name, method=method, **options)
            E0 = self.model.get_submodule(name).weight.detach().cpu().double().numpy()  # (V, D)
            encoding = student.get_submodule(name).to_encoding()
            errors.append(relative_error(E0, encoding, frequency_weights(words.counts)))
        return done, sum(errors) / len(errors)

    def _show(self, row):
        return format_value(row["value"], self.subject.metric)

    def _row(self, model, method, ratio, stage, seconds, done=()):
        """One row of the report; parameters and bytes are those of all embeddings."""
        value, rare = self.subject.score(model)
        rows = sum(len(words) for words in self.subject.vocabularies.values())
        dense = rows * self.subject.dimension
        return {"method": method, "ratio": ratio, "stage": stage, "metric": self.subject.metric,
                "value": value, "rare_value": rare,
                "embedding_parameters": sum(one.parameters for one in done) or dense,
                "embedding_bytes": sum(one.bytes for one in done) or 4 * dense,
                "model_parameters": sum(p.numel() for p in model.parameters()), "seconds": seconds}


@device_memory()
def run_experiment(kind, settings, out, resume=False, log=print):
    """The report of a kind of Subject; under torchrun the first process alone speaks and writes."""
    device = join_processes(pick_device(settings.device))
    log = log if processes()[0] == 0 else _silent
    return Experiment(settings, kind(settings, device, log), out, resume, log).run()


def _silent(_):
    pass


def _fingerprint(settings, subject):
    """Of everything that a phase depends on but its own name."""
    own = {name: value for name, value in asdict(settings).items() if name not in UNCOUNTED}
    digest = hashlib.sha256(json.dumps(own).encode() + subject.data)
    for words in subject.vocabularies.values():
        digest.update(repr((words.names, words.annotations)).encode() + words.counts.tobytes())
    return digest.hexdigest()


class Phases:
    """The finished phases of a run in out/phases: each is worked once and kept whole or not at all.

    Phases of another fingerprint are worked again; without `resume` all are. `keep` is False in all
    processes but the first.
    """

    def __init__(self, out, fingerprint, resume=False, log=print, keep=True):
        self.folder, self.fingerprint = Path(out) / "phases", fingerprint
        self.resume, self.log, self.keep = resume, log, keep

    def __call__(self, name, work, *arguments):
        """`work(*arguments)`, a JSON value, or what an earlier run kept of it."""
        path = self.folder / f"{name}.json"
        if self.resume:
            try:
                stored = json.loads(path.read_text())
                if stored["fingerprint"] == self.fingerprint:
                    self.log(f"{name}: done before")
                    return stored["value"]
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                pass  # not finished, or damaged
        if not self.keep:
            return work(*arguments)
        path.unlink(missing_ok=True)  # or, stopped now, an older phase would vouch for a new model
        value = work(*arguments)
        write_atomic(path, json.dumps({"fingerprint": self.fingerprint, "value": value}))
        return value
