"""What a file holds: rounded parameters, packed codes, bags stored and derived; refusals."""

import itertools
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from slow import normal, same

import see_min as see
from see_min.encoding import SememeEncoding, private_units
from see_min.errors import InputError
from see_min.storage.budget import Plan, default_bits, plans_bytes
from see_min.storage.codes import (
    bits_per_code,
    code_lengths,
    pack_bits,
    pack_codes,
    unpack_bits,
    unpack_codes,
)
from see_min.storage.encodings import direction_units, pack, quantize, rounded, unpack
from see_min.units import Annotation, assign, fill_bag, shared_units
from see_min.words.tokens import normalise
from see_min.words.vocabulary import Vocabulary

BITS = (4, 5, 8, 16)
every_bits = pytest.mark.parametrize("bits", BITS)
derived_or_not = pytest.mark.parametrize("derived", [False, True])


def vocabulary(V, notes=None, names=None):
    """Words by falling frequency; every third without annotation, when `notes` are left out."""
    names = [f"word{w}" for w in range(V)] if names is None else names
    given = [Annotation(((f"s{w % 7}", f"t{w % 5}"),) if w % 3 else ()) for w in range(V)]
    notes = given if notes is None else notes
    return Vocabulary(names, normalise(names), 1000.0 / (1 + np.arange(V)), notes)


def plans_for(V, D, ratio, derived, bits):
    words = vocabulary(V)
    return words, plans_bytes(V, D, ratio, len(shared_units(words.annotations)), derived, bits)


def built(words, plan, bits=6, seed=0):
    """Random numbers in the arrays of a plan, private words with codes 0 as a fit leaves them."""
    units = assign(words.names, words.annotations, plan, words.counts)
    (g, q), r, U = plan.sizes, plan.rank, plan.slot_units
    index = units.index.copy()
    index[..., 1] = np.random.default_rng(seed).integers(0, U, index.shape[:2])
    index[private_units(units.bag)[0]] = 0
    tables = [normal(1, r, g, seed=seed), normal(U, r, q, seed=seed + 1)]
    P = None
    if plan.projected:  # rows of unlike length, as with a metric
        P = normal(g * q, plan.dimension, seed=seed + 2) * np.geomspace(0.1, 10, g * q)[:, None]
    vectors = normal(units.bag.shape[1], g * q, seed=seed + 3)
    names = {"words": list(words.names), "slot_names": units.slot_names}
    encoding = SememeEncoding(tables, index, P, units.bag, vectors, **names)
    encoding = replace(encoding, bag_names=units.bag_names, bag_derived=plan.derived)
    return rounded(encoding, bits)


PLAN = Plan(241, 24, (4, 3), 6, 16, private=30, knowledge=9, coded=True)
PLAIN = replace(PLAN, dimension=12, projected=False)


@every_bits
def test_rounding_is_at_most_half_a_step_off_and_the_largest_is_exact(bits):
    """D89: |x - s q| <= s / 2, number by number; one step fewer would not do."""
    top = 2 ** (bits - 1) - 1
    array = normal(7, 5, 3) * np.array([1e-6, 1.0, 1e4, 0.0, 3.0])[:, None]
    q, s = quantize(array, (0, 2), bits)
    assert s.shape == (1, 5, 1) and s.dtype == np.float32 and np.abs(q).max() == top
    off = 0.0
    for u, k, c in np.ndindex(array.shape):
        step = float(s[0, k, 0])
        off = max(off, abs(array[u, k, c] - step * q[u, k, c]) / step)
    assert 0.4 < off <= 0.5 * (1 + 2e-7 * top)  # s is a float32
    for k in (0, 1, 2, 4):
        largest = np.abs(array[:, k]).max()
        assert abs(np.abs(q[:, k] * float(s[0, k, 0])).max() - largest) <= 1e-6 * largest
    assert not q[:, 3].any() and s[0, 3, 0] == 1  # a term of zeros


