"""Words -> units: which sememes, morphemes, back-off buckets and identity units a word is made of.

A policy is a function from annotated words and a plan to `Units`. What knowledge cannot fill is filled by a
*back-off unit*, a hash of the word into a bounded number of buckets: a pad shared by all short words would confine them
to one small subspace. The rule that places units in slots is ours: the paper's is not known.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np

from see_min.checks import DataError


@dataclass(frozen=True)
class Annotation:
    """What is known of a word: its senses, each a tuple of sememes (head first), and its morphemes (stem first)."""

    senses: tuple = ()
    morphemes: tuple = ()

    @property
    def units(self):
        """All unit names once: sememes of all senses, then morphemes.

        Examples
        --------
        >>> Annotation((("part", "more"), ("part",)), ("add", "s")).units
        ('s:part', 's:more', 'm:add', '+s')
        """
        sememes = [f"s:{name}" for sense in self.senses for name in sense]
        return tuple(dict.fromkeys(sememes + morpheme_units(self.morphemes)))


@dataclass
class Units:
    """The index of an encoding and the names behind its numbers.

    Attributes
    ----------
    index : int array (V, n) or (V, r, n)
    free : bool array, same shape
        Entries that hold a back-off unit: a fit may re-deal them.
    backoff : list of n pairs
        First and last + 1 number of the back-off units of each slot.
    names : list of n lists of str
        Unit names a slot: ``=word`` identity, ``#rank`` rarity, ``s:`` sememe, ``m:`` stem,
        ``+`` further morpheme, ``~`` back-off, ``anchor`` the unit that all words share in a knowledge term.
    bag : int array (V, m) or None
    bag_names : list of str
    """

    index: np.ndarray
    free: np.ndarray
    backoff: list
    names: list
    bag: np.ndarray | None = None
    bag_names: tuple = ()


def annotate(words, lexicon, segments):
    """Put together senses (of a Lexicon) and morphemes (of `morphemes.segment`) of every word."""
    return [Annotation(tuple(map(tuple, lexicon.senses(word))), tuple(parts)) for word, parts in zip(words, segments)]


def bucket(text, buckets):
    """A number from 0 to buckets - 1, the same on every machine.

    BLAKE2 and not a CRC: a CRC is linear, so the numbers of "word 0" and "word 1" differ by one constant and, among 256
    buckets, each of the two would determine the other.
    """
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % max(buckets, 1)


def morpheme_units(morphemes):
    """Unit names of a word's morphemes: a stem and an affix of the same letters are different units; "" is no stem.

    Examples
    --------
    >>> morpheme_units(("play", "ing")), morpheme_units(("", "ing"))
    (['m:play', '+ing'], ['+ing'])
    """
    return [f"+{name}" if i else f"m:{name}" for i, name in enumerate(morphemes) if name]


def shared_units(annotations):
    """Unit names that at least two words have, the most common first (ties by name)."""
    count = Counter(name for annotation in annotations for name in annotation.units)
    return [name for name, times in sorted(count.items(), key=lambda item: (-item[1], item[0])) if times > 1]


def additive(words, annotations, plan):
    """The default (ours): knowledge, identity and rarity units in the bag, every slot of the product a free back-off unit.

    A frequent word has an identity unit and no other in the bag. The others have the sememes of all their senses, their
    morphemes, and the rarity unit of their rank, one for each doubling: what words of one frequency have in common
    need not be learned by each.
    """
    n, U = len(plan.sizes), plan.slot_units
    index = np.array([[bucket(f"{word} {j}", U) for j in range(n)] for word in words])  # (V, n)
    units = Units(index, np.ones_like(index, dtype=bool), [(0, U)] * n, [[f"~{u}" for u in range(U)]] * n)
    if not plan.bag:
        return units
    rare = [f"#{2**k}" for k in range(len(words).bit_length())]  # ranks 2^k .. 2^(k+1) - 1, counted from 1
    total = plan.identity + plan.knowledge
    known = shared_units(annotations[max(0, plan.identity - len(rare)) :])[: plan.knowledge]
    identity = [f"={word}" for word in words[: max(0, total - len(known) - len(rare))]]  # what knowledge does not need, too
    number = {name: i for i, name in enumerate((identity + known + rare)[:total])}
    lists = []
    for rank, (word, annotation) in enumerate(zip(words, annotations), start=1):
        owns = f"={word}" in number
        own = f"={word}" if owns else f"#{2 ** (rank.bit_length() - 1)}"
        further = () if owns else annotation.units  # what a word owns outright leaves nothing to share
        lists.append([number[name] for name in (own, *further) if name in number])
    units.bag, units.bag_names = padded(lists), tuple(number)
    return units


def superposed(words, annotations, plan):
    """`additive`, but every term has back-off units of its own: a word is one of U^(n r) sums of products, not of U^n."""
    units = additive(words, annotations, plan)
    n, U = len(plan.sizes), plan.slot_units
    units.index = np.array([[[bucket(f"{word} {k} {j}", U) for j in range(n)] for k in range(plan.rank)] for word in words])
    units.free = np.ones_like(units.index, dtype=bool)  # (V, r, n)
    return units


def backoff(words, annotations, plan):
    """The default form without any knowledge: `additive` of words about which nothing is known."""
    return additive(words, [Annotation()] * len(words), plan)


def undealt(words, annotations, plan):
    """`additive`, but the slots of the product stay as the hash dealt them: shows what re-dealing is worth."""
    units = additive(words, annotations, plan)
    units.free[:] = False
    return units


def morphemes(words, annotations, plan):
    """MorphTE's way: slot j holds morpheme j in every term; back-off where a word has fewer."""
    pools = [[morpheme_units(annotation.morphemes)] for annotation in annotations]
    return fill(words, pools, plan)


