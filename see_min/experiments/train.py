"""`train`: a toy GPT, BERT or translator is trained, compressed by several methods, and finetuned.

At each ratio the students start from the same teacher, take the same number of bytes and see the
same batches: `see`, the opponents `opq` and `svd-int8`, and `see-derived`, whose knowledge costs no
bytes, beside its control `shuffled`, the knowledge of other words.
"""

from dataclasses import dataclass

import numpy as np
import torch

from see_min.bridge.finetune import EmbeddingTask
from see_min.errors import InputError, check_at_least, require
from see_min.experiments import measure
from see_min.experiments.checkpoint import load_checkpoint, save_checkpoint
from see_min.experiments.engine import Settings, Subject, hold_out, run_command
from see_min.experiments.options import add_run_arguments, given_settings
from see_min.experiments.sources import coverage_line
from see_min.toy import data, documents, models
from see_min.toy.training import TrainConfig, pretrain, processes
from see_min.words.alignment import inherited, translation_table
from see_min.words.vocabulary import build_vocabulary

MASK = "<mask>"
PAD, BEGIN, END = 0, 1, 2  # the first words of each language
ALIGNED = "aligned"  # as the source's lexicon: the senses of a word's translations
QUICK_PACKAGES = ("numpy", "matplotlib")
METHODS = ("see", "see-derived", "shuffled", "opq", "svd-int8")


@dataclass(frozen=True)
class TrainSettings(Settings):
    """The defaults fit five minutes on two cores."""

    methods: tuple = METHODS
    vocab_size: int = 4000
    n_embd: int = 192
    n_layer: int = 2
    n_head: int = 4
    teacher_steps: int = 700
    max_windows: int = 320
    quick: bool = False
    valid_parallel: tuple | None = None  # of a translation
    source_lexicon: str | None = None

    @property
    def subject(self):
        return SUBJECTS[self.task]

    @property
    def sizes(self):
        """Those of a model but its words."""
        return self.n_embd, self.n_layer, self.n_head, self.block_size


TRANSLATION = {
    "vocab_size": 8000, "batch_size": 32, "teacher_steps": 4000,
    "stage1_steps": 30, "stage2_steps": 170, "lr": 1e-4, "embedding_lr_scale": 12.0,
}
QUICK = {"vocab_size": 1500, "n_embd": 96, "block_size": 32, "n_head": 2, "teacher_steps": 300,
         "stage1_steps": 5, "stage2_steps": 25, "max_windows": 64}
QUICK_TRANSLATION = {"vocab_size": 1500, "n_embd": 64, "n_head": 2, "teacher_steps": 300,
                     "stage1_steps": 5, "stage2_steps": 25}


def train_settings(task="lm", quick=False, **given):
    """A task's settings: defaults, their quick form, what was given; InputError for another task.

    >>> train_settings("translation", parallel=("a", "b")).lr
    0.0001
    """
    if task not in SUBJECTS:
        raise InputError(f"task: expected one of {', '.join(SUBJECTS)}, got {task!r}")
    translation = task == "translation"
    defaults = TRANSLATION if translation else {}
    small = (QUICK_TRANSLATION if translation else QUICK) if quick else {}
    return TrainSettings(**(defaults | small | given | {"task": task, "quick": quick}))


class ToySubject(Subject):
    """A model that is trained here, of words that are counted here; `model()` is a new one."""

    pretrain_options = {}

    @property
    def dimension(self):
        return self.settings.n_embd

    @property
    def words(self):
        """What a checkpoint keeps: the words of the embedding, or those of each language."""
        return self.vocabularies["token_embedding"].names

    def teacher(self, path, resumed):
        if resumed:
            return load_checkpoint(path, self.device)[0], 0.0
        steps, seed = self.settings.teacher_steps, self.settings.seed
        self.log(f"training the dense teacher for {steps} steps")
        torch.manual_seed(seed)
        model = self.model().to(self.device)
        result = pretrain(model, self.batches(steps, seed), steps, **self.pretrain_options)
        if processes()[0] == 0:
            save_checkpoint(model, path, self.words)
        return model, result["seconds"]

    def save(self, model, path, row):
        save_checkpoint(model, path.with_name(f"{path.name}.pt"), self.words)

    def vocabulary(self, words, counts, lexicon):
        """The Vocabulary of words that were counted; says how much the lexicon covers."""
        vocabulary = build_vocabulary(words, lexicon, counts, seed=self.settings.seed)
        self.log(coverage_line(lexicon, vocabulary))
        return vocabulary


