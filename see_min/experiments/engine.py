"""One engine for every experiment: a dense teacher, students at equal ratios, resumable phases.

    teacher --measure--> row
    for each ratio and method:
        copy of the teacher --fit--> row --stage 1--> row --stage 2--> row; the student is saved

A `Subject` says only what is its own: model, words, batches, measure. All students see the same
batches. A phase is a file, written whole or not at all; a stopped run goes on after the last one.
"""

import copy
import hashlib
import json
import time
from dataclasses import asdict, dataclass, fields

from tqdm import tqdm

from see_min.bridge.finetune import LANGUAGE, stage1, stage2
from see_min.bridge.metric import measure_metric
from see_min.bridge.model import compress, device_memory, round_parameters
from see_min.bridge.swap import find_embedding
from see_min.errors import InputError, check_at_least
from see_min.experiments.options import check_mix, check_seed
from see_min.experiments.reports import environment, figure, format_value, write_report
from see_min.fitting.least_squares import frequency_weights, relative_error
from see_min.recipe import MIX
from see_min.related.registry import ENCODINGS, check_methods, plan_method
from see_min.storage.files import check_writable, write_atomic
from see_min.toy.data import IGNORE
from see_min.toy.training import (
    TrainConfig,
    join_processes,
    of_the_first,
    on_device,
    pick_device,
    processes,
)
from see_min.words.formats import load_lexicon

# not in a fingerprint: what changes no other phase, and files, whose contents are in it
UNCOUNTED = ("ratios", "methods", "device", "lexicon", "corpus", "parallel", "valid_parallel",
             "source_lexicon", "model", "sts")
FILES = {"corpus": "FILE", "sts": "FILE.csv", "parallel": "SOURCE TARGET",
         "valid_parallel": "SOURCE TARGET", "source_lexicon": "NAME"}  # flags that tasks differ in
HELD_OUT = 20
MOST, MOST_ROWS = 10**6, 2**16  # of steps and rates; of what is in memory at once
METRIC_BATCHES = 16


@dataclass(frozen=True)
class Settings:
    """What every experiment does; a subclass has a property `subject`, the kind of Subject."""

    task: str = "lm"
    lexicon: str = "sample"
    methods: tuple = ("see",)
    ratios: tuple = (10, 40)
    count: str = "bytes"  # what a ratio counts: bytes of a file, or parameters
    mix: float = MIX  # share of the text's metric in the fit; 0: plain squares
    sweeps: int | None = None  # None: those of the recipe
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
                most = MOST_ROWS if name in ("batch-size", "block-size") else MOST
                if not 1 <= value <= most:
                    raise InputError(f"{name}: expected 1 to {most}, got {value}")
            if field.type is float and name != "mix" and not 0 < value <= MOST:
                raise InputError(f"{name}: expected above 0 to {MOST}, got {value:g}")
        if self.sweeps is not None:
            check_at_least("sweeps", self.sweeps, 1)
        check_mix(self.mix)
        if self.accumulate > self.batch_size:
            rule = f"at most the batch size, {self.batch_size}"
            raise InputError(f"accumulate: expected {rule}, got {self.accumulate}")
        check_seed(self.seed)
        for method in check_methods(self.methods):
            if method not in ENCODINGS:
                rule = "one whose result is an encoding"
                raise InputError(f"method: expected {rule}, got {method!r}")


def check_files(settings, needed, more=()):
    """InputError for settings without a file that a task needs, or with one that it does not read.
    """
    for name, form in FILES.items():
        given, flag = getattr(settings, name, None), name.replace("_", "-")
        if given is None and name in needed:
            raise InputError(f"{flag}: expected --{flag} {form}, got none")
        if given is not None and name not in (*needed, *more):
            raise InputError(f"{flag}: expected none with --task {settings.task}, got {given}")


