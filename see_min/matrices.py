"""Embedding matrices from files that other programs write: .npy, .npz and .safetensors, never pickles."""

import json
import math
from pathlib import Path

import numpy as np

from see_min.checks import DataError

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # of safetensors, and how numpy reads them
MOST_HEADER = 100_000_000  # bytes, as in the library safetensors
BLOCK = 4096  # rows a step of the search for NaN and infinity


def load_matrix(path, key=None, mapped=False):
    """Load the embedding matrix in a file.

    Parameters
    ----------
    path : str or Path
        .npy, .npz or .safetensors, or a folder with a model.safetensors.
    key : str, optional
        Name of the matrix in an .npz or .safetensors file. When left out: the matrix with the most numbers; in safetensors, of
        those with "embed" in their name.
    mapped : bool
        Leave the numbers in the file: a read-only memory map of an .npy or .safetensors file, which must then stay as it is.
        Numbers that are not of 32 or 64 bits in the byte order of this computer, and those of an .npz, are loaded all the same.

    Returns
    -------
    array (V, D), float64 if the file has float64, else float32

    Raises
    ------
    DataError
        If the file cannot be read or is damaged, or the array is not a matrix of finite floats.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "e.npy"
    >>> np.save(path, np.eye(2, dtype=np.float16))
    >>> load_matrix(path)
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    >>> np.save(path, np.eye(2))
    >>> type(load_matrix(path, mapped=True)).__name__
    'memmap'

    Source: ours.
    """
    path = Path(path)
    path = path / "model.safetensors" if path.is_dir() else path
    if path.suffix not in (".npy", ".npz", ".safetensors"):
        raise DataError(f"{path}: expected a name that ends in .npy, .npz or .safetensors, got {path.suffix or 'no ending'}")
    try:
        array = _from_safetensors(path, key, mapped) if path.suffix == ".safetensors" else _from_numpy(path, key)
    except OSError as error:
        raise DataError(f"{path}: expected a file that can be read, got {error.strerror or error}") from error
    return _check_matrix(array, path, mapped)


class Reordered:
    """Rows of a matrix in another order; they are copied where they are asked for, so the matrix may be a memory map.

    Parameters
    ----------
    matrix : array (V, D)
    order : int array (V,)
        Row i is row order[i] of the matrix.

    Examples
    --------
    >>> turned = Reordered(np.array([[1., 2.], [3., 4.]]), np.array([1, 0]))
    >>> turned[:1], turned.shape
    (array([[3., 4.]]), (2, 2))

    Source: ours.
    """

    def __init__(self, matrix, order):
        self.matrix, self.order = matrix, order
        self.shape, self.dtype, self.ndim = (len(order), matrix.shape[1]), matrix.dtype, 2

    @property
    def size(self):
        """V D."""
        return self.shape[0] * self.shape[1]

    def __len__(self):
        return len(self.order)

    def __getitem__(self, rows):
        return np.asarray(self.matrix[self.order[rows]])

    def __array__(self, dtype=None, copy=None):
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)


