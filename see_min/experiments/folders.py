"""`compress FOLDER`: the embedding of a Hugging Face model is compressed, finetuned, and saved.

The model is its own teacher. Every 20th line (of a translation: pair) of the text is held out; a
compressed folder says in evaluation.json how it was measured, so that `evaluate` can repeat it.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from see_min.errors import InputError, check_at_least, require
from see_min.experiments.engine import Settings, Subject, hold_out, run_command
from see_min.experiments.folder_cost import folder_cost
from see_min.experiments.hf_models import (
    count_ids,
    load_pretrained,
    model_folder,
    save_model,
    sentences_of,
    unit,
)
from see_min.experiments.measure import masked_accuracy, perplexity, sts
from see_min.experiments.options import add_flags, add_run_arguments, given_settings
from see_min.experiments.similarity import read_sentence_pairs
from see_min.storage.files import read_lines
from see_min.toy import data
from see_min.words.vocabulary import build_vocabulary

FEWEST = 4  # ids of a sentence, special ones included
MASKED_STEPS = 20  # batches of the measure of mlm
QUICK = {"stage1_steps": 3, "stage2_steps": 5, "sweeps": 1, "costs": False}


@dataclass(frozen=True)
class FolderSettings(Settings):
    """What to do with a model in a folder."""

    model: str = ""
    task: str = "encoder"
    sts: str | None = None
    weights: str | None = None  # how a folder keeps what is no embedding
    costs: bool = True  # whether folders are loaded anew to see what they cost
    methods: tuple = ("see", "weighted-svd")
    batch_size: int = 32
    stage1_steps: int = 50
    stage2_steps: int = 300
    stage1_lr: float = 5e-4
    lr: float = 5e-5
    embedding_lr_scale: float = 10.0

    @property
    def subject(self):
        return FOLDERS[self.task]


class FolderSubject(Subject):
    """A model in a folder; a subclass is a task.

    Its `read_text(held_out)` sets `train` and `valid`, or `valid` alone to the whole text, and
    returns the ids of all of the text, a list of them for each of `Pretrained.tables`.
    """

    dense_options = None  # the dense model is not trained
    files = measured = ("corpus",)  # that compress needs, and evaluate

    def load(self):
        """The model as its task sees it."""
        s = self.settings
        self.model = load_pretrained(s.model, s.task, s.block_size, self.device)
        self.task = self.model.task
        return self.model

    def read(self):
        model = self.load()
        texts, self.vocabularies = self.read_text(held_out=True), {}
        self.data = repr((self.train, self.valid)).encode()
        lexicon = self.lexicon(self.settings.lexicon)
        for ids, (name, tokens) in zip(texts, model.tables().items(), strict=True):
            weight = model.get_submodule(name).weight.detach().float().cpu().numpy()  # (V, D)
            self.dimension, counts = weight.shape[1], count_ids(ids, len(tokens))  # (V,)
            self.vocabularies[name] = build_vocabulary(
                tokens, lexicon, counts, seed=self.settings.seed, smooth=True)
            self.data += weight.tobytes()
            shape = f"{len(tokens):,} x {self.dimension}"
            self.log(f"{self.settings.model}: {shape}; {counts.sum():,} tokens of text")

    def lines(self):
        """The lines of the corpus that are not empty."""
        path = self.settings.corpus
        lines = [line.strip() for line in read_lines(path) if line.strip()]
        if not lines:
            raise InputError(f"{path}: expected text, got none")
        return lines

    def teacher(self, path, resumed):
        return self.model, 0.0

    def save(self, model, path, row):
        record = {"task": self.settings.task, "block_size": self.settings.block_size,
                  "metric": self.metric, "value": row["value"], "text": text_hash(self.settings)}
        like = model_folder(self.settings.model)
        save_model(model.model, model.tokenizer, path, like, record)

    def cost(self, path=None):
        s, folder = self.settings, path or model_folder(self.settings.model)
        if not s.costs:
            return {}
        return {"folder": folder_cost(folder, s.task, self.device, s.block_size)}


class LanguageFolder(FolderSubject):
    """Next words: perplexity of windows of a text.

    Stage 2 learns from the text, too: the dense model, trained alike, stands beside the students.
    """

    dense_options = {"embedding_lr_scale": 1.0}

    def read_text(self, held_out):
        ids = self.model.encode(self.lines())
        train, valid = hold_out(ids) if held_out else (ids, ids)
        self.train, self.valid = self._window(train), self._window(valid)
        return [ids]

    def _window(self, lines):
        """Ids of lines one after the other; they must fill a window and one more."""
        ids, block_size = [number for line in lines for number in line], self.settings.block_size
        if len(ids) <= block_size:
            rule = f"expected more than {block_size} tokens, a window, in each part"
            raise InputError(f"{self.settings.corpus}: {rule}, got {len(ids)}")
        return ids

    def batches(self, steps, seed):
        s = self.settings
        return data.language_batches(np.array(self.train), s.block_size, s.batch_size, steps, seed)

    def score(self, model):
        return perplexity(model, np.array(self.valid), block_size=self.settings.block_size)[0], None


class MaskedFolder(LanguageFolder):
    """Masked words: the share that is found."""

    metric = "masked accuracy"

    def batches(self, steps, seed, ids=None, batch_size=None):
        s, words = self.settings, self.model.tokenizer
        ids, size = np.array(self.train if ids is None else ids), batch_size or s.batch_size
        return data.masked_batches(ids, s.block_size, size, steps, seed, words.mask_token_id,
                                   self.model.rows, words.all_special_ids)

    def score(self, model):
        return masked_accuracy(model, self.batches(MASKED_STEPS, 0, self.valid, 32)), None


class EncoderFolder(FolderSubject):
    """Sentences: rank correlation of cosines with how similar people find pairs (STS)."""

    metric, files, measured = "STS", ("corpus", "sts"), ("sts",)

    def read_text(self, held_out):
        check_at_least("block-size", self.settings.block_size, FEWEST)
        self.valid = read_sentence_pairs(self.settings.sts)
        if not held_out:
            return []
        ids = self.model.encode(sentences_of(self.lines()), special=True)
        self.train = [one for one in ids if len(one) >= FEWEST]
        if not self.train:
            rule = f"expected a sentence of at least {FEWEST} tokens, special ones included"
            raise InputError(f"{self.settings.corpus}: {rule}, got none")
        return [ids]

    def batches(self, steps, seed):
        chances = data.swap_chances(next(iter(self.vocabularies.values())))
        special, size = self.model.tokenizer.all_special_ids, self.settings.batch_size
        return data.span_batches(self.train, size, steps, seed, chances, special)

    def output(self, model, batch):
        """The direction of each sentence's vector: STS compares angles. There is no head."""
        return unit(model.means(batch.inputs[0])), None

    def score(self, model):
        return sts(model.vectors, self.valid), None


