"""What an encoding is on disk: parameters in few bits, codes in the bits they need (codes.py).

    parameter   x ~ s q, s = max |x| / (2^(b-1) - 1), q a whole number of b bits: half a step off

There is a step `s` per table and term, per row of the projection, and per bag vector. Bag vectors
are rounded in units of each direction, as a metric makes some far longer than others. Rounding
twice changes nothing, so a file that is loaded and saved again is the same file.
"""

import json
import zipfile
import zlib
from dataclasses import replace

import numpy as np
import scipy.sparse

from see_min.encoding import SememeEncoding, coded_words, private_units
from see_min.errors import InputError, check_axes, check_ids
from see_min.storage.codes import code_bits, pack_bits, pack_codes, unpack_bits, unpack_codes
from see_min.storage.files import atomic_path
from see_min.units import Unit, fill_bag

FORMAT = "see_min encoding 4"
FEWEST_BITS, MOST_BITS = 4, 16  # or 32: float32
# what numpy and zipfile raise on bytes that are no encoding (RuntimeError: claims to be encrypted)
READ_ERRORS = (OSError, ValueError, TypeError, LookupError, EOFError, RuntimeError, MemoryError)
READ_ERRORS += (AttributeError, zipfile.BadZipFile, zlib.error)


def quantize(array, axes, bits):
    """(q, s) with array ~ q s: whole numbers, and a float32 step per slice along `axes`.

    >>> q, s = quantize(np.array([[0.5, -1.0]]), axes=1, bits=8)
    >>> q.tolist(), s.tolist()
    ([[64, -127]], [[0.007874015718698502]])
    """
    top = 2 ** (bits - 1) - 1
    largest = np.abs(array).max(axis=axes, keepdims=True, initial=0).astype(np.float32)
    s = largest / np.float32(top)  # of float32, so that float32(q s) has the same step again
    s = np.where(s > 0, s, np.float32(1))
    q = np.clip(np.rint(np.asarray(array, dtype=float) / s), -top, top)
    return q.astype(np.int64), s


def _axes(name):
    """Over which axes one step holds: tables (U, r, q) have r, P (d', D) has d', bags (U, d') U."""
    return (1,) if name in ("projection", "bag_vectors") else (0, 2)


def direction_units(P):
    """(d',): the power of two nearest to 1 / |P_i|, what bag vectors are rounded in units of.

    P (d', D) has the inverse of a metric's root in it: short rows where inner rows are long. It is
    in the file. Products with a power of two are exact: rounding stays the same.

    >>> direction_units(np.array([[3.0, 4.0], [0.0, 0.1], [0.0, 0.0]]))
    array([0.25, 8.  , 1.  ])
    """
    lengths = np.linalg.norm(np.asarray(P, dtype=float), axis=1)  # (d',)
    return 2.0 ** np.rint(-np.log2(np.where(lengths > 0, lengths, 1)))


def _quantized(encoding):
    """{name: (q, s, the numbers that both stand for)} of the arrays of an encoding with bits."""
    found = {}
    for name, array in encoding.arrays.items():
        c = 1.0
        if name == "bag_vectors" and "projection" in found:  # which comes before it
            c = direction_units(found["projection"][2])
        q, s = quantize(array / c, _axes(name), encoding.bits)
        found[name] = q, s, q * (s * c)
    return found


def check_bits(bits):
    """The bits of a parameter; InputError for others than 4 to 16, and 32 (float32)."""
    if bits != 32 and not FEWEST_BITS <= bits <= MOST_BITS:
        raise InputError(f"bits: expected {FEWEST_BITS} to {MOST_BITS}, or 32, got {bits}")
    return bits


def rounded(encoding, bits):
    """The encoding as `save` keeps it: its numbers are those that a file of these bits holds.

    Raises InputError for bits that `check_bits` refuses.
    """
    encoding = replace(encoding, bits=check_bits(bits))
    if bits == 32:
        parts = {name: np.float32(array).astype(float) for name, array in encoding.arrays.items()}
    else:
        parts = {name: numbers for name, (_, _, numbers) in _quantized(encoding).items()}
    once = {id(array): parts[name] for name, array in encoding.arrays.items()}
    named = {name: parts[name] for name in ("projection", "bag_vectors") if name in parts}
    tables = [once[id(table)] for table in encoding.tables]  # a table of several slots stays one
    return replace(encoding, tables=tables, **named)


