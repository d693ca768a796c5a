"""SememeEncoding: rows against loops over numpy.kron for every combination of parts, what they touch, files, errors."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from see_min.checks import DataError, ShapeError
from see_min.encoding import SememeEncoding

V, R, D, BAG = 7, 5, 17, 19
SIZES = {1: (3,), 2: (2, 3), 3: (2, 5, 3), 4: (3, 2, 5, 2)}
UNITS = (11, 13, 4, 6)
PARTS = list(itertools.product((1, 2, 3, 4), (False, True), (False, True), (False, True), (False, True), (False, True)))
NAMES = "order, per_term, shared, amplitudes, carrier, bag"
every_form = pytest.mark.parametrize(NAMES, PARTS)


def build(order=3, per_term=False, shared=False, amplitudes=False, carrier=False, bag=False, seed=0):
    """Random parts; shared tables take the first size and number of units in every slot."""
    rng = np.random.default_rng(seed)
    if shared:
        tables = [rng.standard_normal((UNITS[0], R, 3))] * order
    else:
        tables = [rng.standard_normal((U, R, q)) for U, q in zip(UNITS, SIZES[order])]
    inner = int(np.prod([table.shape[2] for table in tables]))
    shape = (V, R) if per_term else (V,)
    index = np.stack([rng.integers(0, len(table), shape) for table in tables], axis=-1)
    lists = rng.integers(0, BAG, (V, 3))
    lists[[1, 2, 2, 4, 4, 4], [2, 1, 2, 0, 1, 2]] = -1  # 3, 2, 1, 3, 0, 3, 3 units
    return SememeEncoding(
        tables, index,
        amplitudes=rng.standard_normal((V, R)) if amplitudes else None,
        carrier=rng.standard_normal((inner, D)) if carrier else None,
        bag=lists if bag else None, bag_vectors=rng.standard_normal((BAG, inner)) if bag else None,
    )


def slow_row(encoding, w):
    total = 0
    for k in range(R):
        product = np.ones(1)
        for j, table in enumerate(encoding.tables):
            u = encoding.index[w, j] if encoding.index.ndim == 2 else encoding.index[w, k, j]
            product = np.kron(product, table[u, k])
        total = total + (1 if encoding.amplitudes is None else encoding.amplitudes[w, k]) * product
    for u in [] if encoding.bag is None else encoding.bag[w]:
        if u >= 0:
            total = total + encoding.bag_vectors[u]
    return total if encoding.carrier is None else sum(x * row for x, row in zip(total, encoding.carrier))


def slow_matrix(encoding):
    return np.array([slow_row(encoding, w) for w in range(V)])


def close(actual, expected):
    """Entries are sums of numbers of size 1 to 10: where they cancel, 1e-12 is meant of the terms."""
    assert_allclose(actual, expected, rtol=1e-12, atol=1e-11)


@every_form
def test_rows_equal_the_sum_of_kronecker_products(order, per_term, shared, amplitudes, carrier, bag):
    encoding = build(order, per_term, shared, amplitudes, carrier, bag)
    matrix = slow_matrix(encoding)
    assert encoding.shape == matrix.shape
    close(encoding.rows(np.arange(V)), matrix)
    ids = np.array([[6, 0, 6], [3, 4, 1]])  # repeated, in no order, two axes
    close(encoding.rows(ids), matrix[ids])


@pytest.mark.parametrize("part", ["amplitudes", "carrier", "bag", "per_term"])
def test_every_optional_part_changes_the_rows(part):
    encoding = build(order=3, carrier=True, amplitudes=True, bag=True, per_term=True)
    rows = encoding.rows(np.arange(V))
    if part == "amplitudes":
        encoding.amplitudes = None
    elif part == "carrier":
        encoding.carrier = encoding.carrier[::-1]
    elif part == "bag":
        encoding.bag = encoding.bag_vectors = None
    else:
        encoding.index = encoding.index[:, 0]
    assert not np.allclose(encoding.rows(np.arange(V)), rows)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("per_term", [False, True])
def test_one_id_gives_a_vector_and_no_ids_give_no_rows(order, per_term):
    encoding = build(order, per_term, bag=True, carrier=True)
    close(encoding.rows(3), slow_row(encoding, 3))
    assert encoding.rows([]).shape == (0, D)
    assert encoding.rows(np.zeros((2, 0), dtype=int)).shape == (2, 0, D)


def test_words_without_bag_units_need_no_bag_vectors():
    encoding = build()
    with_empty_bag = SememeEncoding(encoding.tables, encoding.index, bag=np.full((V, 1), -1), bag_vectors=np.zeros((0, 30)))
    close(with_empty_bag.rows(np.arange(V)), slow_matrix(encoding))


def poison(encoding, ids):
    """NaN in every number that no word of `ids` owns a part of."""
    owned = {}
    for j, table in enumerate(encoding.tables):
        mask = owned.setdefault(id(table), (table, np.zeros(table.shape[:2], dtype=bool)))[1]  # (U_j, r)
        for w, k in itertools.product(ids, range(R)):
            mask[encoding.index[w, j] if encoding.index.ndim == 2 else encoding.index[w, k, j], k] = True
    for table, mask in owned.values():
        table[~mask] = np.nan
    if encoding.amplitudes is not None:
        encoding.amplitudes[[w for w in range(V) if w not in ids]] = np.nan
    if encoding.bag is not None:
        used = {u for w in ids for u in encoding.bag[w]}
        encoding.bag_vectors[[u for u in range(BAG) if u not in used]] = np.nan


@every_form
def test_rows_touch_only_the_leaves_of_their_ids(order, per_term, shared, amplitudes, carrier, bag):
    """D12: with NaN in every leaf, amplitude and bag vector of other words the rows are what they were."""
    encoding = build(order, per_term, shared, amplitudes, carrier, bag)
    ids = [4, 2]  # the bags of these have none and one unit, so padding is met
    expected = slow_matrix(encoding)[ids]
    poison(encoding, ids)
    assert any(np.isnan(table).any() for table in encoding.tables)
    close(encoding.rows(ids), expected)
    assert np.isnan(encoding.rows([0])).any()  # the poison works: another word shows it


@pytest.mark.parametrize("part", ["tables", "amplitudes", "bag_vectors"])
def test_a_poisoned_leaf_of_an_id_shows_in_its_row(part):
    encoding = build(order=3, amplitudes=True, bag=True, carrier=True)
    if part == "tables":
        encoding.tables[1][encoding.index[2, 1], 4] = np.nan
    elif part == "amplitudes":
        encoding.amplitudes[2, 4] = np.nan
    else:
        encoding.bag_vectors[encoding.bag[2, 0]] = np.nan
    assert np.isnan(encoding.rows([2])).any()


@every_form
def test_scores_equal_the_product_with_the_matrix_for_any_block(order, per_term, shared, amplitudes, carrier, bag):
    """D13: h E^T for blocks smaller than, equal to and larger than V."""
    encoding = build(order, per_term, shared, amplitudes, carrier, bag)
    matrix = slow_matrix(encoding)
    h = np.random.default_rng(1).standard_normal((3, matrix.shape[1]))
    expected = np.array([[sum(x * y for x, y in zip(one, row)) for row in matrix] for one in h])
    for block in (1, 2, 3, V, V + 1, 4096):
        assert_allclose(encoding.scores(h, block), expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


def test_scores_never_hold_more_rows_than_a_block(monkeypatch):
    encoding, asked, inner_rows = build(order=3, carrier=True), [], SememeEncoding.inner_rows
    monkeypatch.setattr(SememeEncoding, "inner_rows", lambda self, ids: asked.append(len(ids)) or inner_rows(self, ids))
    encoding.scores(np.ones((2, D)), block=3)
    assert asked == [3, 3, 1]


def test_scores_of_whole_numbers_are_not_rounded():
    encoding = build(order=3)
    close(encoding.scores(np.eye(30, dtype=int)), slow_matrix(encoding).T)


def test_scores_of_no_states_are_no_scores():
    assert build(order=3).scores(np.zeros((0, 30))).shape == (0, V)


def test_floats_count_a_shared_table_once():
    assert build(order=3, shared=True).floats == 11 * R * 3
    parts = build(order=3, amplitudes=True, carrier=True, bag=True)
    assert parts.floats == R * (11 * 2 + 13 * 5 + 4 * 3) + V * R + 30 * D + BAG * 30


def test_index_bytes_count_the_smallest_type_of_each_slot():
    tables = [np.zeros((256, R, 2)), np.zeros((257, R, 2))]
    assert SememeEncoding(tables, np.zeros((V, 2), dtype=int)).index_bytes == V * (1 + 2)
    assert SememeEncoding(tables, np.zeros((V, R, 2), dtype=int)).index_bytes == V * R * (1 + 2)
    bagged = build(order=2, bag=True)
    assert bagged.index_bytes == V * 2 + V + (3 + 2 + 1 + 3 + 0 + 3 + 3)


@every_form
def test_save_and_load_change_no_number(order, per_term, shared, amplitudes, carrier, bag, tmp_path):
    """D14: every array comes back bit by bit, shared tables stay shared, the rows are the same."""
    encoding = build(order, per_term, shared, amplitudes, carrier, bag)
    encoding.tables[0][0, 0, :2] = [-0.0, 5e-324]  # values that text or a narrower type would lose
    encoding.save(tmp_path / "a.npz")
    loaded = SememeEncoding.load(tmp_path / "a.npz")
    for mine, its in zip(encoding.tables, loaded.tables, strict=True):
        assert mine.dtype == its.dtype and mine.tobytes() == its.tobytes()
    for name in ("amplitudes", "carrier", "bag_vectors"):
        mine, its = getattr(encoding, name), getattr(loaded, name)
        assert mine is its is None or (mine.dtype == its.dtype and mine.shape == its.shape and mine.tobytes() == its.tobytes())
    assert_array_equal(loaded.index, encoding.index, strict=True)
    assert (encoding.bag is None and loaded.bag is None) or (loaded.bag == encoding.bag).all()
    assert len({id(table) for table in loaded.tables}) == (1 if shared else order)
    assert (loaded.floats, loaded.index_bytes, loaded.shape) == (encoding.floats, encoding.index_bytes, encoding.shape)
    assert_array_equal(loaded.rows(np.arange(V)), encoding.rows(np.arange(V)))


def test_slots_two_of_which_share_a_table_are_loaded_as_they_were(tmp_path):
    a, b = np.random.default_rng(0).standard_normal((2, 3, R, 2))
    encoding = SememeEncoding([a, b, a], np.array([[0, 1, 2], [2, 0, 1]]))
    encoding.save(tmp_path / "a.npz")
    loaded = SememeEncoding.load(tmp_path / "a.npz")
    assert loaded.tables[0] is loaded.tables[2] is not loaded.tables[1]
    assert_array_equal(loaded.rows([0, 1]), encoding.rows([0, 1]))


@pytest.mark.parametrize("units", [256, 257, 65536, 65537])
def test_the_last_unit_survives_the_smallest_integer_type(units, tmp_path):
    encoding = SememeEncoding([np.arange(units, dtype=float)[:, None, None]], np.array([[0], [units - 1]]))
    encoding.save(tmp_path / "a.npz")
    assert SememeEncoding.load(tmp_path / "a.npz").rows([0, 1]).tolist() == [[0.0], [units - 1.0]]


def test_single_precision_stays_single_in_a_file(tmp_path):
    encoding = SememeEncoding([np.full((2, 1, 3), 0.1, dtype=np.float32)], np.array([[0], [1]]))
    encoding.save(tmp_path / "a.npz")
    assert SememeEncoding.load(tmp_path / "a.npz").tables[0].dtype == np.float32


def test_bag_entries_after_a_gap_keep_their_meaning(tmp_path):
    encoding = build(order=2, bag=True)
    encoding.bag[3] = [-1, 5, -1]
    encoding.save(tmp_path / "a.npz")
    loaded = SememeEncoding.load(tmp_path / "a.npz")
    assert loaded.bag[3].tolist() == [5, -1, -1]
    assert_array_equal(loaded.rows(np.arange(V)), encoding.rows(np.arange(V)))


@pytest.mark.parametrize("error", [OSError(28, "no space left"), KeyboardInterrupt(), ValueError("stop")])
def test_an_interrupted_save_leaves_the_old_file(error, tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    build(seed=0).save(path)
    before = path.read_bytes()

    def half_way(stream, **arrays):
        stream.write(before[:100])
        stream.flush()
        assert any(other.stat().st_size == 100 for other in tmp_path.iterdir())  # the half file is there, under another name
        raise error

    monkeypatch.setattr(np, "savez_compressed", half_way)
    with pytest.raises(type(error)):
        build(seed=1).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def rejected(path):
    """The text of the DataError that names the path."""
    with pytest.raises(DataError) as caught:
        SememeEncoding.load(path)
    assert str(caught.value).startswith(f"{path}: expected an encoding saved by see_min, got ")
    return str(caught.value)


def test_a_truncated_file_is_a_data_error_at_every_length(tmp_path):
    path = tmp_path / "a.npz"
    build(order=2, amplitudes=True, carrier=True, bag=True).save(path)
    data = path.read_bytes()
    for length in [*range(0, len(data), 97), *range(len(data) - 30, len(data))]:
        path.write_bytes(data[:length])
        rejected(path)


def test_a_changed_byte_is_a_data_error_or_changes_nothing(tmp_path):
    path = tmp_path / "a.npz"
    encoding = build(order=2, bag=True)
    encoding.save(path)
    data, read, refused = path.read_bytes(), 0, 0
    directory = data.index(b"PK\x01\x02")  # entries are described here: encryption, compression, version
    for place in [*range(0, directory, 41), *range(directory, len(data), 7)]:
        for mask in (1, 255):
            path.write_bytes(data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
            try:
                loaded = SememeEncoding.load(path)
            except DataError:
                refused += 1
            else:
                assert_array_equal(loaded.rows(np.arange(V)), encoding.rows(np.arange(V)))
                read += 1
    assert refused and read


def stored(path, **changes):
    """A small file in the right format with some entries replaced; None leaves an entry out."""
    arrays = {"format": np.array("see_min encoding 1"), "slots": np.array(["tables.0"]), "tables.0": np.ones((2, 1, 3)),
              "index.0": np.array([0, 1])}
    arrays.update(changes)
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_the_small_file_itself_is_read(tmp_path):
    assert SememeEncoding.load(stored(tmp_path / "a.npz")).shape == (2, 3)


@pytest.mark.parametrize(("changes", "text"), [
    ({"format": None}, "DataError: no entry format = 'see_min encoding 1'"),
    ({"format": np.array("see_min encoding 2")}, "DataError: no entry format = 'see_min encoding 1'"),
    ({"slots": None}, "KeyError: 'slots'"),
    ({"slots": np.array("tables.0")}, "TypeError"),
    ({"slots": np.array([], dtype=str)}, "ValueError"),
    ({"slots": np.array(["tables.0", "tables.1"])}, "KeyError: 'index.1'"),
    ({"tables.0": None}, "KeyError: 'tables.0'"),
    ({"tables.0": np.ones(3)}, r"ShapeError: tables[0]: expected shape (*, *, *), got (3,)"),
    ({"tables.0": np.array([[["a"]]])}, "TypeError"),
    ({"tables.0": np.full((2, 1, 3), np.nan)}, "DataError: tables[0]: expected finite numbers, got 6"),
    ({"index.0": np.array([0, 2])}, "DataError: index[..., 0]: expected whole numbers from 0 to 1, got 2"),
    ({"index.0": np.array(["a", "b"])}, "ValueError"),
    ({"index.0": np.array(0)}, "ShapeError: index: expected shape (*, 1), got (1,)"),
    ({"carrier": np.ones((2, 3))}, "ShapeError: carrier: expected shape (3, *), got (2, 3)"),
    ({"amplitudes": np.ones((5, 1))}, "ShapeError: amplitudes: expected shape (2, 1), got (5, 1)"),
    ({"bag_vectors": np.ones((1, 3))}, "KeyError"),
    ({"bag_vectors": np.ones((1, 3)), "bag.units": np.array(0), "bag.lengths": np.array(1)}, "IndexError"),
    ({"bag_vectors": np.ones((1, 3)), "bag.units": np.array([4]), "bag.lengths": np.array([1, 0])},
     "DataError: bag: expected whole numbers from 0 to 0, got 4"),
])
def test_a_foreign_or_damaged_archive_is_named_with_what_is_wrong(changes, text, tmp_path):
    assert text in rejected(stored(tmp_path / "a.npz", **changes))


def test_files_that_are_no_archive_are_data_errors(tmp_path):
    np.savez(tmp_path / "foreign.npz", weights=np.ones(3))
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "text.npz").write_text("word 0.1 0.2\n")
    (tmp_path / "empty.npz").write_bytes(b"")
    assert "no entry format" in rejected(tmp_path / "foreign.npz")
    for name in ("array.npy", "text.npz", "empty.npz", "missing.npz"):
        rejected(tmp_path / name)
    rejected(tmp_path)  # a directory


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["tables.0", "format", "extra"])
def test_a_pickled_object_is_refused_and_never_run(name, tmp_path):
    marker = tmp_path / "marker"
    path = stored(tmp_path / "a.npz", **{name: np.array([Planted(marker)], dtype=object)})
    assert "allow_pickle" in rejected(path)
    assert not marker.exists()
    with np.load(path, allow_pickle=True) as archive:
        archive[name]
    assert marker.exists()  # the plant works where pickle is allowed


def test_save_names_a_directory_that_is_in_the_way(tmp_path):
    with pytest.raises(DataError, match="out: expected the name of a file, got the directory"):
        build().save(tmp_path)


TABLE, INDEX = np.ones((2, 3, 5)), np.zeros((7, 1), dtype=int)


@pytest.mark.parametrize(("parts", "error", "text"), [
    (dict(tables=[]), ShapeError, "tables: expected at least one slot, got none"),
    (dict(tables=[np.ones(3)]), ShapeError, r"tables\[0\]: expected shape \(\*, \*, \*\), got \(3,\)"),
    (dict(tables=[TABLE, np.ones((2, 4, 5))]), ShapeError, r"tables\[1\]: expected shape \(\*, 3, \*\), got \(2, 4, 5\)"),
    (dict(tables=[np.full((2, 3, 5), np.inf)]), DataError, r"tables\[0\]: expected finite numbers, got 30 that are"),
    (dict(index=np.zeros(7, dtype=int)), ShapeError, r"index: expected shape \(\*, 1\), got \(7,\)"),
    (dict(index=np.zeros((7, 2), dtype=int)), ShapeError, r"index: expected shape \(\*, 1\), got \(7, 2\)"),
    (dict(index=np.zeros((7, 2, 1), dtype=int)), ShapeError, r"index: expected shape \(\*, 3, 1\), got \(7, 2, 1\)"),
    (dict(index=np.zeros((7, 3, 2), dtype=int)), ShapeError, r"index: expected shape \(\*, 3, 1\), got \(7, 3, 2\)"),
    (dict(index=INDEX + 2), DataError, r"index\[..., 0\]: expected whole numbers from 0 to 1, got 2"),
    (dict(index=INDEX - 1), DataError, r"index\[..., 0\]: expected whole numbers from 0 to 1, got -1"),
    (dict(index=INDEX + 0.5), DataError, r"index\[..., 0\]: expected whole numbers from 0 to 1, got float64"),
    (dict(amplitudes=np.ones((7, 2))), ShapeError, r"amplitudes: expected shape \(7, 3\), got \(7, 2\)"),
    (dict(amplitudes=np.full((7, 3), np.nan)), DataError, "amplitudes: expected finite numbers, got 21 that are"),
    (dict(carrier=np.ones((4, 11))), ShapeError, r"carrier: expected shape \(5, \*\), got \(4, 11\)"),
    (dict(carrier=np.full((5, 11), np.nan)), DataError, "carrier: expected finite numbers, got 55 that are"),
    (dict(bag=INDEX), ShapeError, "bag: expected together with bag_vectors, got one of the two"),
    (dict(bag_vectors=np.ones((2, 5))), ShapeError, "bag: expected together with bag_vectors, got one of the two"),
    (dict(bag=INDEX[:6], bag_vectors=np.ones((2, 5))), ShapeError, r"bag: expected shape \(7, \*\), got \(6, 1\)"),
    (dict(bag=INDEX, bag_vectors=np.ones((2, 4))), ShapeError, r"bag_vectors: expected shape \(\*, 5\), got \(2, 4\)"),
    (dict(bag=INDEX, bag_vectors=np.full((2, 5), np.nan)), DataError, "bag_vectors: expected finite numbers, got 10 that are"),
    (dict(bag=INDEX + 2, bag_vectors=np.ones((2, 5))), DataError, "bag: expected whole numbers from 0 to 1, got 2"),
])
def test_parts_that_do_not_fit_are_named(parts, error, text):
    with pytest.raises(error, match=text):
        SememeEncoding(**{"tables": [TABLE], "index": INDEX, **parts})


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda e: e.rows([0, V]), DataError, "ids: expected whole numbers from 0 to 6, got 7"),
    (lambda e: e.rows([-1]), DataError, "ids: expected whole numbers from 0 to 6, got -1"),
    (lambda e: e.rows([0.0]), DataError, "ids: expected whole numbers from 0 to 6, got float64"),
    (lambda e: e.scores(np.ones((2, 29))), ShapeError, r"h: expected shape \(\*, 30\), got \(2, 29\)"),
    (lambda e: e.scores(np.ones(30)), ShapeError, r"h: expected shape \(\*, 30\), got \(30,\)"),
    (lambda e: e.scores(np.ones((2, 30)), block=0), DataError, "block: expected at least 1, got 0"),
    (lambda e: e.scores(np.ones((2, 30)), block=-1), DataError, "block: expected at least 1, got -1"),
])
def test_wrong_ids_states_and_blocks_are_named(call, error, text):
    with pytest.raises(error, match=text):
        call(build(order=3))


def test_one_array_in_two_parts_is_saved_as_both(tmp_path):
    square = np.random.default_rng(0).standard_normal((3, 3))
    bag = np.array([[0], [-1], [2]])
    encoding = SememeEncoding([np.ones((2, 3, 3))], np.array([[0], [1], [0]]), square, square, bag, square)
    encoding.save(tmp_path / "a.npz")
    loaded = SememeEncoding.load(tmp_path / "a.npz")
    assert_array_equal(loaded.rows([0, 1, 2]), encoding.rows([0, 1, 2]))
    assert loaded.floats == encoding.floats == 18 + 3 * 9