class TranslationFolder(FolderSubject):
    """An encoder with a decoder: BLEU of greedy translations."""

    metric, files, measured = "BLEU", ("parallel",), ("parallel",)

    def read_text(self, held_out):
        require("sacrebleu")
        pairs = [tuple(map(" ".join, pair)) for pair in data.read_parallel(*self.settings.parallel)]
        if not held_out:
            self.valid = pairs
            return []
        check_at_least("parallel: number of pairs", len(pairs), 2)
        ids = self.model.encode_pairs(pairs)
        self.train, self.valid = hold_out(ids)[0], hold_out(pairs)[1]
        sides = list(zip(*ids))
        return sides if len(self.model.tables()) == 2 else [sides[0] + sides[1]]

    def batches(self, steps, seed):
        end = self.model.tokenizer.eos_token_id
        return data.pair_batches(self.train, self.settings.batch_size, steps, seed, self.model.pad,
                                 self.model.begin, end)

    def score(self, model):
        return model.bleu(self.valid), None


FOLDERS = {"lm": LanguageFolder, "mlm": MaskedFolder, "encoder": EncoderFolder,
           "translation": TranslationFolder}


def text_hash(settings):
    """Of the text of a task: a folder remembers on what it was trained."""
    paths = settings.parallel or (settings.sts if settings.task == "encoder" else settings.corpus,)
    try:
        return hashlib.sha256(b"".join(Path(path).read_bytes() for path in paths)).hexdigest()
    except OSError as error:
        rule = "expected a file that can be read"
        raise InputError(f"{paths[0]}: {rule}, got {error.strerror}") from None


def add_arguments(parser):
    """The flags of `compress`."""
    parser.add_argument("model", metavar="FOLDER", help="a Hugging Face model, or all-MiniLM-L6-v2")
    parser.add_argument("--task", choices=tuple(FOLDERS), default="encoder",
                        help="next words, masked words, sentences (default), or a translation")
    parser.add_argument("--stage1-steps", type=int, metavar="N", help="on embeddings and states")
    parser.add_argument("--batch-size", type=int, metavar="N", help="rows per batch (default: 32)")
    parser.add_argument("--block-size", type=int, metavar="N", help="longest row (default: 64)")
    parser.add_argument("--lr", type=float, metavar="X",
                        help="peak of stage 2 (default: 5e-5); 10 times as much for the embedding")
    parser.add_argument("--weights", choices=("float16", "int8"),
                        help="how folders keep what is no embedding (default: as it was)")
    parser.add_argument("--accumulate", type=int, metavar="N", help="micro-batches per step")
    add_flags(parser, "sts", "bf16")
    add_run_arguments(parser, "see weighted-svd")


def run(arguments, command):
    """Compress, finetune, report, save; InputError for an `--out` within the model's folder."""
    given = given_settings(arguments)
    if "lr" in given:
        given["stage1_lr"] = 10 * given["lr"]
    settings, out = FolderSettings(**((QUICK if arguments.quick else {}) | given)), arguments.out
    if Path(out).resolve().is_relative_to(model_folder(settings.model).resolve()):
        raise InputError(f"out: expected a folder outside of the model's, got {out}")
    run_command(settings, arguments, command)