class LanguageSubject(ToySubject):
    """A small GPT that predicts the next word."""

    more, special = ("corpus",), ()

    def read(self):
        settings = self.settings
        models.GPTConfig(settings.vocab_size, *settings.sizes)  # refuses what does not fit
        if settings.corpus is not None:
            self.log(f"reading {settings.corpus}")
            found = documents.file_documents(settings.corpus)
        else:
            self.log("reading the docstrings of installed packages")
            packages = QUICK_PACKAGES if settings.quick else documents.PACKAGES
            found = documents.default_documents(packages)
        least = settings.block_size * 4 + 1
        corpus = data.build_corpus(found, settings.vocab_size, settings.seed, min_tokens=least)
        self.train, self.valid = (ids + len(self.special) for ids in (corpus.train, corpus.valid))
        self.log(f"{len(self.train):,} training and {len(self.valid):,} validation tokens")
        often = np.full(len(self.special), corpus.counts.max())
        counts = np.concatenate([often, corpus.counts])  # (V,)
        words, lexicon = [*self.special, *corpus.words], self.lexicon(settings.lexicon)
        self.vocabularies = {"token_embedding": self.vocabulary(words, counts, lexicon)}
        self.data = self.train.tobytes() + self.valid.tobytes()

    def model(self):
        return models.TinyGPT(models.GPTConfig(len(self.words), *self.settings.sizes))

    def batches(self, steps, seed, ids=None):
        """Of the training text, or of other ids."""
        s, ids = self.settings, self.train if ids is None else ids
        return data.language_batches(ids, s.block_size, s.batch_size, steps, seed)

    def score(self, model):
        return measure.perplexity(model, self.valid, self.settings.max_windows)

    def facts(self):
        return {"train_tokens": len(self.train), "valid_tokens": len(self.valid),
                "vocabulary": len(self.words)}


