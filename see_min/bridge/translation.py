"""The job on translation: a small translator is trained on a parallel text, and the embeddings of both languages are compressed.

At each ratio, of the floats of both embeddings, five students start from the same teacher: `see`, `svd`, `hashed` and `shuffled`
as in the main job, and `morphemes`, the papers' form with morphemes alone. A source language without a lexicon of its own may
inherit the senses of the target's words (`see_min.alignment`).
"""

import time
from dataclasses import dataclass

from see_min.alignment import inherited, translation_table
from see_min.bridge.finetune import Task
from see_min.bridge.measure import sacrebleu, translation_score
from see_min.bridge.study import Settings, Study
from see_min.bridge.training import Loop
from see_min.bridge.translator import TinyTranslator, TranslatorConfig
from see_min.checks import DataError
from see_min.sequences import encode, pair_batches, read_parallel, word_vocabulary

METHODS = ("see", "svd", "hashed", "shuffled", "morphemes")
HELD_OUT = 20  # without --valid-parallel every 20th pair is kept for the evaluation
PAD, BEGIN, END = 0, 1, 2  # of word_vocabulary's special words
ALIGNED = "aligned"  # as the source's lexicon: the senses of a word's translations
QUICK = {"vocabulary": 1500, "dimension": 64, "heads": 2, "teacher_steps": 300, "stage1_steps": 5, "stage2_steps": 25,
         "sweeps": 5}


@dataclass(frozen=True)
class TranslationJob(Settings):
    """What the job on translation does."""

    task: str = "translation"
    policy: str = "superposed"
    vocabulary: int = 8000
    least: int = 2
    blocks: int = 2
    batch: int = 32
    teacher_steps: int = 4000
    stage1_steps: int = 30
    stage2_steps: int = 170
    sweeps: int = 10
    dropout: float = 0.1
    parallel: tuple | None = None
    valid_parallel: tuple | None = None
    source_lexicon: str | None = None
    shared_vocabulary: bool = False


class TranslationStudy(Study):
    """A small translator whose two embeddings, the target's with its tied head, are compressed."""

    metric, methods = "BLEU", METHODS
    task = Task(TinyTranslator.embeddings, PAD)
    of_stage2, of_dense = {"rate": 1e-4, "leaves": 12.0}, {"leaves": 1.0}  # a short schedule at a high rate hurts what is trained

    @staticmethod
    def check(job):
        if job.parallel is None:
            raise DataError("parallel: expected --parallel SOURCE TARGET with the task translation, got none")
        if job.source_lexicon is not None and job.shared_vocabulary:
            raise DataError("source-lexicon: expected a vocabulary of its own for each language with it, got --shared-vocabulary")
        TranslatorConfig(job.vocabulary, job.vocabulary, job.dimension, job.blocks, job.heads, job.context)
        sacrebleu()

    def read(self):
        """Pairs of sentences, the words of both languages, and what is known of them."""
        job, start = self.job, time.perf_counter()
        self.say(f"reading {' and '.join(map(str, job.parallel))}, counting words, splitting them into morphemes")
        names = job.lexicon if job.source_lexicon in (None, ALIGNED) else job.source_lexicon, job.lexicon
        lexicons = [self.lexicon(name) for name in dict.fromkeys(names)]
        self.pairs, train = self._split(read_parallel(*job.parallel))
        vocabularies, numbers = self._vocabularies(train)
        ids = [tuple(encode(text, number) for text, number in zip(pair, numbers)) for pair in train]
        if job.source_lexicon == ALIGNED:
            words = [words for words, _ in vocabularies.values()]
            table, _ = translation_table(ids, [*map(len, words)])
            lexicons.insert(0, inherited(words[0], table, words[1], lexicons[0]))
        self.embeddings = [self.annotated(name, words, counts, lexicon, f"morphemes_{name}")
                           for (name, (words, counts)), lexicon in zip(vocabularies.items(), (lexicons[0], lexicons[-1]))]
        self.train = [pair for pair in ids if max(map(len, pair)) < job.context]
        if not self.train:
            raise DataError(f"context: expected room for a sentence and its end, got {job.context}")
        self.say(f"pairs: {len(self.train):,} of {len(train):,} for training, {len(self.pairs):,} for validation "
                 f"({time.perf_counter() - start:.0f} s)")
        for one, lexicon in zip(self.embeddings, (lexicons[0], lexicons[-1])):
            covered = "{:.0%} of words, {:.0%} of tokens".format(*lexicon.coverage(one.words, one.counts))
            self.say(f"{one.name}: {len(one.words):,} words; the lexicon covers {covered}")
        return self.embeddings, repr((self.train, self.pairs)).encode()

    def _split(self, pairs):
        """(validation, training) pairs."""
        if self.job.valid_parallel is not None:
            return read_parallel(*self.job.valid_parallel), pairs
        train = [pair for i, pair in enumerate(pairs) if i % HELD_OUT]
        if not train:
            raise DataError("parallel: expected at least 2 pairs, one of which is held out, got 1")
        return pairs[::HELD_OUT], train

    def _vocabularies(self, train):
        """({name of an embedding: (words, counts)}, number of each word in both languages)."""
        texts = [[pair[side] for pair in train] for side in (0, 1)]
        texts = [texts[0] + texts[1]] if self.job.shared_vocabulary else texts
        sides = {name: self._side(sentences) for name, sentences in zip(self.task.embeddings, texts)}
        numbers = [{word: i for i, word in enumerate(words)} for words, _ in sides.values()]
        return sides, [numbers[0], numbers[-1]]

    def _side(self, sentences):
        """(words, counts); beginnings and ends occur once a sentence."""
        words, counts = word_vocabulary(sentences, self.job.least, self.job.vocabulary)
        counts[[BEGIN, END]] = len(sentences)
        return words, counts

    @property
    def of_teacher(self):
        return {"rate": 2e-3, "decay": 1.0, "loop": Loop(warmup=max(10, self.job.teacher_steps // 20))}

    @property
    def words(self):
        return [self.embeddings[0].words, self.embeddings[-1].words]

    def model(self):
        job, sizes = self.job, [len(words) for words in self.words]
        return TinyTranslator(TranslatorConfig(*sizes, job.dimension, job.blocks, job.heads, job.context, PAD, BEGIN, END,
                                               job.shared_vocabulary, job.dropout))

    def batches(self, steps, seed):
        return pair_batches(self.train, self.job.batch, steps, seed, PAD, BEGIN, END)

    def score(self, model):
        return translation_score(model, self.pairs, self.words), None

    def facts(self):
        sizes, known = [len(one.words) for one in self.embeddings], [one.known for one in self.embeddings]
        return {"train_pairs": len(self.train), "valid_pairs": len(self.pairs), "vocabulary": sizes, "knowledge_units": known,
                "bleu": f"sacrebleu {sacrebleu().__version__}, tokenize none, the files' own words and case"}
