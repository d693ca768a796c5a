"""The main job: train a small GPT, compress its embedding and tied head, finetune, report. Every phase can be resumed.

At each ratio five students start from the same teacher, keep the same number of floats and see the same batches:
`see` (the default form, with knowledge), `see-paper` (a sum of products alone), `svd` (weighted low-rank factors), and two
controls of `see`, `hashed` (no knowledge) and `shuffled` (the knowledge of other words).
"""

import copy
import hashlib
import json
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from tqdm import tqdm

from see_min.bridge.checkpoint import load_checkpoint, save_checkpoint
from see_min.bridge.finetune import perplexity, pretrain, stage1, stage2
from see_min.bridge.models import GPTConfig, TinyGPT
from see_min.bridge.phases import Phases
from see_min.bridge.swap import swap_embedding
from see_min.budget import low_rank, plan_policy, plan_product
from see_min.checks import DataError, check_at_least
from see_min.controls import hashed, shuffled
from see_min.corpus import PACKAGES, build_corpus, default_documents, file_documents
from see_min.files import write_atomic
from see_min.fit import carrier, fit, frequency_weights, low_rank_encoding, random_encoding, relative_error
from see_min.lexicon_files import load_lexicon
from see_min.morphemes import segment
from see_min.results import environment
from see_min.sequences import language_batches
from see_min.units import GENERAL, annotate, assign, check_policy, shared_units

STUDENTS = ("see", "see-paper", "svd", "hashed", "shuffled")


@dataclass(frozen=True)
class Job:
    """What the job does; the defaults fit five minutes on two cores. See `python -m see_min compress --help`."""

    corpus: str | None = None
    lexicon: str = "sample"
    ratios: tuple = (10, 40)
    order: int = 2
    paper_order: int = 3
    policy: str = "additive"
    paper_policy: str = "senses"
    also: tuple = ()
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


QUICK = {"vocabulary": 1500, "dimension": 96, "context": 32, "heads": 2, "teacher_steps": 300,
         "stage1_steps": 5, "stage2_steps": 25, "sweeps": 10, "windows": 64}
QUICK_PACKAGES = ("numpy", "matplotlib")


