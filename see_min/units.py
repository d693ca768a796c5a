"""Words -> units: which sememes, morphemes, private vectors and hash buckets a word is made of.

`assign` turns annotated words and a plan into `Units`: an index for the slots of the products and a
sparse 0/1 matrix M, the bag. The papers' rule that places units in slots is not known; ours is
here. What knowledge cannot fill is filled by a *hash bucket*: a pad shared by all short words would
confine them to one small subspace.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse


class Unit(NamedTuple):
    """What words share vectors by.

    Kinds: sememe; stem and affix (the first and the further morphemes); word (the private vector of
    one word); frequency (the bin of ranks between two powers of two); bucket.

    >>> str(Unit("sememe", "calculate")), Unit.parse("affix:s")
    ('sememe:calculate', Unit(kind='affix', name='s'))
    """

    kind: str
    name: str

    def __str__(self):
        return f"{self.kind}:{self.name}"

    @classmethod
    def parse(cls, text):
        """The unit that `str` wrote."""
        kind, _, name = text.partition(":")
        return cls(kind, name)


@dataclass(frozen=True)
class Annotation:
    """What is known of a word: senses (tuples of sememes, head first), morphemes (stem first)."""

    senses: tuple = ()
    morphemes: tuple = ()

    @property
    def units(self):
        """Each unit once: the sememes of all senses, then the morphemes.

        >>> [str(u) for u in Annotation((("part", "more"), ("part",)), ("add", "s")).units]
        ['sememe:part', 'sememe:more', 'stem:add', 'affix:s']
        """
        sememes = [Unit("sememe", name) for sense in self.senses for name in sense]
        return tuple(dict.fromkeys(sememes + morpheme_units(self.morphemes)))


@dataclass
class Units:
    """The index of an encoding, its bag, and the units behind the numbers.

    Attributes
    ----------
    index : int array (V, k, n)
        The unit of each word, term and slot; k is r, or 1 where all terms share it.
    free : bool array (V, k, n)
        Entries that hold a hash bucket: a fit may reassign them.
    buckets : list of n pairs, first and last + 1 number of each slot's hash buckets
    slot_names : list of n lists of Unit
    bag : sparse array M (V, U), optional
        1 where a word adds the vector of a unit.
    bag_names : list of U Unit, optional
    """

    index: np.ndarray
    free: np.ndarray
    buckets: list
    slot_names: list
    bag: scipy.sparse.csr_array | None = None
    bag_names: list | None = None


def annotate(words, lexicon, segments):
    """Senses (of a Lexicon) and morphemes (one list per word) of every word, as Annotations."""
    senses = (tuple(map(tuple, lexicon.senses(word))) for word in words)
    return [Annotation(own, tuple(parts)) for own, parts in zip(senses, segments)]


def bucket(text, n_buckets):
    """A number from 0 to n_buckets - 1, the same on every machine.

    BLAKE2 and not a CRC: a CRC is linear, so the numbers of "word 0" would determine those of "word
    1".
    """
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % max(n_buckets, 1)


def morpheme_units(morphemes):
    """Units of morphemes; a stem and an affix of the same letters differ, and "" is no stem."""
    return [Unit("affix" if i else "stem", name) for i, name in enumerate(morphemes) if name]


def shared_units(annotations):
    """Units that at least two words have, the most common first (ties by kind and name)."""
    return _shared(annotation.units for annotation in annotations)


def _shared(owned):
    count = Counter(unit for units in owned for unit in units)
    ranked = sorted(count.items(), key=lambda item: (-item[1], item[0]))
    return [unit for unit, times in ranked if times > 1]


def assign(words, annotations, plan, counts=None):
    """Put every word's units into the bag and the slots of a plan.

    Parameters
    ----------
    words : list of V str
    annotations : list of V Annotation
    plan : see_min.storage.budget.Plan
        Its form says where units stand: "see" adds known units up and hashes words into slots;
        "morphemes" (MorphTE) and "paper" (a sense per term) put known units into slots.
    counts : array (V,), optional
        Frequent words get the private vectors. Left out, words stand by falling frequency.
    """
    counts = np.zeros(len(words)) if counts is None else np.asarray(counts)
    ranked = np.argsort(-counts, kind="stable")  # row numbers, the most frequent first
    if plan.form == "see":
        return _assign_see(words, annotations, plan, ranked)
    pools = _sense_pools(annotations) if plan.form == "paper" else _morpheme_pools(annotations)
    return _fill_slots(words, pools, plan, ranked)


def _assign_see(words, annotations, plan, ranked):
    """Ours: known units in the bag, every slot of the products free for the fit.

    Where slot 1 has one unit, a start gives the codes of slot 2; else words are hashed into both.
    """
    n, V = len(plan.sizes), len(words)
    terms = plan.rank if plan.per_term else 1
    slots = [[Unit("bucket", str(u)) for u in range(U)] for U in plan.units]
    free, buckets = np.ones((V, terms, n), dtype=bool), [(0, U) for U in plan.units]
    if plan.coded:
        index = np.zeros((V, terms, n), dtype=int)
        private = np.sort(ranked[: plan.private])  # row numbers
        bag, names = fill_bag(words, annotations, private, plan.knowledge)
    else:
        places = [(k, j, U) for k in range(terms) for j, U in enumerate(plan.units)]
        hashed = [bucket(f"{word} {k} {j}", U) for word in words for k, j, U in places]
        index = np.array(hashed).reshape(V, terms, n)
        bag, names = _fill_binned_bag(words, annotations, plan, ranked)
    return Units(index, free, buckets, slots, bag, names)


def fill_bag(words, annotations, private, knowledge):
    """M (V, U) and its units: the rows `private` have a vector each, all others share known units.

    No unit is named anywhere: words, annotations, `private` and a number are enough for M.
    """
    owners = set(np.asarray(private).tolist())
    rest = [annotation for w, annotation in enumerate(annotations) if w not in owners]
    owned = [annotation.units for annotation in annotations]
    return _bag(words, private, owned, shared_units(rest)[:knowledge])


def _bag(words, private, owned, shared):
    """M (V, U) and its units: rows `private` have a vector each, others the `shared` of theirs."""
    own = {w: u for u, w in enumerate(np.asarray(private).tolist())}  # by row: names may be equal
    number = {unit: u for u, unit in enumerate(shared, start=len(own))}
    rows = [
        [own[w]] if w in own else [number[unit] for unit in units if unit in number]
        for w, units in enumerate(owned)
    ]
    names = [Unit("word", words[w]) for w in own] + shared
    return sparse_rows(rows, len(names)), names


def _fill_binned_bag(words, annotations, plan, ranked):
    """M (V, U) and its units: a word with a private vector has no other; the rest share theirs.

    Every word without a private vector has a frequency bin, one per doubling of the rank: what
    words of one frequency have in common need not be learned by each. Knowledge that is not there
    leaves its vectors to further private ones.
    """
    bins = [Unit("frequency", str(2**k)) for k in range(len(words).bit_length())]
    rare = ranked[max(0, plan.private - len(bins)) :]
    known = shared_units([annotations[w] for w in rare])[: plan.knowledge]
    total = plan.private + plan.knowledge
    n_private = max(0, total - len(known) - len(bins))
    owned = [None] * len(words)
    for rank, w in enumerate(ranked, start=1):
        owned[w] = [Unit("frequency", str(2 ** (rank.bit_length() - 1))), *annotations[w].units]
    return _bag(words, ranked[:n_private], owned, (known + bins)[: total - n_private])


def _morpheme_pools(annotations):
    """MorphTE's way: slot j holds morpheme j in every term."""
    return [[morpheme_units(annotation.morphemes)] for annotation in annotations]