def senses(words, annotations, plan):
    """Senses as terms: term k takes sense k mod (number of senses); slots hold the stem, the sense's sememes, the affixes."""
    pools = []
    for annotation in annotations:
        stem, affixes = morpheme_units(annotation.morphemes)[:1], morpheme_units(annotation.morphemes)[1:]
        pools.append([stem + [f"s:{name}" for name in sense] + affixes for sense in annotation.senses or ((),)])
    return fill(words, pools, plan)


def mixed(words, annotations, plan):
    """Morphemes, then sememes: slots hold the stem, the affixes, then the sememes of all senses, in every term."""
    pools = []
    for annotation in annotations:
        known = morpheme_units(annotation.morphemes)
        pools.append([known + [name for name in annotation.units if name not in known]])
    return fill(words, pools, plan)


def terms(words, annotations, plan):
    """Knowledge terms and identity terms: in each of the first r/2 terms only slot 1 varies, and holds one unit that is known.

    The other slots of such a term hold one anchor unit for all words. The further terms, and slot 1 where no unit
    is left, have back-off units that a fit may re-deal.
    """
    n, r, U = len(plan.sizes), plan.rank, plan.slot_units - 1  # the last unit is the anchor
    known = {name: i for i, name in enumerate(shared_units(annotations)[: plan.knowledge])}
    low = [len(known)] + [0] * (n - 1)
    deal = lambda word, k: [low[j] + bucket(f"{word} {k} {j}", U - low[j]) for j in range(n)]
    index = np.array([[deal(word, k) for k in range(r)] for word in words])  # (V, r, n)
    free, half = np.ones_like(index, dtype=bool), (r + 1) // 2
    index[:, :half, 1:], free[:, :half, 1:] = U, False
    for w, annotation in enumerate(annotations):
        units = [known[name] for name in annotation.units if name in known][:half]
        index[w, : len(units), 0], free[w, : len(units), 0] = units, False
    names = [[*known] * (j == 0) + [f"~{u}" for u in range(U - low[j])] + ["anchor"] for j in range(n)]
    return Units(index, free, [(first, U) for first in low], names)


def fill(words, pools, plan):
    """Put pools of unit names into the slots of a plan: identity units first, then known units, else back-off.

    Parameters
    ----------
    words : list of str, by falling frequency
    pools : a list a word, of one pool of unit names a sense
    plan : Plan

    Returns
    -------
    Units with an index (V, n) if no word has two pools, else (V, r, n)
    """
    n, r, U = len(plan.sizes), plan.rank, plan.slot_units
    terms = r if any(len(pool) > 1 for pool in pools) else 1
    index = np.zeros((len(words), terms, n), dtype=int)
    free = np.zeros_like(index, dtype=bool)
    names, backoffs = [], []
    for j in range(n):
        count = Counter(name for pool in pools for name in {one[j] for one in pool if len(one) > j})
        known = [name for name, times in sorted(count.items(), key=lambda item: (-item[1], item[0])) if times > 1]
        slot = [f"={word}" for word in words[: plan.identity]] + known[: plan.knowledge]
        number, first = {name: i for i, name in enumerate(slot)}, len(slot)
        for w, (word, pool) in enumerate(zip(words, pools)):
            for k in range(terms):
                one = pool[k % len(pool)]
                known_unit = number.get(f"={word}", number.get(one[j]) if len(one) > j else None)
                free[w, k, j] = known_unit is None
                index[w, k, j] = first + bucket(f"{word} {k} {j}", U - first) if known_unit is None else known_unit
        names.append(slot + [f"~{u}" for u in range(U - first)])
        backoffs.append((first, U))
    squeeze = (lambda array: array[:, 0]) if terms == 1 else (lambda array: array)
    return Units(squeeze(index), squeeze(free), backoffs, names)


# for plan_general, which knows "amplitudes", "shared" (one table for all slots) and "superposed" from the default
GENERAL = {"additive": additive, "amplitudes": additive, "shared": additive, "superposed": superposed, "backoff": backoff,
           "undealt": undealt}
# the others put all units in slots: for plan_product
POLICIES = {**GENERAL, "morphemes": morphemes, "mixed": mixed, "senses": senses, "terms": terms}


def assign(words, annotations, plan, policy="additive"):
    """Apply a policy by name.

    Raises
    ------
    DataError
        As `check_policy`.
    """
    return POLICIES[check_policy(policy)](words, annotations, plan)


def check_policy(name):
    """Return `name` if it is a policy.

    Raises
    ------
    DataError
        If it is not; the text lists them.
    """
    if name not in POLICIES:
        raise DataError(f"policy: expected one of {', '.join(POLICIES)}, got {name!r}")
    return name


def padded(lists):
    """Lists of unit numbers as one int array (V, m), short ones filled with -1.

    Examples
    --------
    >>> padded([[3], [], [1, 2]])
    array([[ 3, -1],
           [-1, -1],
           [ 1,  2]])
    """
    out = np.full((len(lists), max(1, *map(len, lists))), -1)
    for row, units in zip(out, lists):
        row[: len(units)] = units
    return out