def pack(encoding):
    """The encoding as small arrays by name, for `unpack`. Without `bits`, numbers stay as they are.

    A word with a private vector needs no codes: where all of them are 0, they are left out.
    """
    arrays = {"format": np.array(FORMAT), "bits": np.array(encoding.bits or 0)}
    if encoding.bits in (None, 32):
        arrays |= {name: np.float32(array) if encoding.bits else array
                   for name, array in encoding.arrays.items()}
    else:
        for name, (q, arrays[f"{name}.step"], _) in _quantized(encoding).items():
            arrays[name] = pack_bits(q + 2 ** (encoding.bits - 1), encoding.bits)
            arrays[f"{name}.shape"] = np.array(q.shape)
    owner = {id(array): name for name, array in encoding.arrays.items()}
    arrays["slots"] = np.array([owner[id(table)] for table in encoding.tables])
    if encoding.index is not None:
        coded = coded_words(encoding)  # (N,)
        arrays["index.shape"] = np.array([*encoding.index.shape, len(coded)])
        for j, table in enumerate(encoding.tables):
            arrays[f"index.{j}"] = pack_codes(encoding.index[coded, :, j], len(table))
    if encoding.bag is not None:
        arrays |= _pack_bag(encoding)
    names = {"words": encoding.words, "bag.names": encoding.bag_names}
    names |= {f"slot.names.{j}": slot for j, slot in enumerate(encoding.slot_names or ())}
    return arrays | {key: _as_bytes(value) for key, value in names.items() if value is not None}


def _pack_bag(encoding):
    """M: how many units each word has, and which; if it can be derived, its private words alone."""
    M = encoding.bag
    private = private_units(M)[0]  # (N,)
    arrays = {"bag.shape": np.array([*M.shape, len(private)]), "bag.check": np.array(_check(M))}
    if encoding.bag_derived:
        return arrays | {"bag.private": pack_bits(private, code_bits(len(encoding)))}
    lengths = np.diff(M.indptr)  # (V,)
    most = lengths.max(initial=0)
    return arrays | {
        "bag.most": np.array(most),
        "bag.lengths": pack_bits(lengths, code_bits(most + 1)),
        "bag.units": pack_bits(M.indices, code_bits(M.shape[1])),
    }


def _check(M):
    """A number that another bag has not: of the units, and of where each word's begin."""
    return zlib.crc32(np.concatenate([M.indptr, M.indices]).astype(np.int64).tobytes())


def unpack(arrays, vocabulary=None):
    """The encoding of `pack`, or InputError; a derived bag asks for the Vocabulary of the fit.

    Sizes are checked before anything is made of them: what a file asks for, it can fill.
    """
    if str(arrays.get("format", "")) != FORMAT:
        raise InputError(f"no entry format = '{FORMAT}'")
    slots = [str(name) for name in arrays["slots"]]
    floats = {name: _floats(arrays, name) for name in {*slots, "projection", "bag_vectors"}}
    if "bag_vectors.step" in arrays and (P := floats["projection"]) is not None:
        vectors = check_axes("bag_vectors", floats["bag_vectors"], None, len(P))
        vectors *= direction_units(P)  # (U, d')
    sizes = _index_sizes(arrays) if "index.shape" in arrays else None
    bag = index = None
    if "bag.shape" in arrays:
        shape = len(floats[slots[0]]) if sizes is None else sizes[0], len(floats["bag_vectors"])
        bag = _unpack_bag(arrays, vocabulary, shape)
    if sizes is not None:
        index = _unpack_index(arrays, [len(floats[name]) for name in slots], sizes, bag)
    slot_names = [_as_units(arrays, f"slot.names.{j}", floats[name])
                  for j, name in enumerate(slots)]
    return SememeEncoding(
        [floats[name] for name in slots],
        index,
        floats["projection"],
        bag,
        floats["bag_vectors"],
        words=_as_text(arrays.get("words")),
        slot_names=None if None in slot_names else slot_names,
        bag_names=_as_units(arrays, "bag.names", () if bag is None else floats["bag_vectors"]),
        bits=int(arrays["bits"]) or None,
        bag_derived="bag.private" in arrays,
    )