class MaskedSubject(LanguageSubject):
    """A small BERT that predicts masked words."""

    metric, special = "masked accuracy", (MASK,)

    def model(self):
        config = models.BERTConfig(len(self.words), *self.settings.sizes, pad=-1)  # no padding
        return models.TinyBERT(config)

    def batches(self, steps, seed, ids=None):
        s, ids, words = self.settings, self.train if ids is None else ids, self.words
        special = [words.index(word) for word in data.SPECIAL]
        return data.masked_batches(ids, s.block_size, s.batch_size, steps, seed, words.index(MASK),
                                   len(words), special)

    def score(self, model):
        steps = -(-self.settings.max_windows // self.settings.batch_size)
        return measure.masked_accuracy(model, self.batches(steps, 0, self.valid)), None


class TranslationSubject(ToySubject):
    """A small translator whose two embeddings, the target's with its tied head, are compressed.

    A source language without a lexicon of its own may inherit the senses of the words that its
    words are translated to.
    """

    files, more = ("parallel",), ("valid_parallel", "source_lexicon")
    metric, task = "BLEU", EmbeddingTask(models.TinyTranslator.embeddings, PAD)
    dense_options = {"embedding_lr_scale": 1.0}  # a high rate hurts what is trained

    @property
    def pretrain_options(self):
        config = TrainConfig(warmup=max(10, self.settings.teacher_steps // 20))
        return {"lr": 2e-3, "weight_decay": 1.0, "config": config}

    @property
    def words(self):
        return [vocabulary.names for vocabulary in self.vocabularies.values()]

    def read(self):
        s = self.settings
        models.TranslatorConfig(s.vocab_size, s.vocab_size, *s.sizes)  # refuses what does not fit
        require("sacrebleu")
        self.log(f"reading {' and '.join(map(str, s.parallel))}")
        train, self.pairs = self._split(data.read_parallel(*s.parallel))
        counted = [self._count(sentences) for sentences in zip(*train, strict=True)]
        numbers = [{word: i for i, word in enumerate(words)} for words, _ in counted]
        ids = [tuple(map(data.encode, pair, numbers)) for pair in train]
        self.vocabularies = {
            name: self.vocabulary(words, counts, lexicon)
            for name, (words, counts), lexicon in zip(
                models.TinyTranslator.embeddings, counted, self._lexicons(ids, counted))}
        self.train = [pair for pair in ids if max(map(len, pair)) < s.block_size]
        if not self.train:
            rule = "room for a sentence and its end"
            raise InputError(f"block-size: expected {rule}, got {s.block_size}")
        self.log(f"{len(self.train):,} pairs for training, {len(self.pairs):,} for validation")
        self.data = repr((self.train, self.pairs)).encode()

    def _split(self, pairs):
        """(training, validation) pairs."""
        if self.settings.valid_parallel is not None:
            return pairs, data.read_parallel(*self.settings.valid_parallel)
        check_at_least("parallel: number of pairs", len(pairs), 2)
        return hold_out(pairs)

    def _count(self, sentences):
        """(words, counts) of a language; beginnings and ends occur once per sentence."""
        words, counts = data.word_vocabulary(sentences, vocab_size=self.settings.vocab_size)
        counts[[BEGIN, END]] = len(sentences)
        return words, counts

    def _lexicons(self, ids, counted):
        """[lexicon of the source, lexicon of the target]."""
        s = self.settings
        target = self.lexicon(s.lexicon)
        if s.source_lexicon is None:
            return [target, target]
        if s.source_lexicon != ALIGNED:
            return [self.lexicon(s.source_lexicon), target]
        (sources, _), (targets, _) = counted
        probabilities, _ = translation_table(ids, (len(sources), len(targets)))
        return [inherited(sources, probabilities, targets, target), target]

    def model(self):
        rows = map(len, self.words)
        config = models.TranslatorConfig(*rows, *self.settings.sizes, PAD, BEGIN, END)
        return models.TinyTranslator(config)

    def batches(self, steps, seed):
        return data.pair_batches(self.train, self.settings.batch_size, steps, seed, PAD, BEGIN, END)

    def score(self, model):
        return measure.translation_score(model, self.pairs, self.words), None

    def facts(self):
        version = require("sacrebleu").__version__
        pairs = {"train_pairs": len(self.train), "valid_pairs": len(self.pairs)}
        return super().facts() | pairs | {"bleu": f"sacrebleu {version}, words as they are"}


SUBJECTS = {"lm": LanguageSubject, "mlm": MaskedSubject, "translation": TranslationSubject}


def add_arguments(parser):
    """The flags of `train`."""
    parser.add_argument("--task", choices=tuple(SUBJECTS), default="lm",
                        help="next words (default), masked words, or a translation")
    parser.add_argument("--valid-parallel", nargs=2, metavar=("SOURCE", "TARGET"),
                        help="what BLEU is measured on (default: every 20th pair, held out)")
    parser.add_argument("--source-lexicon", metavar="NAME",
                        help="lexicon of the source's language, none, or aligned: the senses of a "
                             "word's translations (default: --lexicon)")
    add_run_arguments(parser, " ".join(METHODS))


def run(arguments, command):
    """Train, compress, finetune, report."""
    settings = train_settings(quick=arguments.quick, **given_settings(arguments))
    run_command(settings, arguments, command)