def _check_matrix(array, path, mapped):
    """`array` as (V, D) in float32 or float64, if it is a matrix of finite floats; copied unless a map may stay one."""
    if array.dtype.kind != "f" or array.itemsize > 8:
        raise DataError(f"{path}: expected floats of at most 64 bits, got {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(f"{path}: expected a matrix with rows and columns, got shape {array.shape}")
    kind = np.dtype(np.float64 if array.itemsize == 8 else np.float32)  # native byte order
    array = array if mapped and array.dtype == kind else np.array(array, dtype=kind)  # (V, D)
    for start in range(0, len(array), BLOCK):
        finite = np.isfinite(array[start : start + BLOCK]).all(1)  # (W,)
        if not finite.all():
            raise DataError(f"{path}: expected finite numbers, got NaN or infinity in row {start + finite.argmin()}")
    return array


def _from_numpy(path, key):
    """The array of an .npy file (mapped, so that its length is checked before memory is asked for), or one of an .npz."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if key is not None and key not in loaded.files:
                raise DataError(f"key: expected one of {', '.join(loaded.files)} in {path}, got {key!r}")
            arrays = (loaded[name] for name in (loaded.files if key is None else [key]))  # a member that is no array: bytes
            matrices = (a for a in arrays if isinstance(a, np.ndarray) and (key is not None or a.ndim == 2))
            found = max(matrices, key=np.size, default=None)  # one at a time
    except (OSError, DataError):
        raise
    except Exception as error:  # numpy and zipfile raise a dozen kinds on damaged files, some of them undocumented
        raise DataError(f"{path}: expected a whole file of arrays, got {type(error).__name__}: {error!s:.200}") from error
    if found is None:
        raise DataError(f"{path}: expected a matrix, got {', '.join(loaded.files) or 'nothing'}")
    return found


def _from_safetensors(path, key, mapped):
    """Read the header, then one tensor or, if mapped, its place in the file; BF16 is widened to float32.

    The file: 8 bytes, the length N of the header, little end first; N bytes of JSON, name -> dtype, shape, data_offsets;
    then the numbers, to which the offsets refer.
    """
    entries, start = _header(path)
    if key is None:
        shapes = {name: shape for name, (dtype, shape, _) in entries.items() if len(shape) == 2 and dtype in DTYPES}
        named = [name for name in shapes if "embed" in name.lower()]
        if not named:
            raise DataError(f"{path}: expected a matrix named 'embed', or a key, got {', '.join(shapes):.300}")
        key = max(named, key=lambda name: math.prod(shapes[name]))
    if key not in entries:
        raise DataError(f"key: expected one of {', '.join(entries) or 'none':.300} in {path}, got {key!r}")
    dtype, shape, offset = entries[key]
    if dtype not in DTYPES:
        raise DataError(f"{path}: expected {key} as one of {', '.join(DTYPES)}, got {dtype}")
    size = math.prod(shape)
    if mapped and size:  # nothing cannot be mapped
        flat = np.memmap(path, DTYPES[dtype], "r", start + offset, (size,))  # (V D,)
    else:
        flat = np.fromfile(path, DTYPES[dtype], size, offset=start + offset)  # (V D,)
    if dtype == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)  # the upper half of a float32
    return flat.reshape(shape)  # (V, D)


def _header(path):
    """({name: (dtype, shape, offset)}, where the numbers start in the file), checked against the length of the file."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MOST_HEADER):
            raise DataError(f"{path}: expected a header within {size} bytes and at most {MOST_HEADER}, got length {length}")
        try:
            header = json.loads(file.read(length).decode())
        except (ValueError, RecursionError):  # not UTF-8, not JSON
            raise DataError(f"{path}: expected a header in JSON, got other bytes") from None
    if not isinstance(header, dict):
        raise DataError(f"{path}: expected a header of named tensors, got {type(header).__name__}")
    header.pop("__metadata__", None)
    entries, ends = {}, [0]
    for name, entry in header.items():
        entries[name], end = _entry(entry, f"{path}: {name!r:.80}")
        ends.append(end)
    if max(ends) != size - 8 - length:
        raise DataError(f"{path}: expected {max(ends)} bytes of numbers after the header, got {size - 8 - length}")
    return entries, 8 + length


def _entry(entry, place):
    """((dtype, shape, offset), end) of one tensor's entry in the header."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end)) and isinstance(dtype, str)
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise DataError(f"{place}: expected dtype, shape and data_offsets, got {entry!r:.200}")
    size = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize if dtype in DTYPES else max(end - begin, 0)
    if end - begin != size:
        raise DataError(f"{place}: expected {size} bytes for {dtype} {shape}, got offsets {begin} to {end}")
    return (dtype, shape, begin), end