def _floats(arrays, name):
    """q s where steps are stored, else the numbers themselves, or None."""
    array, step = arrays.get(name), arrays.get(f"{name}.step")
    if step is None:
        return array
    shape, b = arrays[f"{name}.shape"], check_bits(int(arrays["bits"]))
    q = unpack_bits(array, b, int(np.prod(shape))).reshape(shape) - 2 ** (b - 1)
    return q * step.astype(float)


def _index_sizes(arrays):
    """Words, terms of one index, and words with stored codes."""
    V, k, _, coded = (int(size) for size in arrays["index.shape"])
    most = 8 * sum(np.asarray(array).nbytes for array in arrays.values())  # a bit for each code
    if not 0 <= coded <= V or V * max(k, 1) > most:
        rule = f"expected at most {most} codes in a file of this size"
        raise InputError(f"index.shape: {rule}, got {k} of {V} words, of which {coded} have any")
    return V, k, coded


def _unpack_index(arrays, units, sizes, bag):
    """(V, k, n); words without stored codes have code 0."""
    V, k, coded = sizes
    index = np.zeros((V, k, len(units)), dtype=np.int64)
    words = np.arange(V)
    if coded < V:
        words = np.setdiff1d(words, private_units(bag)[0])  # (N,)
    for j, U in enumerate(units):
        codes = unpack_codes(arrays[f"index.{j}"], U, coded * k)
        index[words, :, j] = codes.reshape(coded, k)
    return index


def _unpack_bag(arrays, vocabulary, shape):
    """M (V, U), with as many words as the index and as many units as there are vectors."""
    V, U, N = (int(size) for size in arrays["bag.shape"])
    if (V, U) != shape or not 0 <= N <= V:
        raise InputError(f"bag.shape: expected {shape}, got {V, U} with {N} private vectors")
    if "bag.private" in arrays:
        names = _as_text(arrays.get("words"))
        if callable(vocabulary):
            vocabulary = None if names is None else vocabulary(names)
        if vocabulary is None:
            raise InputError("a bag that is derived: expected the vocabulary, got none")
        if names not in (None, list(vocabulary.names)):
            raise InputError("a bag that is derived: expected the words of the fit in their order")
        private = unpack_bits(arrays["bag.private"], code_bits(V), N)
        M = fill_bag(vocabulary.names, vocabulary.annotations, private, U - N)[0]
    else:
        most = int(arrays["bag.most"])
        if most > U:
            raise InputError(f"bag.most: expected at most {U} units of a word, got {most}")
        lengths = unpack_bits(arrays["bag.lengths"], code_bits(most + 1), V)
        units = unpack_bits(arrays["bag.units"], code_bits(U), int(lengths.sum()))
        check_ids("bag", units, U)
        ends = np.append(0, np.cumsum(lengths))  # (V + 1,)
        M = scipy.sparse.csr_array((np.ones(len(units)), units, ends), shape=(V, U))
    if M.shape != (V, U) or _check(M) != int(arrays["bag.check"]):
        raise InputError("a bag of other units: expected the words and the lexicon of the fit")
    return M


def save(encoding, path):
    """Write a compressed .npz without pickle."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **pack(encoding))


def load(path, vocabulary=None):
    """Read what `save` wrote; InputError if the file is missing, truncated, or another."""
    try:  # opened here, because numpy leaves a damaged file open
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return unpack(arrays, vocabulary)
    except READ_ERRORS as error:
        rule, reason = "expected an encoding saved by see_min", type(error).__name__
        raise InputError(f"{path}: {rule}, got {reason}: {error}") from None


def _as_bytes(names):
    """Names as JSON in one array of bytes: numpy's str takes 4 bytes per letter of the longest."""
    return np.frombuffer(json.dumps([str(name) for name in names]).encode(), dtype=np.uint8)


def _as_text(array):
    return None if array is None else [str(name) for name in json.loads(array.tobytes())]


def _as_units(arrays, name, rows):
    """The units that own these rows, or None where they have no names."""
    names = _as_text(arrays.get(name))
    if names is not None and len(names) != len(rows):
        raise InputError(f"{name}: expected {len(rows)}, one per row, got {len(names)}")
    return None if names is None else [Unit.parse(text) for text in names]