@every_bits
def test_rounding_twice_changes_nothing(bits):
    """D89: what was rounded has the same whole numbers and steps again; other bits have not."""
    encoding = built(vocabulary(241), PLAN, bits)
    twice = rounded(encoding, bits)
    same(encoding, twice)
    fewer = rounded(encoding, bits - 1 if bits > 4 else 5)
    assert not np.array_equal(fewer.tables[1], encoding.tables[1])
    grid = encoding.tables[1][:, 0]  # of one term: as many numbers as steps at most
    assert len(np.unique(grid)) <= 2**bits - 1
    in_units = encoding.bag_vectors[0] / direction_units(encoding.projection)
    assert len(np.unique(in_units)) <= 2**bits - 1


def test_bag_vectors_are_rounded_in_units_of_each_direction():
    """D89: c_i by loops; half a step of a vector times c_i off; without c short directions go."""
    encoding = built(vocabulary(241), PLAN, 32)
    lengths = np.geomspace(1e-3, 1e3, len(encoding.projection))  # (d',)
    encoding = replace(encoding, projection=encoding.projection * lengths[:, None])
    c = direction_units(encoding.projection)
    for row, unit in zip(encoding.projection, c):
        assert 2**-0.5 <= unit * sum(x * x for x in row) ** 0.5 <= 2**0.5 and np.log2(unit) % 1 == 0
    vectors = normal(*encoding.bag_vectors.shape, seed=9) * c
    kept = rounded(replace(encoding, bag_vectors=vectors), 8)
    units = direction_units(kept.projection)
    steps = np.abs(vectors / units).max(1, keepdims=True) / 127 * units  # (U, d')
    assert (np.abs(kept.bag_vectors - vectors) <= 0.501 * steps).all()
    same_step, s = quantize(vectors, (1,), 8)
    short = c < c.max() / 1e4
    assert short.sum() > 4 and not (same_step * s)[:, short].any()
    same(kept, rounded(kept, 8))
    plain = rounded(replace(built(vocabulary(241), PLAIN, 32), bag_vectors=vectors), 8)
    assert_array_equal(plain.bag_vectors, same_step * s.astype(float))  # no P, no units


@pytest.mark.parametrize("bits", [*BITS, 32])
@derived_or_not
def test_a_file_that_is_loaded_and_saved_again_is_the_same_file(bits, derived, tmp_path):
    """D89: byte for byte, and nothing is lost on the way."""
    words = vocabulary(241)
    encoding = built(words, replace(PLAN, derived=derived), bits)
    encoding.save(tmp_path / "a.npz")
    loaded = SememeEncoding.load(tmp_path / "a.npz", words)
    same(encoding, loaded)
    loaded.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    other = replace(loaded, projection=-loaded.projection)
    other.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() != (tmp_path / "b.npz").read_bytes()


def counted(name):
    """Whether `bytes` counts an entry of a file: not its names, shapes and checks."""
    left = ("format", "bits", "slots", "words", "bag.names", "bag.check", "bag.most", "bag.shape")
    return not (name in left or name.endswith(".shape") or name.startswith("slot.names"))


