"""One call that compresses embeddings of any model: find them, encode each, replace them.

    model  --find-->  matrices E0 (V, D)  --encode-->  encodings  --swap-->  the model, smaller
"""

import time
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from see_min.bridge.layers import SememeEmbedding
from see_min.bridge.swap import attach, find_embedding, make_replacement, replace_embedding
from see_min.errors import InputError, check_finite, check_ids, require
from see_min.fitting.least_squares import relative_error
from see_min.related.registry import ENCODINGS, approximate, check_methods
from see_min.words.vocabulary import Vocabulary, build_vocabulary


@dataclass(frozen=True)
class Compressed:
    """What was done to one embedding."""

    names: list  # dotted names of what was replaced, the embedding first, then its heads
    shape: tuple  # (V, D)
    parameters: int
    bytes: int  # of a file: parameters, in the bits of one, and index
    ratio: float  # 4 V D / bytes; where parameters are counted V D / parameters
    error: float  # sum_w ||E0[w] - E[w]||^2 / sum_w ||E0[w]||^2
    seconds: float  # of the fit


def compress(
    model, words, ratio=20, counts=None, lexicon="sample", name=None, method="see", weights=None,
    **options,
):
    """Compress embeddings of a model in place, and the output heads that share their weight.

    Parameters
    ----------
    model : nn.Module
        In any data type, on any device. Changed only if everything fits.
    words : list of V str, {token: id}, Vocabulary, or {name of an embedding: one of these}
    counts : array (V,), optional
        How often each word occurs; with several embeddings {name of an embedding: array}.
    name : str, optional
        Dotted name of the embedding; that of `find_embedding` when left out.
    method : str, one of `see_min.related.registry.ENCODINGS`
    weights : "float16" or "int8", optional
        How `save_pretrained` of a model of transformers keeps its other weights.

    The others are those of `see_min.recipe.encode`, seed and sweeps among them.

    Returns a list of Compressed, one per embedding. Raises InputError if an argument does not fit
    the model, or the device runs out of memory.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Embedding(300, 32), torch.nn.Linear(32, 2))
    >>> compress(model, [f"w{i}" for i in range(300)], ratio=10)[0].ratio >= 10
    True
    >>> model(torch.tensor([[5, 7]])).shape
    torch.Size([1, 2, 2])
    """
    check_methods([method])
    if method not in ENCODINGS:
        raise InputError(f"method: expected one whose result is an encoding, got {method!r}")
    if weights:
        _check_weights(model, weights)
    by_name = words if _is_by_name(words) else {name or find_embedding(model).name: words}
    found = {key: find_embedding(model, key) for key in by_name}
    if len({tied.name for tied in found.values()}) < len(found):
        raise InputError(f"words: expected one name per weight, got {' and '.join(found)}")
    ready = []
    with device_memory():
        for key, tied in found.items():
            own = counts.get(key) if isinstance(counts, dict) else counts
            vocabulary = _vocabulary(tied, by_name[key], lexicon, own)
            ready.append((tied, *_encode(tied, vocabulary, method, ratio, options)))
    done = [
        Compressed(replace_embedding(model, tied, new), tied.shape, *numbers)
        for tied, new, numbers in ready
    ]
    attach(model, weights)
    return done


def _check_weights(model, weights):
    """Refuse a way to save that there is not."""
    if not any(hasattr(part, "save_pretrained") for part in model.modules()):
        got = type(model).__name__
        raise InputError(f"weights: expected a model of transformers, got {got}")
    require("see_min.bridge.pretrained").SeeMinConfig(weights=weights)


def _is_by_name(words):
    """Whether it is {name: vocabulary} and not {token: id}."""
    whole = (int, np.integer)
    return isinstance(words, dict) and not all(isinstance(id, whole) for id in words.values())


def _vocabulary(tied, words, lexicon, counts):
    """A Vocabulary of V tokens; rows that {token: id} gives to no token are called [ROW7]."""
    V = tied.shape[0]
    if isinstance(words, dict):
        check_ids("words", list(words.values()), V)
        token_of = {id: token for token, id in words.items()}
        words = [token_of.get(row, f"[ROW{row}]") for row in range(V)]
    if len(words) != V:
        raise InputError(f"words: expected {V}, one per row of {tied.name}, got {len(words)}")
    return words if isinstance(words, Vocabulary) else build_vocabulary(words, lexicon, counts)


def _encode(tied, vocabulary, method, ratio, options):
    """(SememeEmbedding, numbers of a Compressed) of one embedding."""
    start = time.perf_counter()
    matrix = tied.module.weight.detach().cpu().double().numpy()  # (V, D)
    check_finite(tied.name, matrix)
    encoding = approximate(matrix, vocabulary, method, ratio, **options)
    size, error = encoding.parameters, relative_error(matrix, encoding)
    counted = encoding.bytes / 4 if encoding.bits else size
    numbers = size, encoding.bytes, matrix.size / counted, error, time.perf_counter() - start
    return make_replacement(tied, encoding), numbers


def round_parameters(model):
    """Round in place what saving rounds: each SememeEmbedding, and `weights` of `compress`."""
    for module in model.modules():
        if isinstance(module, SememeEmbedding):
            module.round()
        elif getattr(module, "hf_quantizer", None) is not None:
            module.hf_quantizer.round_weights(module)


@contextmanager
def device_memory():
    """Turn running out of memory into an InputError of one line; also a decorator."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        full = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not full and "allocate memory" not in str(error):  # so a CPU says it
            raise
        text = str(error).splitlines()[0] if str(error) else "none left"
        raise InputError(f"device: expected enough memory, got {text}") from None
