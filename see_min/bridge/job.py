"""The jobs: which tasks there are, and the run of one of them. Here the two on plain text: next words, and masked words.

At each ratio five students of the main job start from the same teacher, keep the same number of floats and see the same
batches: `see` (the default form, with knowledge), `see-paper` (a sum of products alone), `svd` (weighted low-rank factors), and
two controls of `see`, `hashed` (no knowledge) and `shuffled` (the knowledge of other words).
"""

import time
from dataclasses import asdict, dataclass, fields

import numpy as np

from see_min.bridge.finetune import masked_accuracy, perplexity
from see_min.bridge.measure import MASK, masked
from see_min.bridge.models import BERTConfig, GPTConfig, TinyBERT, TinyGPT
from see_min.bridge.study import Settings, Study
from see_min.bridge.translation import QUICK as QUICK_TRANSLATION
from see_min.bridge.translation import TranslationJob, TranslationStudy
from see_min.checks import DataError, check_at_least
from see_min.corpus import PACKAGES, build_corpus, default_documents, file_documents
from see_min.results import METHODS, environment
from see_min.sequences import language_batches
from see_min.units import check_policy

STUDENTS = ("see", "see-paper", "svd", "hashed", "shuffled")
QUICK = {"vocabulary": 1500, "dimension": 96, "context": 32, "heads": 2, "teacher_steps": 300,
         "stage1_steps": 5, "stage2_steps": 25, "sweeps": 10, "windows": 64}
QUICK_PACKAGES = ("numpy", "matplotlib")


@dataclass(frozen=True)
class Job(Settings):
    """The main job, and with task "mlm" the one on masked words."""

    corpus: str | None = None


class LanguageStudy(Study):
    """A small GPT that predicts the next word."""

    metric, methods, special = "perplexity", STUDENTS, ()

    @staticmethod
    def check(job):
        GPTConfig(job.vocabulary, job.dimension, job.blocks, job.heads, job.context)

    def read(self):
        """Corpus, lexicon and morphemes; special words of the task go before all others."""
        job, start = self.job, time.perf_counter()
        self.say(f"reading {job.corpus or 'the docstrings of installed packages'}, counting words, splitting them into morphemes")
        lexicon = self.lexicon(job.lexicon)
        documents = file_documents(job.corpus) if job.corpus else default_documents(QUICK_PACKAGES if job.quick else PACKAGES)
        corpus = build_corpus(documents, job.vocabulary, job.seed, least_words=job.context * 4 + 1)
        self.train, self.valid = (ids + len(self.special) for ids in (corpus.train, corpus.valid))
        self.say(f"corpus: {len(self.train):,} training and {len(self.valid):,} validation tokens, {len(corpus.words):,} words; "
                 "the lexicon covers {:.0%} of words, {:.0%} of tokens ".format(*lexicon.coverage(corpus.words, corpus.counts))
                 + f"({time.perf_counter() - start:.0f} s)")
        counts = np.concatenate([np.full(len(self.special), corpus.counts.max()), corpus.counts])  # (V,)
        known = self.annotated("token_embedding", [*self.special, *corpus.words], counts, lexicon)
        return [known], self.train.tobytes() + self.valid.tobytes()

    def model(self):
        job = self.job
        return TinyGPT(GPTConfig(len(self.words), job.dimension, job.blocks, job.heads, job.context))

    def batches(self, steps, seed):
        return language_batches(self.train, self.job.context, self.job.batch, steps, seed)

    def score(self, model):
        return perplexity(model, self.valid, self.job.windows)

    def facts(self):
        return {"train_tokens": len(self.train), "valid_tokens": len(self.valid), "vocabulary": len(self.words),
                "knowledge_units": self.embeddings[0].known}


class MaskedStudy(LanguageStudy):
    """A small BERT that predicts masked words."""

    metric, special = "masked accuracy", (MASK,)

    def model(self):
        job = self.job
        return TinyBERT(BERTConfig(len(self.words), job.dimension, job.blocks, job.heads, job.context, pad=-1))  # none in windows

    def batches(self, steps, seed):
        return masked(self.train, self.words, self.job.context, self.job.batch, steps, seed)

    def score(self, model):
        job, steps = self.job, -(-self.job.windows // self.job.batch)
        return masked_accuracy(model, masked(self.valid, self.words, job.context, job.batch, steps, seed=0)), None


# what a task is run by: its settings, their quick form, its study
TASKS = {"lm": (Job, QUICK, LanguageStudy), "mlm": (Job, QUICK, MaskedStudy),
         "translation": (TranslationJob, QUICK_TRANSLATION, TranslationStudy)}


def settings(task="lm", quick=False, **given):
    """The settings of a job, from what was given.

    Raises
    ------
    DataError
        If there is no such task, or it does not take what was given.

    Examples
    --------
    >>> settings("mlm", quick=True).teacher_steps
    300
    """
    if task not in TASKS:
        raise DataError(f"task: expected one of {', '.join(TASKS)} without a PATH, got {task!r}")
    kind, small, _ = TASKS[task]
    for name in given:
        if name not in {field.name for field in fields(kind)}:
            owners = [other for other, (settings, *_) in TASKS.items() if name in {field.name for field in fields(settings)}]
            raise DataError(f"{name.replace('_', '-')}: expected --task {' or '.join(owners)} with it, got {task}")
    return kind(**((small if quick else {}) | given | {"task": task, "quick": quick}))


def run_job(job, out, resume=False, say=print):
    """Run all phases and return the report (`see_min.report` shows it).

    Raises
    ------
    DataError
        For input that cannot be used, before anything is trained.
    """
    for field in fields(job):
        if field.type is int and field.name != "seed":
            check_at_least(field.name, getattr(job, field.name), 1)
    for name in (job.policy, job.paper_policy, *job.also):
        check_policy(name)
    if not 0 <= job.seed < 2**63:
        raise DataError(f"seed: expected 0 to 2^63 - 1, got {job.seed}")
    study = TASKS[job.task][2]
    study.check(job)
    start = time.perf_counter()
    run = study(job, out, resume, say)
    rows = run.train_teacher()
    for ratio in job.ratios:
        for method in run.students:
            rows += run.phase(f"{method}-{ratio:g}", run.compress, method, ratio)
    others = [method for method in run.students if method not in METHODS]
    return {"task": asdict(job) | run.facts() | {"ratios": list(job.ratios)}, "environment": environment(), "others": others,
            "rows": rows, "seconds": time.perf_counter() - start}