@pytest.mark.parametrize("bits", [*BITS, 32])
@derived_or_not
@pytest.mark.parametrize("private, knowledge", [(30, 9), (30, 0), (0, 0)])
def test_bytes_are_those_of_the_arrays_in_the_file(bits, derived, private, knowledge):
    """D89: array by array; with a code of a private word all codes are there."""
    plan = replace(PLAN, derived=derived, private=private, knowledge=knowledge)
    encoding = built(vocabulary(241), plan, bits)
    arrays = pack(encoding)
    assert encoding.bytes == sum(arrays[name].nbytes for name in filter(counted, arrays))
    if private:
        encoding.index[0, 2, 1] = 3
        more = pack(encoding)
        assert more["index.1"].nbytes - arrays["index.1"].nbytes == -(-241 * 6 * 4 // 8) - 211 * 3
        assert encoding.bytes == sum(more[name].nbytes for name in filter(counted, more))


@pytest.mark.parametrize("bits", range(17))
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_packed_numbers_come_back_in_as_few_bytes_as_they_need(bits, count):
    """D89: for 0 to 16 bits, against a text of binary digits."""
    numbers = np.random.default_rng(bits).integers(0, 2**bits, count)
    data = pack_bits(numbers, bits)
    assert_array_equal(unpack_bits(data, bits, count), numbers)
    text = "".join(f"{number:0{bits}b}" if bits else "" for number in numbers)
    expected = [int(text[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(text), 8)]
    assert data.tolist() == expected and data.dtype == np.uint8
    for wrong in (data[:-1], np.append(data, np.uint8(0))):
        if len(wrong) != len(data):
            with pytest.raises(InputError, match="codes: expected "):
                unpack_bits(wrong, bits, count)


def huffman_bits(counts):
    """Bits of all codes under Huffman's tree: the two rarest merge, again and again."""
    left, total = sorted(count for count in counts if count), 0
    while len(left) > 1:
        merged = left.pop(0) + left.pop(0)
        total += merged
        left = sorted([*left, merged])
    return total


@pytest.mark.parametrize("units, N", [(2, 4000), (17, 900), (256, 30000), (256, 40), (700, 5000)])
def test_codes_come_back_in_huffmans_bits_or_in_fixed_ones(units, N):
    """D96: uneven and even codes; deflate adds its tables, and never more than fixed codes are."""
    rng, bits = np.random.default_rng(units), (units - 1).bit_length()
    for power in (0.0, 1.5):
        share = 1 / np.arange(1.0, units + 1) ** power
        codes = rng.choice(units, N, p=share / share.sum())
        data = pack_codes(codes, units)
        assert_array_equal(unpack_codes(data, units, N), codes)
        least, count = -(-bits * N // 8), np.bincount(codes)
        assert len(data) <= least
        if power and 256 >= units > 2 and N > 500:
            assert huffman_bits(count) / 8 < len(data) < 1.01 * huffman_bits(count) / 8 + 200
            assert code_lengths(codes, units)[codes].sum() <= huffman_bits(count)
            assert len(data) < 0.9 * least  # what they are for
            pair = np.stack([codes, rng.permutation(units)[codes]], axis=1)  # (N, 2)
            as_they_are = 4 * len(pack_codes(pair, units)) / N
            assert abs(bits_per_code(pair, units) - huffman_bits(count) / N) < 0.1
            assert bits_per_code(pair, units) < as_they_are - 0.2
    for wrong in (data[:-1], data[: len(data) // 2]):
        with pytest.raises((InputError, zlib.error)):
            unpack_codes(wrong, units, N)
    with pytest.raises(InputError, match="codes: expected "):
        unpack_codes(pack_codes(np.zeros(9000, int), units), units, 8000)


@pytest.mark.parametrize("bits", [3, 17])
def test_other_bits_are_refused(bits):
    with pytest.raises(InputError, match=f"bits: expected 4 to 16, or 32, got {bits}"):
        rounded(built(vocabulary(241), PLAN), bits)


def test_a_table_of_several_slots_stays_one_when_rounded():
    table = normal(5, 2, 3)
    encoding = rounded(SememeEncoding([table, table], np.zeros((4, 1, 2), int)), 8)
    assert encoding.tables[0] is encoding.tables[1] and encoding.projection is None
    again = unpack(pack(encoding))
    assert again.tables[0] is again.tables[1]
    assert_array_equal(again.rows(range(4)), encoding.rows(range(4)))


def fitted(words, D=24, **options):
    E0 = np.random.default_rng(0).standard_normal((len(words), D))
    return see.encode(E0, words, 8, derived=True, sweeps=1, **options)


def test_a_derived_bag_comes_from_words_and_lexicon(tmp_path):
    """D90: the same rows to the bit, in fewer bytes than with the bag in the file."""
    words, path = vocabulary(241), tmp_path / "a.npz"
    encoding = fitted(words)
    encoding.save(path)
    with np.load(path) as stored:
        assert "bag.units" not in stored.files and "bag.private" in stored.files
    same(encoding, SememeEncoding.load(path, words))
    same(encoding, SememeEncoding.load(path, lambda names: vocabulary(len(names), names=names)))
    assert encoding.bytes < replace(encoding, bag_derived=False).bytes
    assert "sememe" in {unit.kind for unit in encoding.bag_names} and encoding.bag_derived


def changed(kind, words):
    """A vocabulary that is not the one of the fit."""
    notes, names = list(words.annotations), list(words.names)
    if kind == "shuffled":
        notes = see.shuffled(notes, 0)
    if kind == "one sememe more":
        notes[200] = Annotation((("s0", "s1", "t0"),))
    if kind == "other order":
        notes, names = notes[::-1], names[::-1]
    if kind == "two words without annotation":  # whose rows of the bag are both empty
        names[198], names[201] = names[201], names[198]
    return vocabulary(len(names), notes, names)


@pytest.mark.parametrize("kind", [
    "shuffled", "one sememe more", "other order", "two words without annotation"])
def test_a_derived_bag_of_another_lexicon_or_order_is_refused(kind, tmp_path):
    """D90: with a text that says what was expected, and so it is without any vocabulary."""
    words, path = vocabulary(241), tmp_path / "a.npz"
    fitted(words).save(path)
    with pytest.raises(InputError, match=r"expected the words (and the lexicon )?of the fit"):
        SememeEncoding.load(path, changed(kind, words))
    with pytest.raises(InputError, match="is derived: expected the vocabulary, got none"):
        SememeEncoding.load(path)
    SememeEncoding.load(path, changed("none", words))  # the control: it is the same one


def test_units_that_change_to_the_next_word_are_noticed():
    """D90: of the bags [] [u] [u] and [u] [] [u] the units alone are the same list."""
    one, none = Annotation((("s",),)), Annotation()
    notes, moved = [none, one, one], [one, none, one]
    names = ["a", "b", "c"]
    M, units = fill_bag(names, notes, [], 1)
    assert M.indices.tolist() == fill_bag(names, moved, [], 1)[0].indices.tolist() == [0, 0]
    tables = [np.ones((1, 1, 1)), np.ones((2, 1, 2))]
    encoding = SememeEncoding(tables, np.zeros((3, 1, 2), int), None, M, np.ones((1, 2)))
    arrays = pack(replace(encoding, bits=8, bag_derived=True))
    assert_array_equal(unpack(arrays, vocabulary(3, notes, names)).bag.toarray(), M.toarray())
    with pytest.raises(InputError, match="expected the words and the lexicon of the fit"):
        unpack(arrays, vocabulary(3, moved, names))


@derived_or_not
def test_equal_names_in_two_rows_have_a_private_vector_each(derived, tmp_path):
    """D90: a list of words may name one twice; rows stay rows."""
    names = [f"word{w}" for w in range(241)]
    names[2], names[5] = names[0], names[1]
    words = vocabulary(241, names=names)
    encoding = built(words, replace(PLAN, derived=derived))
    assert len(private_units(encoding.bag)[0]) == PLAN.private
    planned = replace(PLAN, derived=derived).bytes(encoding.bag.nnz, 6)
    assert encoding.bytes == planned or not derived
    encoding.save(tmp_path / "a.npz")
    same(encoding, SememeEncoding.load(tmp_path / "a.npz", words))


def with_units_there_are(plan, encoding):
    """The plan with the known units that words without a private vector share."""
    found = encoding.bag.shape[1] - plan.private
    assert found == plan.knowledge or found < plan.knowledge and len(encoding) < 20
    return replace(plan, knowledge=found)


every_size = pytest.mark.parametrize("shape, ratio", [
    ((241, 24), 3), ((241, 24), 25), ((700, 96), 10), ((20, 4), 2.5), ((12, 8), 4)])


@derived_or_not
@every_size
def test_a_plan_of_bytes_counts_what_its_encoding_takes(shape, ratio, derived):
    """D91: for every plan of the grid and several bits, codes of fixed length exactly."""
    for bits in (4, 6, 32) if ratio > 3 else (8, 16):
        words, plans = plans_for(*shape, ratio, derived, bits)
        for plan in plans:
            encoding = built(words, plan, bits)
            assert plan.bytes(encoding.bag.nnz, bits) <= 4 * shape[0] * shape[1] / ratio
            plan = replace(with_units_there_are(plan, encoding), rate=1.0)
            assert encoding.bytes == plan.bytes(encoding.bag.nnz, bits), (plan, bits)
            assert encoding.shape == shape and encoding.rank == plan.rank
            assert encoding.parameters == plan.parameters


@derived_or_not
@every_size
def test_encode_takes_the_bytes_of_one_of_its_plans(shape, ratio, derived):
    """D91: what the recipe returns, of any of its plans; codes of fixed length exactly."""
    bits = default_bits(ratio)
    words, plans = plans_for(*shape, ratio, derived, bits)
    E0 = np.random.default_rng(1).standard_normal(shape)
    encoding = see.encode(E0, words, ratio, derived=derived, sweeps=1)
    own = encoding.sizes, encoding.rank, len(encoding.tables[1])
    fitting = [plan for plan in plans if (plan.sizes, plan.rank, plan.slot_units) == own
               and plan.private <= encoding.bag.shape[1]]
    counts = [with_units_there_are(plan, encoding).bytes(encoding.bag.nnz, bits)
              for plan in fitting]
    rates = {plan.rate for plan in fitting}
    assert encoding.bytes <= 4 * shape[0] * shape[1] / ratio
    assert encoding.bytes in counts or max(rates) < 1 and 0.9 * counts[0] < encoding.bytes


def test_plans_of_bytes_never_exceed_the_budget():
    """D91: 200 plans, small vocabularies too; inner dimensions and counts within their limits.

    Where codes differ in length, all bytes but a few are spent, some on the most frequent words.
    """
    seen = uneven = 0
    cases = itertools.product((20, 241, 8000), (2, 5, 96), (1, 5, 40), (False, True), (4, 16))
    for V, D, ratio, derived, bits in cases:
        known = 900 * derived
        try:
            plans = plans_bytes(V, D, ratio, known, derived, bits)
        except InputError as error:
            assert ratio > float(str(error).split("expected 1 to ")[1].split()[0])
            continue
        for plan in plans:
            assert plan.bytes(plan.private, bits) <= 4 * V * D / ratio, plan
            if plan.rate < 1:
                assert plan.bytes(plan.private, bits) > 4 * V * D / ratio - 3
                assert plan.private > 0 or D < 96
                uneven += 1
            assert plan.inner_dim <= D and 2 <= plan.slot_units <= 256 and plan.rank >= 1
            assert plan.knowledge <= known and plan.private <= V
            assert plan.coded and plan.derived == derived and plan.units[0] == 1
        seen += len(plans)
    assert seen > 200 and uneven > 20


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_float32_numbers_of_a_file_have_the_same_file_again(bits):
    """A model rounds q s to float32; other steps than those of float32 would not come back."""
    array, top = normal(997, 7), 2 ** (bits - 1) - 1
    q, s = quantize(array, 1, bits)
    again, steps = quantize(np.float32(q * s.astype(float)), 1, bits)
    assert_array_equal(again, q)
    assert_array_equal(steps, s)
    any_step = np.arange(2**23, 2**24, 7).astype(np.float32)[:, None]  # (N, 1)
    assert (quantize(np.float32(top * any_step), 1, bits)[1] != any_step).any()


# ------------------------------------------------------------------ files that are refused


def rejected(path):
    """The text of the InputError that names the path."""
    with pytest.raises(InputError) as caught:
        SememeEncoding.load(path)
    assert str(caught.value).startswith(f"{path}: expected an encoding saved by see_min, got ")
    return str(caught.value)


def test_a_truncated_file_is_refused_at_every_length(tmp_path):
    path = tmp_path / "a.npz"
    built(vocabulary(20), replace(PLAN, vocabulary=20, private=3)).save(path)
    data = path.read_bytes()
    for length in [*range(0, len(data), 97), *range(len(data) - 30, len(data))]:
        path.write_bytes(data[:length])
        rejected(path)


def stored(path, **changes):
    """A small file in the right format with some entries replaced; None leaves an entry out."""
    arrays = {"format": np.array("see_min encoding 4"), "bits": np.array(0)}
    arrays |= {"slots": np.array(["tables.0"]), "tables.0": np.ones((3, 1, 3))}
    arrays |= {"index.shape": np.array([2, 1, 1, 2]), "index.0": pack_bits([0, 1], 2)} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def text(data):
    return np.frombuffer(data, dtype=np.uint8)


OF_BAG = {"bag_vectors": np.ones((1, 3)), "bag.shape": np.array([2, 1, 0])}
OF_BAG |= {"bag.check": np.array(0), "bag.most": np.array(1), "bag.lengths": pack_bits([1, 0], 1)}
OF_BAG["bag.units"] = pack_bits([], 0)
FEW, STEP = np.array(6), np.ones((1, 1, 1))


@pytest.mark.parametrize(("changes", "message"), [
    ({"format": np.array("see_min encoding 2")}, "InputError: no entry format"),
    ({"slots": None}, "KeyError: 'slots'"),
    ({"tables.0": np.array([[["a"]]]), "index.shape": None}, "TypeError"),
    ({"tables.0": np.full((3, 1, 3), np.nan)}, "tables[0]: expected finite numbers, got 9"),
    ({"tables.0.step": STEP, "tables.0.shape": np.array([3, 1, 3]), "bits": FEW},
     "codes: expected 7 bytes, got 3"),
    ({"tables.0.step": STEP, "tables.0.shape": np.array([10**12, 1, 3]), "bits": np.array(0)},
     "bits: expected 4 to 16, or 32, got 0"),
    ({"index.0": pack_bits([0, 3], 2)}, "index[..., 0]: expected whole numbers from 0 to 2, got 3"),
    ({"index.shape": np.array([2, 1, 1])}, "ValueError"),
    ({"index.shape": np.array([10**12, 1, 1, 0])}, "index.shape: expected at most"),
    ({"index.shape": np.array([2, 1, 1, 10**12])}, "of which 1000000000000 have any"),
    ({"index.shape": np.array([-2, 1, 1, -2])}, "index.shape: expected at most"),
    ({**OF_BAG, "bag.shape": np.array([10**12, 1, 0])}, "bag.shape: expected (2, 1), got (1000"),
    ({**OF_BAG, "bag.shape": np.array([2, 1, 10**12])}, "with 1000000000000 private vectors"),
    ({**OF_BAG, "bag.most": np.array(2**62)}, "bag.most: expected at most 1 units of a word, got"),
    ({**OF_BAG, "projection": np.ones((4, 3)), "bag_vectors": pack_bits([1, 1, 1], 4),
      "bag_vectors.shape": np.array([1, 3]), "bag_vectors.step": STEP[0], "bits": np.array(4)},
     "bag_vectors: expected shape (*, 4), got (1, 3)"),
    (OF_BAG, "a bag of other units: expected the words and the lexicon of the fit"),
    ({"words": text(b"[")}, "JSONDecodeError"),
    ({"words": text(b"[1, 2, 3]")}, "words: expected 2, one per row, got 3"),
    ({"slot.names.0": text(b"[1]")}, "slot.names.0: expected 3, one per row, got 1"),
])
def test_a_foreign_or_damaged_archive_is_named_with_what_is_wrong(changes, message, tmp_path):
    assert SememeEncoding.load(stored(tmp_path / "a.npz")).shape == (2, 3)
    assert message in rejected(stored(tmp_path / "a.npz", **changes))


def test_files_that_are_no_archive_are_refused(tmp_path):
    np.savez(tmp_path / "foreign.npz", weights=np.ones(3))
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "text.npz").write_text("word 0.1 0.2\n")
    assert "no entry format = 'see_min encoding 4'" in rejected(tmp_path / "foreign.npz")
    for name in ("array.npy", "text.npz", "missing.npz", "."):
        rejected(tmp_path / name)


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
    assert "allow_pickle" in rejected(path) and not marker.exists()
    with np.load(path, allow_pickle=True) as archive:
        archive[name]
    assert marker.exists()  # the plant works where pickle is allowed