class Subject:
    """What an experiment compresses.

    Subclasses say what is missing here: `dimension`, D; `batches(steps, seed)` of training;
    `score(model)`, a pair of the metric and the same for rare words or None; and

    read()                 set `vocabularies`, {name of an embedding: Vocabulary}, and `data`, the
                           bytes of a fingerprint besides the settings
    teacher(path, resumed) (dense model, seconds of training); a model trained here is kept in path
    save(model, path, row) keep a student whose last row is `row`: a folder `path`, or `path`.pt
    """

    metric = "perplexity"
    files, more = (), ()  # of FILES: those that it needs, and those that it may have besides
    task = LANGUAGE  # what the stages have to know of the model
    dense_options = {}  # of stage 2 where the dense model is trained as the students are; or None

    def __init__(self, settings, device, log=print):
        self.settings, self.device, self.log = settings, device, log
        self.lexicons = []  # entries of those that were read

    def output(self, model, batch):
        """(what an error of the rows should not change, the states that meet the head).

        Both are the last states where there is a target: the measure and the losses see no other.
        """
        state = model.hidden_states(*batch.inputs)[-1][batch.targets != IGNORE]  # (N, D)
        return state, state

    def lexicon(self, name):
        """A lexicon; what it lacks is logged."""
        lexicon = load_lexicon(name)
        if lexicon.note:
            self.log(lexicon.note)
        self.lexicons.append(lexicon.entries)
        return lexicon

    def cost(self, path=None):
        """More of a row: what the student in a path, or else the dense model, costs to use."""
        return {}

    def facts(self):
        """What the report says of the data."""
        return {"vocabulary": [len(words) for words in self.vocabularies.values()]}


def hold_out(items):
    """(training, held out): every 20th item is kept for the measure."""
    return [item for i, item in enumerate(items) if i % HELD_OUT], items[::HELD_OUT]


class Experiment:
    """One run in a folder: `Experiment(settings, subject, out).run()` is the report.

    InputError for what cannot be used, ratios that a method cannot reach among it, before any work.
    """

    def __init__(self, settings, subject, out, resume=False):
        self.settings, self.subject, self.out = settings, subject, check_writable(out)
        self.log = subject.log
        subject.read()
        for ratio in settings.ratios:
            for method in settings.methods:
                for words in subject.vocabularies.values():
                    shape = len(words), subject.dimension
                    plan_method(shape, words, method, ratio, count=settings.count)
        self.phase = Phases(self.out, _fingerprint(settings, subject), resume, self.log)
        self.config = TrainConfig(settings.accumulate, settings.bf16)
        self.model, self.metrics = None, None  # the teacher, and {embedding: its metric}

    def run(self):
        """All phases; their rows, and what a reader needs to repeat them."""
        start, settings = time.perf_counter(), self.settings
        path = self.out / "phases" / "teacher.pt"
        rows = self.phase("dense", self._dense, path)
        if self.model is None:
            self.model, _ = self.subject.teacher(path, resumed=True)
        self.log(f"dense: {self._show(rows)} ({rows[0]['seconds']:.0f} s)")
        steps = settings.stage1_steps + settings.stage2_steps
        self.batches = list(self.subject.batches(steps, settings.seed + 1))
        if self.subject.dense_options is not None:
            rows += self.phase("dense-extra", self._train_on)
            self.log(f"dense, same extra training: {self._show(rows[-1:])}")
        for ratio in settings.ratios:
            for method in settings.methods:
                rows += self.phase(f"{method}-{ratio:g}", self._student, method, ratio)
        told = {key: value for key, value in asdict(settings).items()
                if value is not None and value is not False}
        return {"task": told | self.subject.facts(), "environment": environment(), "rows": rows,
                "seconds": time.perf_counter() - start}

    def _dense(self, path):
        self.model, seconds = self.subject.teacher(path, resumed=False)
        cost = {} if processes()[0] else self.subject.cost()
        return [self._row(self.model, "dense", 1, "teacher", seconds) | cost]

    def _train_on(self):
        model = copy.deepcopy(self.model)
        result = self._stage2(model, self.batches, label="dense", **self.subject.dense_options)
        return [self._row(model, "dense", 1, "stage2", result["seconds"])]

    def _stage2(self, model, batches, **options):
        rates = {"lr": self.settings.lr, "embedding_lr_scale": self.settings.embedding_lr_scale}
        return stage2(model, self.model, batches, len(batches), task=self.subject.task,
                      config=self.config, **(rates | options))

    def _student(self, method, ratio):
        """Fit, stage 1, stage 2: three rows."""
        settings, start, steps = self.settings, time.perf_counter(), self.settings.stage1_steps
        student = copy.deepcopy(self.model)
        done, error = self._compress(student, method, ratio)
        seconds = time.perf_counter() - start
        self.log(f"{method} at {ratio:g}x: fitted, weighted error {error:.3f} ({seconds:.0f} s)")
        rows = [self._row(student, method, ratio, "fit", seconds, done) | {"weighted_error": error}]
        result = stage1(student, self.model, self.batches[:steps], steps, settings.stage1_lr,
                        task=self.subject.task, config=self.config)
        rows.append(self._row(student, method, ratio, "stage1", 0, done) | result)
        result = self._stage2(student, self.batches[steps:])
        round_parameters(student)  # what is measured is what a file holds
        rows.append(self._row(student, method, ratio, "stage2", 0, done) | result)
        if processes()[0] == 0:
            path = self.out / f"{method}_{ratio:g}x"
            self.subject.save(student, path, rows[-1])
            rows[-1] |= self.subject.cost(path)
        seconds = time.perf_counter() - start
        self.log(f"{method} at {ratio:g}x: {self._show(rows)} ({seconds:.0f} s)")
        return rows

    def _compress(self, student, method, ratio):
        """([Compressed of each embedding], mean relative error weighted by frequency)."""
        settings, done, errors = self.settings, [], []
        if self.metrics is None:
            self.metrics = {name: self._metric(name) for name in self.subject.vocabularies}
        for name, words in self.subject.vocabularies.items():
            with tqdm(desc=method, disable=None, leave=False) as bar:
                done += compress(
                    student, words, ratio, name=name, method=method, seed=settings.seed,
                    sweeps=settings.sweeps, count=settings.count, metric=self.metrics[name],
                    mix=settings.mix, weights=getattr(settings, "weights", None),
                    progress=lambda sweep, error, bar=bar: bar.update())
            E0 = self.model.get_submodule(name).weight.detach().cpu().double().numpy()  # (V, D)
            encoding = student.get_submodule(name).to_encoding()
            errors.append(relative_error(E0, encoding, frequency_weights(words.counts)))
        return done, sum(errors) / len(errors)

    def _metric(self, name):
        """What the teacher sees of an embedding's rows in the first batches; None for mix 0."""
        if self.settings.mix == 0:
            return None
        tied = find_embedding(self.model, name)
        layers = [self.model.get_submodule(key) for key in tied.shared]
        head = next(map(self.model.get_submodule, tied.heads), None)

        def output(batch):
            state, states = self.subject.output(self.model, batch)
            if head is not None:
                self.model.logits(states.detach())  # the hook of `head` sees what meets it
            return state

        batches = (on_device(batch, self.subject.device) for batch in self.batches[:METRIC_BATCHES])
        found = measure_metric(layers, output, batches, head, seed=self.settings.seed)  # (D, D)
        return of_the_first(found, self.subject.device)

    def _show(self, rows):
        metric = self.subject.metric
        values = [f"{row['stage']} {format_value(row['value'], metric)}" for row in rows]
        return f"{metric} after {', '.join(values)}"

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
def run_experiment(settings, out, resume=False, log=print):
    """The report of an experiment; under torchrun the first process alone speaks and writes."""
    kind = settings.subject
    check_files(settings, kind.files, kind.more)
    device = join_processes(pick_device(settings.device))
    first = processes()[0] == 0
    subject = kind(settings, device, log if first else lambda line: None)
    return Experiment(settings, subject, out, resume).run()


