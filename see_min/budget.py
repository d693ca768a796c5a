"""What an encoding costs, from formulas, and the plan that meets a ratio.

Parameters are numbers kept (leaf tables, bag vectors, projection). Bytes add the index. FLOPs count
a multiplication and an addition as two.
"""

from dataclasses import dataclass, replace
from functools import cache
from math import ceil, floor, prod, sqrt

from see_min.encoding import smallest
from see_min.errors import InputError

FORMS = ("see", "paper", "morphemes")
# Chosen among the few values that were tried (docs/results.md), not derived:
WIDTH = {True: 1.5, False: 0.9}  # d' in units of D / sqrt(ratio), by per_term
SHARES = {"knowledge": 1 / 3, "products": 1 / 8}  # of what the projection leaves; private: the rest
MAX_TERMS, MAX_CODES = 16, 256  # with an index per term: r and U at most; a code fits one byte


@dataclass(frozen=True)
class Plan:
    """Sizes of an encoding, enough to count it without building it.

    Attributes
    ----------
    vocabulary, dimension : int, V and D
    sizes : tuple of int, leaf dimensions (q_1, ..., q_n)
    rank : int, r
    slot_units : int, U, the number of units of every slot
    private, knowledge : int
        Private vectors, and units that are known: in the bag, or in other forms in every slot.
    form : str, of FORMS; "see" has a bag and a projection, the others are sums of products alone
    per_term : bool
        Whether each term of `see` has its own index, (V, r, n) instead of (V, 1, n).

    >>> Plan(30428, 256, (4, 4, 4, 4), 1, 30428, form="paper").parameters   # word2ket
    486848
    """

    vocabulary: int
    dimension: int
    sizes: tuple
    rank: int
    slot_units: int
    private: int = 0
    knowledge: int = 0
    form: str = "see"
    per_term: bool = True

    @property
    def inner_dim(self):
        """d' = prod q_j."""
        return prod(self.sizes)

    @property
    def parameters(self):
        """r U sum_j q_j, and for `see` d' D (projection) + d' (private + knowledge) (bag)."""
        tables = self.rank * self.slot_units * sum(self.sizes)
        if self.form != "see":
            return tables
        return tables + self.inner_dim * (self.dimension + self.private + self.knowledge)

    @property
    def ratio(self):
        """V D / parameters."""
        return self.vocabulary * self.dimension / self.parameters

    def bytes(self, bag_entries=0):
        """4 per parameter, and the index in the smallest integer types.

        The index has V n entries, r times as many with an index per term (form "paper" may have
        one); a bag has V lengths and its entries, whose number depends on the words and not on the
        plan.
        """
        terms = 1 if self.form == "morphemes" or not self.per_term else self.rank
        index = self.vocabulary * len(self.sizes) * terms * smallest(self.slot_units).itemsize
        if self.form == "see":
            index += self.vocabulary
            index += bag_entries * smallest(self.private + self.knowledge).itemsize
        return 4 * self.parameters + index

    @property
    def lookup_flops(self):
        """FLOPs of a row, without the bag: products of both halves, sum of terms, projection."""
        half = len(self.sizes) // 2
        halves = self.sizes[:half], self.sizes[half:]
        partial = sum(prod(part[:i]) for part in halves for i in range(2, len(part) + 1))
        terms = (2 if half else 1) * self.rank * self.inner_dim
        return self.rank * partial + terms + self._projection_flops

    @property
    def head_flops(self):
        """FLOPs of one hidden state's scores with the rows at hand: projection, V products."""
        return self._projection_flops + 2 * self.vocabulary * self.inner_dim

    @property
    def _projection_flops(self):
        return 2 * self.inner_dim * self.dimension if self.form == "see" else 0


def make_plan(form, vocabulary, dimension, ratio, known, order=None, per_term=True):
    """The plan of a form; the order is 2 for "see" and 3 for the others when left out."""
    if form not in FORMS:
        raise InputError(f"form: expected one of {', '.join(FORMS)}, got {form!r}")
    if form == "see":
        return plan_see(vocabulary, dimension, ratio, order or 2, known, per_term)
    return plan_paper(vocabulary, dimension, ratio, order or 3, known, form)


