"""SememeEncoding: rows against loops over numpy.kron, what they touch, files, errors."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from slow import close, normal, same, slow_matrix, units_of

from see_min.encoding import SememeEncoding, coded_words, row_blocks
from see_min.errors import InputError
from see_min.units import Unit, sparse_rows

V, R, D, BAG = 7, 5, 17, 19
SIZES = {1: (3,), 2: (2, 3), 3: (2, 5, 3)}
UNITS = (11, 13, 4)
BAGS = [[0, 3, 18], [5, 7], [2], [1, 2, 4], [], [9, 10, 11], [3, 9, 18]]
KINDS = ("one", "per term", "none")
FORMS = list(itertools.product((1, 2, 3), KINDS, (False, True), ("", "bag and P")))
every_form = pytest.mark.parametrize("order, kind, shared, more", FORMS)


def build(order=3, kind="one", shared=False, more="bag and P", seed=0):
    """Random parts; shared tables take the first size and number of units in every slot."""
    rng = np.random.default_rng(seed)
    sizes = (3,) * order if shared else SIZES[order]
    counts = (V,) * order if kind == "none" else UNITS[:1] * order if shared else UNITS
    tables = [rng.standard_normal((U, R, q)) for U, q in zip(counts, sizes)]
    tables = tables[:1] * order if shared else tables
    shape = (V, R if kind == "per term" else 1)
    index = np.stack([rng.integers(0, len(table), shape) for table in tables], axis=-1)
    index = None if kind == "none" else index
    if not more:
        return SememeEncoding(tables, index)
    inner = int(np.prod(sizes))
    P, vectors = rng.standard_normal((inner, D)), rng.standard_normal((BAG, inner))
    return SememeEncoding(tables, index, P, sparse_rows(BAGS, BAG), vectors)


@every_form
def test_rows_equal_the_sum_of_kronecker_products(order, kind, shared, more):
    encoding = build(order, kind, shared, more)
    matrix = slow_matrix(encoding)
    assert encoding.shape == matrix.shape and len(encoding) == V
    close(encoding.rows(np.arange(V)), matrix)
    ids = np.array([[6, 0, 6], [3, 4, 1]])  # repeated, in no order, two axes
    close(encoding.rows(ids), matrix[ids])
    close(encoding.rows(3), matrix[3])
    assert encoding.rows(np.zeros((2, 0), dtype=int)).shape == (2, 0, matrix.shape[1])


def poison(encoding, ids):
    """NaN in every number that no word of `ids` has a part of."""
    used = {}
    for w, k in itertools.product(ids, range(R)):
        for table, u in zip(encoding.tables, units_of(encoding, w, k)):
            mask = used.setdefault(id(table), (table, np.zeros(table.shape[:2], dtype=bool)))[1]
            mask[u, k] = True
    for table, mask in used.values():
        table[~mask] = np.nan
    if encoding.bag is not None:
        encoding.bag_vectors[[u for u in range(BAG) if not any(u in BAGS[w] for w in ids)]] = np.nan


@every_form
def test_rows_touch_only_the_leaves_of_their_ids(order, kind, shared, more):
    """D12: with NaN in every leaf and bag vector of other words the rows are what they were."""
    encoding = build(order, kind, shared, more)
    ids = [4, 2]  # words with no bag unit and with one
    expected = slow_matrix(encoding)[ids]
    poison(encoding, ids)
    close(encoding.rows(ids), expected)
    assert np.isnan(encoding.rows([0])).any()  # the poison works: another word shows it


@every_form
def test_scores_equal_the_product_with_the_matrix_for_any_block(order, kind, shared, more):
    """D13: h E^T for blocks smaller than, equal to and larger than V."""
    encoding = build(order, kind, shared, more)
    matrix = slow_matrix(encoding)
    h = normal(3, matrix.shape[1], seed=1)
    expected = np.array([[sum(x * y for x, y in zip(one, row)) for row in matrix] for one in h])
    for block in (1, 2, 3, V, V + 1, 4096):
        close(encoding.scores(h, block), expected)
    assert encoding.scores(h[:0]).shape == (0, V)


def test_scores_hold_no_more_rows_than_a_block_and_round_nothing(monkeypatch):
    asked, inner_rows = [], SememeEncoding.inner_rows

    def counting(self, ids):
        asked.append(len(ids))
        return inner_rows(self, ids)

    monkeypatch.setattr(SememeEncoding, "inner_rows", counting)
    encoding = build()
    close(encoding.scores(np.eye(D, dtype=int), block=3), slow_matrix(encoding).T)  # whole numbers
    assert asked == [3, 3, 1] and row_blocks(0, 3) == []


def test_parameters_and_bytes_are_counted_part_by_part():
    assert build(shared=True, more="").parameters == 11 * R * 3
    encoding = build()
    assert encoding.parameters == R * (11 * 2 + 13 * 5 + 4 * 3) + 30 * D + BAG * 30
    codes = sum(-(-V * bits // 8) for bits in (4, 4, 2))  # of 11, 13 and 4 units
    entries = -(-V * 2 // 8) + -(-sum(map(len, BAGS)) * 5 // 8)  # lengths 0 to 3; of 19 units
    assert encoding.index_bytes == codes + entries
    assert encoding.bytes == 4 * encoding.parameters + encoding.index_bytes
    assert build(kind="none", more="").index_bytes == 0
    tables = [np.zeros((256, R, 2)), np.zeros((257, R, 2)), np.zeros((1, R, 2))]
    for terms in (1, R):
        index = np.random.default_rng(0).integers(0, [256, 257, 1], (V, terms, 3))
        expected = V * terms + -(-V * terms * 9 // 8)
        assert SememeEncoding(tables, index).index_bytes == expected


@pytest.mark.parametrize("bits", [4, 6, 16])
def test_parameters_of_few_bits_and_their_steps_are_counted_array_by_array(bits):
    encoding = build()
    numbers = [R * 11 * 2, R * 13 * 5, R * 4 * 3, 30 * D]
    total = sum(-(-number * bits // 8) for number in numbers) + -(-BAG * 30 * bits // 8)
    steps = 3 * R + 30 + BAG  # per table and term, row of P, bag vector
    encoding.bits = bits
    assert encoding.bytes == total + 4 * steps + encoding.index_bytes
    encoding.bits = 32
    assert encoding.bytes == 4 * encoding.parameters + encoding.index_bytes


def test_words_with_a_private_vector_store_no_codes_if_all_of_theirs_are_0():
    """The private words are 0, 1, 3 and 5; one code other than 0 among theirs, and all count."""
    encoding = build()
    full = encoding.index_bytes
    encoding.index[[0, 1, 3, 5]] = 0
    saved = sum(-(-V * bits // 8) - -(-3 * bits // 8) for bits in (4, 4, 2))
    assert encoding.index_bytes == full - saved
    assert coded_words(encoding).tolist() == [2, 4, 6]
    encoding.index[5, 0, 1] = 1
    assert encoding.index_bytes == full and coded_words(encoding).tolist() == list(range(V))
    encoding.bag_derived = True  # then a file names the private words, in 3 bits each
    assert encoding.index_bytes == sum(-(-V * bits // 8) for bits in (4, 4, 2)) + 2


@every_form
def test_save_and_load_change_no_number(order, kind, shared, more, tmp_path):
    """D14: every array comes back bit by bit, shared tables stay shared, the rows are the same."""
    encoding = build(order, kind, shared, more)
    encoding.tables[0][0, 0, :2] = [-0.0, 5e-324]  # what text or a narrower type would lose
    encoding.words = [f"wörd{w}" for w in range(V)]
    encoding.slot_names = [[Unit("bucket", f"é:{u}") for u in range(len(table))]
                           for table in encoding.tables]
    encoding.bag_names = [Unit("sememe", str(u)) for u in range(BAG)] if more else None
    encoding.save(tmp_path / "a.npz")
    loaded = SememeEncoding.load(tmp_path / "a.npz")
    same(loaded, encoding)
    for name, array in encoding.arrays.items():  # -0.0 == 0.0
        assert array.tobytes() == loaded.arrays[name].tobytes()
    assert [table is loaded.tables[0] for table in loaded.tables] == [True] + [shared] * (order - 1)
    assert_array_equal(loaded.rows(np.arange(V)), encoding.rows(np.arange(V)))


def test_corners_of_a_file_survive(tmp_path):
    """Some slots shared; the last unit that has 8 bits; single precision; one array twice."""
    path, (a, b) = tmp_path / "a.npz", normal(2, 3, R, 2)
    encodings = [SememeEncoding([a, b, a], np.array([[[0, 1, 2]], [[2, 0, 1]]]))]
    table = np.arange(256, dtype=np.float32)[:, None, None]
    encodings.append(SememeEncoding([table], np.array([[[0]], [[255]]])))
    square = normal(3, 3)
    bag = sparse_rows([[0], [2]], 3)
    encodings.append(SememeEncoding([np.ones((2, 3, 3))], None, square, bag, square))
    for encoding in encodings:
        encoding.save(path)
        loaded = SememeEncoding.load(path)
        assert_array_equal(loaded.rows([0, 1]), encoding.rows([0, 1]), strict=True)
        assert loaded.parameters == encoding.parameters
        assert [t is loaded.tables[0] for t in loaded.tables] == [
            t is encoding.tables[0] for t in encoding.tables
        ]


TABLE, INDEX, M = np.ones((2, 3, 5)), np.zeros((7, 1, 1), dtype=int), sparse_rows([[0]] * 7, 2)
VECTORS = np.ones((2, 5))
SHAPE = r"expected shape \(\*, 3, \*\), got \(2, 4, 5\)"


@pytest.mark.parametrize(("parts", "text"), [
    ({"tables": []}, "tables: expected at least one slot, got none"),
    ({"tables": [np.ones(3)]}, r"tables\[0\]: expected shape \(\*, \*, \*\), got \(3,\)"),
    ({"tables": [TABLE, np.ones((2, 4, 5))], "index": np.zeros((7, 1, 2), int)}, SHAPE),
    ({"tables": [TABLE, TABLE[:1]], "index": None}, "index: expected one, as slots have other"),
    ({"index": INDEX[..., 0]}, r"index: expected shape \(\*, \*, 1\), got \(7, 1\)"),
    ({"index": np.zeros((7, 2, 1), int)}, "index: expected 1 or 3 terms, got 2"),
    ({"index": INDEX + 2}, r"index\[..., 0\]: expected whole numbers from 0 to 1, got 2"),
    ({"projection": np.ones((4, 11))}, r"projection: expected shape \(5, \*\), got \(4, 11\)"),
    ({"bag": M}, "bag: expected together with bag_vectors, got one of the two"),
    ({"bag": M[:6], "bag_vectors": VECTORS}, r"bag: expected shape \(7, 2\), got \(6, 2\)"),
    ({"bag": M, "bag_vectors": VECTORS * np.nan}, "bag_vectors: expected finite numbers, got 10"),
])
def test_parts_that_do_not_fit_are_named(parts, text):
    with pytest.raises(InputError, match=text):
        SememeEncoding(**{"tables": [TABLE], "index": INDEX, **parts})


@pytest.mark.parametrize(("call", "text"), [
    (lambda e: e.rows([0, V]), "ids: expected whole numbers from 0 to 6, got 7"),
    (lambda e: e.scores(np.ones((2, 29))), r"h: expected shape \(\*, 17\), got \(2, 29\)"),
    (lambda e: e.scores(np.ones((2, D)), block=0), "block: expected at least 1, got 0"),
])
def test_wrong_ids_states_and_blocks_are_named(call, text):
    with pytest.raises(InputError, match=text):
        call(build())
