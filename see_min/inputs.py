"""What the commands compare and explain: a matrix, its vocabulary and benchmarks, from the files or the model a user names."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from see_min.checks import DataError
from see_min.compare import Task, by_count
from see_min.lexicon import Lexicon
from see_min.matrices import Reordered, load_matrix
from see_min.segmentation import read_segmentation
from see_min.similarity import read_pairs
from see_min.tokens import read_vocabulary
from see_min.vocabulary import build_vocabulary, count_words, read_counts


@dataclass(frozen=True)
class Source:
    """A matrix with the tokens of its rows.

    Attributes
    ----------
    name : str
    matrix : array (V, D)
        It may be a memory map.
    names : list of str
    encoder : see_min.bridge.encoder.SentenceEncoder or None
        The model, where the matrix is of one.
    """

    name: str
    matrix: np.ndarray
    names: list
    encoder: object = None

    def counts(self, text=None, counts=None):
        """Counts (V,) of tokens from a text or a file of counts; None if neither is given.

        Raises
        ------
        DataError
            As `read_counts` and `count_words`.
        """
        if counts is not None:
            return read_counts(counts, self.names)
        if text is None:
            return None
        return count_words(text, self.names) if self.encoder is None else self.encoder.count(text)


def find_source(matrix=None, key=None, vocabulary=None, model=None, job=None):
    """The source that was named: a model, a matrix file with a vocabulary, or the teacher that the main job left in a folder.

    Returns
    -------
    Source, or None if nothing was named and `job` holds no teacher

    Raises
    ------
    DataError
        If a file cannot be read, or the vocabulary has not one token a row.

    Source: ours.
    """
    if model is not None:
        encoder = _encoder(model)
        return Source(str(model), encoder.embedding.detach().double().cpu().numpy(), encoder.names, encoder)
    if matrix is None:
        return None if job is None else _teacher(Path(job) / "phases" / "teacher.pt")
    E0 = load_matrix(matrix, key, mapped=True)
    folder = Path(matrix) if Path(matrix).is_dir() else Path(matrix).parent
    names = read_vocabulary(folder if vocabulary is None else vocabulary)
    if len(names) != len(E0):
        raise DataError(f"vocabulary: expected {len(E0)} tokens, one a row of {matrix}, got {len(names)}")
    return Source(str(matrix), E0, names)


def _encoder(model):
    try:
        from see_min.bridge.encoder import SentenceEncoder
    except ImportError as error:
        raise DataError(f"torch: expected the package to be installed, got {error}: pip install -r requirements.txt") from None
    return SentenceEncoder(model)


def _teacher(path):
    if not path.is_file():
        return None
    from see_min.bridge.checkpoint import load_checkpoint

    model, words = load_checkpoint(path, "cpu")
    *_, name = model.embeddings  # of a translator that of the target
    words = words if len(model.embeddings) == 1 else words[-1]
    return Source(str(path), model.get_submodule(name).weight.detach().double().numpy(), words)


def build_task(source, lexicon, text=None, counts=None, ordered=True, segmentation=None, policy="additive", order=None,
               sweeps=6, seed=0, progress=None):
    """(Task with the rows by falling count, original row numbers) for a source; the matrix stays where it is.

    Parameters
    ----------
    source : Source
    lexicon : Lexicon
    text, counts, segmentation : path, optional
    ordered : bool
        As in `see_min.vocabulary.build_vocabulary`.

    Raises
    ------
    DataError
        If a file cannot be read or does not fit.

    Source: ours.
    """
    pieces = None if segmentation is None else read_segmentation(segmentation)
    vocabulary = build_vocabulary(source.names, lexicon, source.counts(text, counts), ordered, seed, segmentation=pieces)
    rows = by_count(vocabulary)
    return Task(Reordered(source.matrix, rows), vocabulary.take(rows), policy, order, sweeps, progress), rows


def named_benchmarks(paths):
    """{name of the file without its ending: pairs} of word-similarity files.

    Raises
    ------
    DataError
        If a file cannot be read, or two have one name.
    """
    benchmarks = {}
    for path in map(Path, paths):
        name = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
        if name in benchmarks:
            raise DataError(f"similarity: expected files of different names, got {name} again: {path}")
        benchmarks[name] = read_pairs(path)
    return benchmarks


def coverage_line(lexicon: Lexicon, vocabulary):
    """Which share of the words of a vocabulary the lexicon knows, by types and by tokens.

    Source: ours.
    """
    words = [(token.word, count) for token, count in zip(vocabulary.tokens, vocabulary.counts) if token.word.isalpha()]
    if not words:
        return "the vocabulary has no whole words"
    known = [bool(lexicon.find(word)) for word, _ in words]
    counts = np.array([count for _, count in words])
    return (f"the lexicon covers {np.mean(known):.0%} of the {len(words):,} tokens that can be whole words, "
            f"{counts[known].sum() / (counts.sum() or 1):.0%} of their occurrences")
