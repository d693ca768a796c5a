"""What an encoding costs, from formulas, and the plan that meets a ratio.

Floats are numbers kept (leaf tables, bag vectors, amplitudes, carrier). Bytes add the index. FLOPs count a
multiplication and an addition as two.
"""

from dataclasses import dataclass, replace
from functools import cache
from math import ceil, floor, prod, sqrt

from see_min.checks import DataError
from see_min.encoding import smallest
from see_min.units import GENERAL

WIDTH = 0.9  # d' of the carrier in units of D / sqrt(ratio); 0.8 to 1.05 differed little
KNOWLEDGE, PRODUCT = 1 / 3, 1 / 8  # shares of what the carrier leaves; identity units have the rest
WIDE, TERMS, CODES = 1.5, 16, 256  # where every term has units of its own: d' as above, r, and U at most: entries of one byte


@dataclass(frozen=True)
class Plan:
    """Sizes of an encoding, enough to count it without building it.

    Attributes
    ----------
    vocabulary, dimension : int
        V and D.
    sizes : tuple of int
        Leaf dimensions (q_1, ..., q_n).
    rank : int
        r.
    slot_units : int
        U, the number of units of every slot.
    identity, knowledge : int
        Units of one frequent word, and sememes and morphemes: in the bag, or, without one, among a slot's units.
    carrier, amplitudes, bag : bool
        Whether the encoding has the part.
    shared : bool
        Whether one table serves all slots; all q_j are equal then.

    Examples
    --------
    >>> Plan(30428, 256, (4, 4, 4, 4), 1, 30428).floats        # word2ket, every word its own four leaves
    486848
    >>> Plan(8848, 512, (8, 8, 8), 7, 3013, shared=True).floats  # MorphTE, one table for all slots
    168728
    """

    vocabulary: int
    dimension: int
    sizes: tuple
    rank: int
    slot_units: int
    identity: int = 0
    knowledge: int = 0
    carrier: bool = False
    amplitudes: bool = False
    bag: bool = False
    shared: bool = False

    @property
    def inner(self):
        """d' = prod q_j."""
        return prod(self.sizes)

    @property
    def floats(self):
        """r sum_j U q_j (r U q if shared)  + V r (amplitudes)  + d' D (carrier)  + d' (identity + knowledge) (bag)."""
        return (
            self.rank * self.slot_units * self.widths
            + self.amplitudes * self.vocabulary * self.rank
            + self.carrier * self.inner * self.dimension
            + self.bag * self.inner * (self.identity + self.knowledge)
        )

    @property
    def widths(self):
        """Numbers a unit owns in a term: sum_j q_j, or q if one table serves all slots."""
        return self.sizes[0] if self.shared else sum(self.sizes)

    @property
    def ratio(self):
        """V D / floats."""
        return self.vocabulary * self.dimension / self.floats

    def bytes(self, bag_entries=0, terms=1):
        """4 a float, and the index: the smallest integer type for V n terms entries and, with a bag, its entries and V lengths.

        Parameters
        ----------
        bag_entries : int
            How many units the bags of all words hold together; it depends on the words, not on the plan.
        terms : int
            1 for an index (V, n); r for an index (V, r, n).

        Examples
        --------
        >>> Plan(4000, 192, (8, 6, 4), 2, 533).bytes(terms=2) - 4 * Plan(4000, 192, (8, 6, 4), 2, 533).floats
        48000
        """
        index = self.vocabulary * len(self.sizes) * terms * smallest(self.slot_units).itemsize
        index += self.bag * (self.vocabulary + bag_entries * smallest(self.identity + self.knowledge).itemsize)
        return 4 * self.floats + index

    @property
    def lookup_flops(self):
        """FLOPs of one row: the product of each half of the slots, their batched product over terms, the carrier.

        Without the bag, which adds d' for each unit of the word.
        """
        half = len(self.sizes) // 2
        partial = sum(self.rank * prod(part[:i]) for part in (self.sizes[:half], self.sizes[half:])
                      for i in range(2, len(part) + 1))  # multiplications of the Kronecker products of each half
        terms = 2 * self.rank * self.inner if half else self.rank * self.inner
        return partial + terms + self.amplitudes * self.rank * self.sizes[0] + 2 * self.carrier * self.inner * self.dimension

    @property
    def head_flops(self):
        """FLOPs of the scores of one hidden state when the rows of all words are at hand: carrier, then V products."""
        return 2 * self.carrier * self.inner * self.dimension + 2 * self.vocabulary * self.inner