def pick_device(name):
    """torch.device for auto, cpu or cuda.

    Raises
    ------
    DataError
        If cuda is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise DataError("device: expected a machine with CUDA, got none: use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


class Run:
    """One run of a job in a directory: its data, its teacher, and the phases that are already done.

    Parameters
    ----------
    job : Job
    out : path
        Finished phases lie in out/phases; each is written whole or not at all.
    resume : bool
        Use finished phases of the same job and data.
    say : callable(str)
    """

    def __init__(self, job, out, resume=False, say=print):
        self.job, self.out, self.resume, self.say = job, Path(out), resume, say
        self.device = pick_device(job.device)
        write_atomic(self.out / "phases" / "job.json", json.dumps(asdict(job), indent=1))  # an unwritable out fails here
        self._read()
        self._plan()

    def _read(self):
        """Corpus, lexicon and morphemes, and the fingerprint of everything that a phase depends on."""
        job, start = self.job, time.perf_counter()
        self.say(f"reading {job.corpus or 'the docstrings of installed packages'}, counting words, splitting them into morphemes")
        lexicon = load_lexicon(job.lexicon)
        if lexicon.note:
            self.say(lexicon.note)
        documents = file_documents(job.corpus) if job.corpus else default_documents(QUICK_PACKAGES if job.quick else PACKAGES)
        self.corpus = build_corpus(documents, job.vocabulary, job.seed, least_words=job.context * 4 + 1)
        words = self.corpus.words
        self.annotations = annotate(words, lexicon, segment(words, job.seed, self.out / "phases" / "morphemes.json"))
        types, tokens = lexicon.coverage(words, self.corpus.counts)
        self.say(f"corpus: {len(self.corpus.train):,} training and {len(self.corpus.valid):,} validation tokens, "
                 f"{len(words):,} words; the lexicon covers {types:.0%} of words, {tokens:.0%} of tokens "
                 f"({time.perf_counter() - start:.0f} s)")
        settings = json.dumps(asdict(replace(job, corpus=None, lexicon="", ratios=(), also=(), device="")))
        data = hashlib.sha256(settings.encode())
        data.update(self.corpus.train.tobytes() + self.corpus.valid.tobytes() + repr(self.annotations).encode())
        self.fingerprint = data.hexdigest()
        self.phase = Phases(self.out, self.fingerprint, self.resume, self.say)

    def _plan(self):
        """(plan, policy) of every student, before any work: a ratio that one method cannot reach is refused."""
        job, V = self.job, len(self.corpus.words)
        self.known = len(shared_units(self.annotations))
        self.plans = {}
        for ratio in job.ratios:
            for method in self.students:
                policy = method if method in job.also else job.paper_policy if method == "see-paper" else job.policy
                size = V, job.dimension, ratio
                if method == "svd":
                    plan = low_rank(*size)
                elif method == "see-paper":
                    plan = plan_product(*size, job.paper_order, 0 if policy == "backoff" else self.known)
                else:
                    plan = plan_policy(policy, *size, self.known, job.order if policy in GENERAL else job.paper_order)
                self.plans[method, ratio] = plan, policy

    @property
    def students(self):
        """The five methods, then the further policies that were asked for."""
        return (*STUDENTS, *self.job.also)

    def train_teacher(self):
        """The dense model, then the rows of `dense`: as trained, and trained on for as long as the students."""
        path = self.out / "phases" / "teacher.pt"
        job = self.job

        def work():
            torch.manual_seed(job.seed)
            self.say(f"training the dense teacher for {job.teacher_steps} steps")
            model = TinyGPT(GPTConfig(len(self.corpus.words), job.dimension, job.blocks, job.heads, job.context)).to(self.device)
            result = pretrain(model, self._batches(job.teacher_steps, job.seed), job.teacher_steps)
            save_checkpoint(model, path, self.corpus.words)
            return [self._row(model, "dense", 1, "teacher", result["seconds"])]

        rows = self.phase("teacher", work)
        self.teacher = load_checkpoint(path, self.device)[0]
        self.matrix = self.teacher.token_embedding.weight.detach().cpu().double().numpy()  # E0 (V, D)
        self.weights = frequency_weights(self.corpus.counts)  # f (V,)
        self.fine = list(self._batches(job.stage1_steps + job.stage2_steps, job.seed + 1))  # the same for every student
        self.say(f"teacher: perplexity {rows[0]['value']:.1f} ({rows[0]['seconds']:.0f} s)")

        def train_on():
            model = copy.deepcopy(self.teacher)
            result = stage2(model, self.teacher, self.fine, len(self.fine), label="dense")
            return [self._row(model, "dense", 1, "stage2", result["seconds"])]

        rows += self.phase("dense", train_on)
        self.say(f"dense, trained on as long as the students: perplexity {rows[1]['value']:.1f}\n"
                 f"students: fit to the teacher's embedding, {job.stage1_steps} steps on embeddings and hidden states (stage 1), "
                 f"{job.stage2_steps} steps of distillation and cross entropy (stage 2)")
        return rows

    def _batches(self, steps, seed):
        return language_batches(self.corpus.train, self.job.context, self.job.batch, steps, seed)

    def encoding(self, method, ratio):
        """Build and fit what a student starts from: (encoding, relative weighted error)."""
        job, E0, f = self.job, self.matrix, self.weights
        plan, policy = self.plans[method, ratio]
        if method == "svd":
            encoding = low_rank_encoding(E0, f, plan)
        else:
            annotations = self.annotations
            if method == "shuffled":
                annotations = shuffled(annotations, job.seed)
            if method == "hashed":
                annotations = hashed(self.corpus.words, annotations, plan.knowledge)
            units = assign(self.corpus.words, annotations, plan, policy)
            P = carrier(E0, f, plan.inner) if plan.carrier else None
            bar = tqdm(total=job.sweeps, desc=f"fit {method}", disable=None, leave=False)
            encoding, _ = fit(E0, random_encoding(units, plan, job.seed, P), f, units, job.sweeps,
                              progress=lambda sweep, error: bar.update())
            bar.close()
        return encoding, relative_error(E0, encoding, f)

    def compress(self, method, ratio):
        """One student: fit, stage 1, stage 2; its three rows."""
        job, start = self.job, time.perf_counter()
        encoding, error = self.encoding(method, ratio)
        student = copy.deepcopy(self.teacher)
        swap_embedding(student, encoding, "token_embedding")
        row = lambda stage, seconds: self._row(student, method, ratio, stage, seconds, encoding)
        rows = [row("fit", time.perf_counter() - start) | {"weighted_error": error}]
        first = job.stage1_steps
        result = stage1(student, self.teacher, self.fine[:first], first)
        rows.append(row("stage1", result["seconds"]) | result)
        result = stage2(student, self.teacher, self.fine[first:], job.stage2_steps)
        rows.append(row("stage2", result["seconds"]) | result)
        if method == "see":
            save_checkpoint(student, self.out / f"see_{ratio:g}x.pt", self.corpus.words)
        values = ", ".join(f"{r['stage']} {r['value']:.1f}" for r in rows)
        self.say(f"{method} at {ratio:g}x: perplexity after {values} ({time.perf_counter() - start:.0f} s)")
        return rows

    def _row(self, model, method, ratio, stage, seconds, encoding=None):
        value, rare = perplexity(model, self.corpus.valid, self.job.windows)
        floats = model.token_embedding.weight.numel() if encoding is None else encoding.floats
        index_bytes = 0 if encoding is None else encoding.index_bytes
        return {"method": method, "ratio": ratio, "stage": stage, "metric": "perplexity", "value": value, "rare_value": rare,
                "embedding_floats": floats, "embedding_bytes": 4 * floats + index_bytes,
                "model_floats": sum(p.numel() for p in model.parameters()), "seconds": seconds}


def run_job(job, out, resume=False, say=print):
    """Run all phases and return the report (`see_min.report` shows it).

    Raises
    ------
    DataError
        For input that cannot be used, before anything is trained.
    """
    for field in fields(Job):
        if field.type is int and field.name != "seed":
            check_at_least(field.name, getattr(job, field.name), 1)
    for name in (job.policy, job.paper_policy, *job.also):
        check_policy(name)
    if not 0 <= job.seed < 2**63:
        raise DataError(f"seed: expected 0 to 2^63 - 1, got {job.seed}")
    GPTConfig(job.vocabulary, job.dimension, job.blocks, job.heads, job.context)  # refuses what does not fit together
    start = time.perf_counter()
    run = Run(job, out, resume, say)
    rows = run.train_teacher()
    for ratio in job.ratios:
        for method in run.students:
            rows += run.phase(f"{method}-{ratio:g}", run.compress, method, ratio)
    task = asdict(job) | {"train_tokens": len(run.corpus.train), "valid_tokens": len(run.corpus.valid),
                          "vocabulary": len(run.corpus.words), "knowledge_units": run.known, "ratios": list(job.ratios)}
    return {"task": task, "environment": environment(), "others": list(job.also), "rows": rows,
            "seconds": time.perf_counter() - start}