def plan_see(vocabulary, dimension, ratio, order=2, known=0, per_term=True):
    """Our form: a projection, a bag of private and knowledge vectors, products of hash buckets.

    1. The projection has about WIDTH D / sqrt(ratio) dimensions.
    2. Of what is left, a third goes to the vectors of the `known` units, as far as they exist;
    3. an eighth to the leaf tables: of 3 sqrt(V) units per slot, or with an index per term of at
       least 8
       and at most 256 units in up to 16 terms;
    4. the rest to private vectors, and what then remains, less than one vector, to further units.

    So `plan.parameters <= V D / ratio`. InputError if ratio or order is out of reach.

    >>> plan = plan_see(4000, 192, 10, known=900)
    >>> plan.sizes, plan.rank, plan.parameters <= 76800
    ((11, 8), 16, True)
    """
    _check_order(order, dimension)
    least = 2**order * dimension + 4 * order  # leaves of two numbers, two units per slot, one term
    check_ratio(ratio, vocabulary * dimension / least, f"the form see of order {order}")
    budget = vocabulary * dimension / ratio
    inner = _inner_dimension(dimension, ratio, order, budget, 4 * order, WIDTH[per_term])
    sizes = leaf_sizes(inner, order)
    left = budget - inner * dimension
    knowledge = min(known, int(SHARES["knowledge"] * left / inner))
    products = SHARES["products"] * left
    if per_term:
        rank = max(1, min(MAX_TERMS, int(products / (8 * sum(sizes)))))
        max_units = min(vocabulary, MAX_CODES)
    else:
        rank = max(1, round(products / (3 * sqrt(vocabulary) * sum(sizes))))
        max_units = vocabulary
    unit = rank * sum(sizes)  # parameters of one more unit in every slot
    slot_units = min(max_units, max(2, int(products / unit)))
    left -= slot_units * unit
    knowledge = max(0, min(knowledge, int(left / inner)))
    private = min(vocabulary, int(left / inner) - knowledge)
    left -= inner * (private + knowledge)
    slot_units = min(max_units, slot_units + int(left / unit))
    plan = Plan(vocabulary, dimension, sizes, rank, slot_units, private, knowledge)
    return replace(plan, per_term=per_term)


def plan_paper(vocabulary, dimension, ratio, order=3, known=0, form="paper"):
    """The papers' form: a sum of products; slots hold private, knowledge and bucket units.

    The rank is the smallest, from 2 on, that needs at most 0.3 V units per slot; a quarter of these
    are private, at most a half knowledge, the rest buckets (ours: the papers do not say).
    """
    _check_order(order, dimension)
    sizes = leaf_sizes(dimension, order)
    largest = vocabulary * dimension / (2 * 4 * sum(sizes))
    check_ratio(ratio, largest, f"the form {form} of order {order}")
    units = vocabulary * dimension / ratio / sum(sizes)
    rank = max(2, ceil(units / (0.3 * vocabulary)))
    slot_units = int(units / rank)
    knowledge = min(known, slot_units // 2)
    return Plan(vocabulary, dimension, sizes, rank, slot_units, slot_units // 4, knowledge, form)


def low_rank(vocabulary, dimension, ratio):
    """The smallest rank of factors (V, r) and (r, D) that keeps at least 1/ratio of the parameters.

    Rounded up, so that the control never has fewer than what it is compared with.

    >>> low_rank(4000, 192, 10), low_rank(4000, 192, 40)
    (19, 5)
    """
    largest = vocabulary * dimension / (vocabulary + dimension)
    check_ratio(ratio, largest, "low-rank factors")
    return min(vocabulary, dimension, ceil(largest / ratio))


@cache
def leaf_sizes(dimension, order):
    """The most even exact factorisation of `dimension` into `order` leaf sizes, largest first.

    >>> leaf_sizes(384, 3), leaf_sizes(64, 2), leaf_sizes(10, 3)
    ((8, 8, 6), (8, 8), (5, 2, 1))
    """
    if order == 1:
        return (dimension,)
    divisors = [q for q in range(1, dimension + 1) if dimension % q == 0]
    splits = ((q, *leaf_sizes(dimension // q, order - 1)) for q in divisors)
    ordered = (tuple(sorted(split, reverse=True)) for split in splits)
    return min(ordered, key=lambda split: (sum(split), split))


def _inner_dimension(dimension, ratio, order, budget, rest, width):
    """d': near width D / sqrt(ratio), a multiple of 8 if it can be, at most 2/5 of the budget.

    `rest` parameters stay free for everything else.
    """
    wanted = min(dimension, width * dimension / sqrt(ratio))
    inner = max(2**order, 8 * round(wanted / 8) if wanted >= 12 else int(wanted))
    most = min(0.4 * budget, budget - rest)
    while inner > 2**order and (inner * dimension > most or min(leaf_sizes(inner, order)) == 1):
        inner -= 1
    return inner


def _check_order(order, dimension):
    """Refuse an order whose leaves would have fewer than two numbers each."""
    if not 1 <= order <= max(1, int(dimension).bit_length() - 1):
        most = max(1, int(dimension).bit_length() - 1)
        raise InputError(f"order: expected 1 to {most} for {dimension} dimensions, got {order}")


def check_ratio(ratio, largest, form):
    """Refuse a ratio below 1 (or NaN) or beyond `largest`, which the text states."""
    if not 1 <= ratio <= largest:
        allowed = floor(10 * largest) / 10  # rounded down: the ratio that the text states will do
        rule = f"expected 1 to {allowed:.1f} for {form} with this vocabulary"
        raise InputError(f"ratio: {rule}, got {ratio:g}")