@cache
def leaf_sizes(dimension, order):
    """The most even exact factorisation of `dimension` into `order` leaf sizes, largest first.

    Examples
    --------
    >>> leaf_sizes(384, 3), leaf_sizes(64, 2), leaf_sizes(10, 3)
    ((8, 8, 6), (8, 8), (5, 2, 1))
    """
    if order == 1:
        return (dimension,)
    splits = ((q, *leaf_sizes(dimension // q, order - 1)) for q in range(1, dimension + 1) if dimension % q == 0)
    return min((tuple(sorted(split, reverse=True)) for split in splits), key=lambda split: (sum(split), split))


def low_rank(vocabulary, dimension, ratio):
    """The smallest rank of factors (V, r) and (r, D) that keeps at least 1/ratio of the floats.

    Rounded up, so that the control never has fewer floats than what it is compared with. A DataError if the ratio is below 1 or
    beyond the largest, V D / (V + D) at rank 1.

    Examples
    --------
    >>> low_rank(4000, 192, 10), low_rank(4000, 192, 40)
    (19, 5)
    """
    largest = vocabulary * dimension / (vocabulary + dimension)
    check_ratio(ratio, largest, "low-rank factors")
    return min(vocabulary, dimension, ceil(largest / ratio))


def plan_general(vocabulary, dimension, ratio, order=2, known=0, amplitudes=False, shared=False, superposed=False):
    """The default form (ours): a carrier, a bag of identity and knowledge units, a product of back-off units.

    The carrier has about 0.9 D / sqrt(ratio) dimensions. Of what it leaves, a third goes to knowledge units (as far as `known`
    units exist), an eighth to the product, and the rest to identity units. A slot has about 3 sqrt(V) units, some ten pairs
    for every word. Where every term has units of its own, r choices tell a word apart: the carrier is wider, and a slot has at
    most 256 units. These numbers worked well among the few that were tried (docs/results.md) and are not derived.

    Parameters
    ----------
    vocabulary, dimension : int
    ratio : float
    order : int
    known : int
        How many knowledge units the vocabulary offers.
    amplitudes : bool
        Give every word its own amplitudes, at V r floats.
    shared : bool
        One table for all slots; d' is then a power q^n.
    superposed : bool
        Every term has units of its own: an index (V, r, n).

    Returns
    -------
    Plan
        With ``plan.floats <= V D / ratio``.

    Raises
    ------
    DataError
        If the ratio is below 1 or beyond the largest that the form allows.

    Examples
    --------
    >>> plan = plan_general(4000, 192, 10, known=900)
    >>> plan.sizes, plan.floats <= 76800
    ((8, 7), True)
    """
    floor = 2**order * dimension + 4 * order + amplitudes * vocabulary  # leaves of two numbers, two units a slot, one term
    check_ratio(ratio, vocabulary * dimension / floor, f"the default form of order {order}")
    budget = vocabulary * dimension / ratio
    width = WIDE if superposed else WIDTH
    inner = inner_dimension(dimension, ratio, order, budget, floor - 2**order * dimension, width)
    sizes = (floor_root(inner, order),) * order if shared else leaf_sizes(inner, order)
    plan = Plan(vocabulary, dimension, sizes, 1, 1, carrier=True, amplitudes=amplitudes, bag=True, shared=shared)
    inner, widths = plan.inner, plan.widths
    left = budget - inner * dimension
    knowledge = min(known, int(KNOWLEDGE * left / inner))
    rank = max(1, round(PRODUCT * left / (3 * sqrt(vocabulary) * widths)))
    if superposed:
        rank = max(1, min(TERMS, int(PRODUCT * left / (8 * widths))))  # eight units a slot, or fewer terms
    if amplitudes:
        rank = max(1, int(left / 4 / vocabulary))
        left -= rank * vocabulary
    most = min(vocabulary, CODES) if superposed else vocabulary
    slot_units = min(most, max(2, int(PRODUCT * left / (rank * widths))))
    left -= rank * slot_units * widths
    knowledge = max(0, min(knowledge, int(left / inner)))
    identity = min(vocabulary, int(left / inner) - knowledge)
    left -= inner * (identity + knowledge)
    slot_units = min(most, slot_units + int(left / (rank * widths)))  # less than one unit a slot stays unused
    return replace(plan, rank=rank, slot_units=slot_units, identity=identity, knowledge=knowledge)


def plan_product(vocabulary, dimension, ratio, order=3, known=0):
    """The papers' form: a sum of products, no amplitudes, no carrier; slots hold identity, knowledge and back-off units.

    The rank is the smallest, from 2 on, that needs at most 0.3 V units a slot; a quarter of the units are identity
    units, at most a half knowledge, the rest back-off (ours: the papers do not say how slots are filled).

    Raises
    ------
    DataError
        If the ratio is below 1 or beyond the largest that the form allows.

    Examples
    --------
    >>> plan_product(4000, 192, 40).sizes
    (8, 6, 4)
    """
    sizes = leaf_sizes(dimension, order)
    check_ratio(ratio, vocabulary * dimension / (2 * 4 * sum(sizes)), f"the papers' form of order {order}")
    budget = vocabulary * dimension / ratio
    units = budget / sum(sizes)
    rank = 2
    while units / rank > 0.3 * vocabulary:
        rank += 1
    slot_units = int(units / rank)
    knowledge = min(known, slot_units // 2)
    return Plan(vocabulary, dimension, sizes, rank, slot_units, identity=slot_units // 4, knowledge=knowledge)


def plan_policy(policy, vocabulary, dimension, ratio, known, order=None):
    """The plan for a policy of `see_min.units`: `plan_general` for those of GENERAL, `plan_product` for the others.

    Parameters, but for the policy, and errors are theirs; the order is 2 in the first and 3 in the second when left out.
    """
    if policy not in GENERAL:
        return plan_product(vocabulary, dimension, ratio, order or 3, known)
    known = 0 if policy == "backoff" else known
    form = {name: policy == name for name in ("amplitudes", "shared", "superposed")}
    return plan_general(vocabulary, dimension, ratio, order or 2, known, **form)


def inner_dimension(dimension, ratio, order, budget, rest, width=WIDTH):
    """d' of the carrier: near `width` D / sqrt(ratio), a multiple of 8 if it can be, at most 2/5 of the budget.

    `rest` floats stay free for everything else.

    Examples
    --------
    >>> inner_dimension(192, 10, 2, 76800, 100), inner_dimension(192, 40, 2, 19200, 100)
    (56, 24)
    """
    wanted = min(dimension, width * dimension / sqrt(ratio))
    inner = max(2**order, 8 * round(wanted / 8) if wanted >= 12 else int(wanted))
    fits = lambda d: d * dimension <= min(0.4 * budget, budget - rest) and min(leaf_sizes(d, order)) > 1
    while inner > 2**order and not fits(inner):
        inner -= 1
    return inner


def floor_root(number, order):
    """The largest q with q^n <= number.

    Examples
    --------
    >>> floor_root(64, 2), floor_root(63, 2), floor_root(64, 3)
    (8, 7, 4)
    """
    q = round(number ** (1 / order))
    return q if q**order <= number else q - 1


def check_ratio(ratio, largest, form):
    """Refuse a ratio below 1 or beyond `largest`, which the text states.

    Raises
    ------
    DataError
        If it is; NaN too.
    """
    if not 1 <= ratio <= largest:
        allowed = floor(10 * largest) / 10  # rounded down: the largest that the text states is accepted
        raise DataError(f"ratio: expected 1 to {allowed:.1f} for {form} with this vocabulary, got {ratio:g}")