def run_command(settings, arguments, command):
    """An experiment with `--out` and `--resume`: its report is written, the table printed."""
    report = run_experiment(settings, arguments.out, arguments.resume, log)
    if processes()[0] == 0:
        write_report(report, command, arguments.out, figure=figure)
        log(f"and a model per method and ratio ({report['seconds']:.0f} s in all)")


def log(line):
    """A line on stdout at once."""
    print(line, flush=True)


def _fingerprint(settings, subject):
    """Of everything that a phase depends on but its own name."""
    own = {name: value for name, value in asdict(settings).items() if name not in UNCOUNTED}
    digest = hashlib.sha256(json.dumps(own).encode() + subject.data)
    for words in subject.vocabularies.values():
        digest.update(repr(words.names).encode() + words.counts.tobytes())
    digest.update(repr(subject.lexicons).encode())  # what is known of words follows from them
    return digest.hexdigest()


class Phases:
    """The finished phases of a run in out/phases: each is worked once and kept whole or not at all.

    Phases of another fingerprint are worked again; without `resume` all are. Of several processes
    the first alone writes.
    """

    def __init__(self, out, fingerprint, resume=False, log=print):
        self.folder, self.fingerprint = out / "phases", fingerprint
        self.resume, self.log = resume, log

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
        if processes()[0]:
            return work(*arguments)
        path.unlink(missing_ok=True)  # or, stopped now, an older phase would vouch for a new model
        value = work(*arguments)
        write_atomic(path, json.dumps({"fingerprint": self.fingerprint, "value": value}))
        return value