def _sense_pools(annotations):
    """The papers' way as we read it: a term per sense; stem, its sememes, affixes in slots."""
    pools = []
    for annotation in annotations:
        parts = morpheme_units(annotation.morphemes)
        senses = [[Unit("sememe", name) for name in sense] for sense in annotation.senses or ((),)]
        pools.append([parts[:1] + sememes + parts[1:] for sememes in senses])
    return pools


def _fill_slots(words, pools, plan, ranked):
    """Per slot: private units of the most frequent words, known units, then hash buckets.

    `pools` holds one list of units per sense of a word; term k takes sense k mod their number.
    """
    n, r, U = len(plan.sizes), plan.rank, plan.slot_units
    terms = r if any(len(pool) > 1 for pool in pools) else 1
    index = np.zeros((len(words), terms, n), dtype=int)
    free = np.zeros_like(index, dtype=bool)
    names, buckets = [], []
    for j in range(n):
        known = _shared({one[j] for one in pool if len(one) > j} for pool in pools)
        slot = [Unit("word", words[w]) for w in ranked[: plan.private]] + known[: plan.knowledge]
        number, first = {unit: u for u, unit in enumerate(slot)}, len(slot)
        for w, (word, pool) in enumerate(zip(words, pools)):
            private = number.get(Unit("word", word))
            for k in range(terms):
                one = pool[k % len(pool)]
                unit = private if private is not None or len(one) <= j else number.get(one[j])
                free[w, k, j] = unit is None
                hashed = first + bucket(f"{word} {k} {j}", U - first)
                index[w, k, j] = hashed if unit is None else unit
        names.append(slot + [Unit("bucket", str(u)) for u in range(U - first)])
        buckets.append((first, U))
    return Units(index, free, buckets, names)


def sparse_rows(rows, n_columns):
    """Lists of column numbers as a sparse 0/1 matrix, one row per list.

    >>> sparse_rows([[2], [], [0, 1]], 3).toarray().astype(int)
    array([[0, 0, 1],
           [0, 0, 0],
           [1, 1, 0]])
    """
    lengths = [len(row) for row in rows]
    columns = np.array([u for row in rows for u in row], dtype=np.int64)
    parts = np.ones(len(columns)), columns, np.append(0, np.cumsum(lengths, dtype=np.int64))
    return scipy.sparse.csr_array(parts, shape=(len(rows), n_columns))


def shuffled(annotations, seed):
    """A control: the same annotations, given to other words. Words without any stay without."""
    known = [w for w, annotation in enumerate(annotations) if annotation.units]
    permuted = np.random.default_rng(seed).permutation(known)
    out = list(annotations)
    for target, source in zip(known, permuted):
        out[target] = annotations[source]
    return out


def random_units(words, annotations, n_units):
    """A control: as many units per word as before, named by hashes of the word: no knowledge.

    All are of one kind, so that there are at most `n_units` different ones.

    >>> [str(u) for u in random_units(["add"], [Annotation(morphemes=("add", "ed"))], 9)[0].units]
    ['sememe:1', 'sememe:6']
    """
    out = []
    for word, annotation in zip(words, annotations):
        numbers = []
        for i in range(len(annotation.units)):
            number = bucket(f"{word} {i}", n_units)
            while number in numbers and len(numbers) < n_units:  # no word has one unit twice
                number = (number + 1) % n_units
            numbers.append(number)
        out.append(Annotation(senses=(tuple(map(str, numbers)),)) if numbers else Annotation())
    return out
