"""The page of `explain --html`: one file that takes words apart, for a browser without a network.

The encoding travels in it, as whole numbers and their steps; the script in data/explain.html
rebuilds rows and finds neighbours.
"""

import base64
import json
from pathlib import Path

import numpy as np

from see_min.encoding import smallest
from see_min.storage.encodings import quantize

TEMPLATE = Path(__file__).parents[1] / "data" / "explain.html"
LARGEST = 10_000_000  # numbers of the rows before the projection, which the browser holds


def page(encoding, numbers, first, before=None):
    """The page as text, with what it holds of an encoding.

    Parameters
    ----------
    encoding : SememeEncoding
    numbers : dict of str to int
        Word -> row. Of many words those with the first rows are kept, as many as have `LARGEST`
        numbers before the projection.
    first : list of str
        Words that are kept in any case; the page opens with the first of them.
    before : dict of str to list of [word, cosine], optional
        The nearest words in the dense matrix.
    """
    most = max(LARGEST // encoding.inner_dim, len(first))
    words = list(dict.fromkeys([*first, *sorted(numbers, key=numbers.get)]))[:most]
    rows = np.array([numbers[word] for word in words])  # (W,)
    V, D = encoding.shape
    about = (f"The encoding stands for {V:,} rows of {D}. This page holds {len(words):,} of its "
             f"{len(numbers):,} whole words and looks for neighbours among them.")
    data = {"words": words, "first": first[0], "before": before or {}, "about": about}
    data |= _tables(encoding, rows) | _bag(encoding, rows)
    lengths = np.linalg.norm(encoding.rows(rows), axis=1)  # (W,)
    data["lengths"] = _typed(lengths.astype(np.float32))
    # no "<" in the text: nothing in a word can end the script or open a comment
    return TEMPLATE.read_text("utf-8").replace("DATA", json.dumps(data).replace("<", "\\u003c"))


def _tables(encoding, rows):
    """Leaf tables, each once, the units (W, k) of every slot, their names, and the projection."""
    tables, index = encoding.tables, encoding.units_of(rows)  # (W, k, n)
    names = encoding.slot_names or [[f"unit:{u}" for u in range(len(table))] for table in tables]
    if encoding.index is None:  # a word's unit is the word
        tables = [table[rows] for table in tables]
        names = [[slot[row] for row in rows] for slot in names]
        index = np.broadcast_to(np.arange(len(rows))[:, None, None], index.shape)  # (W, 1, n)
    own = [*{id(table): table for table in tables}.values()]
    slots = [next(i for i, one in enumerate(own) if one is table) for table in tables]
    P = encoding.projection
    return {
        "tables": [_numbers(encoding, table, (0, 2)) for table in own], "slots": slots,
        "index": [_typed(index[..., j].astype(smallest(len(table))))
                  for j, table in enumerate(tables)],
        "slot_names": [list(map(str, slot)) for slot in names],
        "projection": None if P is None else _numbers(encoding, P, 1),
    }


def _bag(encoding, rows):
    """The units in the bags of these words, and no others; `start` says where each word's begin."""
    if encoding.bag is None:
        return {"bag": None}
    M = encoding.bag[rows]  # (W, U)
    used, units = np.unique(M.indices, return_inverse=True)  # (U',), (entries,)
    names = encoding.bag_names or [f"unit:{u}" for u in range(M.shape[1])]
    return {"bag": {
        "start": _typed(M.indptr.astype(np.uint32)),
        "units": _typed(units.astype(np.uint32)),
        "names": [str(names[u]) for u in used],
        "vectors": _floats(encoding.bag_vectors[used]),
    }}


def _numbers(encoding, array, axes):
    """Parameters as files keep them: whole numbers of `bits` and their steps, or float32."""
    if encoding.bits in (None, 32):
        return _floats(array)
    q, s = quantize(array, axes, encoding.bits)
    small = np.int8 if encoding.bits <= 8 else np.int16
    return {"shape": array.shape, "q": _typed(q.astype(small)), "step": _typed(s)}


def _floats(array):
    return {"shape": array.shape, "q": _typed(np.float32(array))}


def _typed(array):
    """An array as JavaScript names it, little-endian, in base64."""
    kind = {"f": "Float", "i": "Int", "u": "Uint"}[array.dtype.kind]
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return {"type": f"{kind}{8 * array.itemsize}Array", "data": base64.b64encode(data).decode()}
