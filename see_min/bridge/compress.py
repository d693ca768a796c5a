"""One call that compresses the embeddings of any nn.Module: find them, fit an encoding to each, replace them and their heads.

    model  --find-->  matrices E0 (V, D)  --fit-->  encodings  --swap-->  the same model, smaller
"""

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from see_min.bridge.swap import find_embedding, input_embedding, put, stand_in
from see_min.checks import DataError, ShapeError
from see_min.compare import Task, approximate, by_frequency, check_encodings
from see_min.fit import relative_error


@dataclass(frozen=True)
class Compressed:
    """What was done to one embedding.

    Attributes
    ----------
    names : list of str
        Dotted names of what was replaced, the embedding first, then its heads.
    shape : (V, D)
    floats, bytes : int
        Kept, the index among the bytes.
    ratio : float
        V D / floats.
    error : float
        sum_w ||E0[w] - E[w]||^2 / sum_w ||E0[w]||^2.
    seconds : float
        Of the fit.
    """

    names: list
    shape: tuple
    floats: int
    bytes: int
    ratio: float
    error: float
    seconds: float


def compress(model, vocabulary, ratio=20, name=None, method="see", policy="superposed", order=None, sweeps=6, seed=0,
             progress=None):
    """Compress embeddings of a model in place, and the output heads that share their weight.

    Parameters
    ----------
    model : nn.Module
        Of plain torch or of transformers; in any data type, on any device. Changed only if everything fits.
    vocabulary : Vocabulary, or dict of str to Vocabulary
        What is known of the rows (`see_min.vocabulary.build_vocabulary`), of one embedding, or by the names of several.
    ratio : float
        V D / floats kept, the same for each.
    name : str, optional
        Dotted name of the embedding, with one vocabulary. When left out, the one that `get_input_embeddings` of a model of
        transformers names, of its encoder if it has one; of other models the largest.
    method : str
        "see", a policy, or another method of `see_min.compare` that is an encoding ("svd", "weighted-svd", controls).
    policy, order, sweeps, seed, progress :
        As in `see_min.compare.Task` and `approximate`.

    Returns
    -------
    list of Compressed, one an embedding

    Raises
    ------
    DataError
        If the model has no embedding (of that name), two names share one weight, the matrix is not finite, the ratio is out of
        reach, or the device runs out of memory.
    ShapeError
        If a vocabulary has not one token a row, or a head that is declared to be tied has another shape.

    Examples
    --------
    >>> from see_min import Lexicon
    >>> from see_min.vocabulary import build_vocabulary
    >>> words = build_vocabulary([f"w{i}" for i in range(300)], Lexicon({}))
    >>> model = torch.nn.Sequential(torch.nn.Embedding(300, 32), torch.nn.Linear(32, 2))
    >>> compress(model, words, ratio=10)[0].ratio >= 10
    True
    >>> model(torch.tensor([[5, 7]])).shape
    torch.Size([1, 2, 2])

    Source: ours.
    """
    check_encodings([method], policy)
    _check_declared_tie(model)
    vocabularies = vocabulary if isinstance(vocabulary, dict) else {name or find_embedding(model).name: vocabulary}
    _check_distinct(model, vocabularies)
    with device_memory():
        places = [find_embedding(model, key) for key in vocabularies]
        fitted = [_fit(place, words, ratio, method, policy, order, sweeps, seed, progress)
                  for place, words in zip(places, vocabularies.values())]
        ready = [stand_in(place, encoding) for place, (encoding, _) in zip(places, fitted)]  # before the model is touched
    return [replace(done, names=put(model, place, new)) for place, new, (_, done) in zip(places, ready, fitted)]


def _fit(place, vocabulary, ratio, method, policy, order, sweeps, seed, progress):
    """(encoding in the order of the rows, Compressed without names) of one embedding."""
    start = time.perf_counter()
    V, D = place.shape
    if len(vocabulary) != V:
        raise ShapeError(f"vocabulary: expected {V} tokens, one a row of {place.name}, got {len(vocabulary)}")
    E0 = place.module.weight.detach().cpu().double().numpy()  # (V, D)
    bad = ~np.isfinite(E0).all(1)
    if bad.any():
        raise DataError(f"{place.name}: expected finite numbers, got NaN or infinity in row {bad.argmax()}")
    matrix, ordered, rows = by_frequency(E0, vocabulary)
    encoding = approximate(Task(matrix, ordered, policy, order, sweeps, progress), method, ratio, seed)
    encoding = in_order(encoding, np.argsort(rows))
    floats = encoding.floats
    done = Compressed([], (V, D), floats, 4 * floats + encoding.index_bytes, V * D / floats,
                      relative_error(E0, encoding), time.perf_counter() - start)
    return encoding, done


def in_order(encoding, rows):
    """The encoding whose row i is row rows[i] of the given one; leaves that belong to one word each move with their words.

    Examples
    --------
    >>> from see_min.encoding import SememeEncoding
    >>> encoding = SememeEncoding([np.array([[[1.0]], [[2.0]], [[3.0]]])], np.arange(3)[:, None])
    >>> turned = in_order(encoding, np.array([2, 0, 1]))
    >>> turned.rows([0, 1, 2])[:, 0], turned.index_bytes
    (array([3., 1., 2.]), 0)

    Source: ours.
    """
    pick = lambda array: None if array is None else array[rows]
    if encoding.order == 1 and encoding.index.ndim == 2 and (encoding.index[:, 0] == np.arange(len(rows))).all():
        return replace(encoding, tables=[encoding.tables[0][rows]], amplitudes=pick(encoding.amplitudes), bag=pick(encoding.bag))
    return replace(encoding, index=encoding.index[rows], amplitudes=pick(encoding.amplitudes), bag=pick(encoding.bag))


def _check_distinct(model, names):
    """Refuse two names of one weight."""
    seen = {}
    for name in names:
        first = seen.setdefault(find_embedding(model, name).name, name)
        if first != name:
            raise DataError(f"vocabulary: expected one for each weight, got {first} and {name}, which share one")


def _check_declared_tie(model):
    """Refuse a transformers model that says that its head is tied while the head has another shape."""
    if not (hasattr(model, "get_output_embeddings") and getattr(getattr(model, "config", None), "tie_word_embeddings", False)):
        return
    head, embedding = model.get_output_embeddings(), input_embedding(model, "decoder")
    shapes = [tuple(part.weight.shape) if hasattr(part, "weight") else None for part in (head, embedding)]
    if None not in shapes and shapes[0] != shapes[1]:
        raise ShapeError(f"head: expected shape {shapes[1]} as the embedding that it is tied to, got {shapes[0]}")


@contextmanager
def device_memory():
    """Turn running out of memory into one line; also a decorator.

    Raises
    ------
    DataError
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        text = str(error).splitlines()[0] if str(error) else "none left"
        raise DataError(f"device: expected enough memory, got {text}") from None
