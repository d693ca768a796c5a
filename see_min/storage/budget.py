"""What an encoding costs, from formulas, and the plan that meets a ratio.

Parameters are numbers kept (leaf tables, bag vectors, projection). Bytes add the index. FLOPs count
a multiplication and an addition as two.
"""

from dataclasses import dataclass, replace
from functools import cache
from math import ceil, floor, prod, sqrt

from see_min.errors import InputError, check_at_least
from see_min.storage.codes import code_bits

FORMS = ("see", "paper", "morphemes")
# Chosen among the few values that were tried (docs/history.md), not derived:
WIDTH = {True: 1.5, False: 0.9}  # d' in units of D / sqrt(ratio), by per_term
SHARES = {"knowledge": 1 / 3, "products": 1 / 8}  # of what the projection leaves; private: the rest
# By bytes: d' in units of D / sqrt(ratio), share of private vectors, units per slot (256). A share
# of 1 is low-rank factors, as every word has its own vector. At last plans without a projection.
WIDTHS = 2.8, 3.4, 4.2
USUAL = {True: (0.12, 64), False: (0.01, 256)}  # share and units by whether words are few
GRID = ((3.4, 0.12), (2.8, 0.4), (None, 1.0))
GRID += tuple((None, 0.0, units) for units in (256, 128, 64, 32, 16, 8))
TABLES, KNOWN = 0.12, 0.2  # shares of the bytes
FINE = 30  # the ratio up to which parameters get 8 bits
RATE = {True: 0.75, False: 0.62}  # by whether a ratio is fine: the share of the bits of a fixed
RATES = 0.35, 0.9  # code that codes should take once they differ in length, and that they may
LONG = 64  # units from which lengths of whole bits lose little; blocks must be alike, too
FEW_WORDS = 10_000  # up to here a unit has few words: fewer units, and codes may be of fixed length
MOST_PRIVATE = 2  # at most one word in so many has a vector of its own
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
    coded : bool
        Whether slot 1 has one unit: no bits there, so that a word has one code per term.
    derived : bool
        Whether the bag is derived from words and lexicon at loading instead of stored.
    projected : bool
        Whether `see` has a projection; without one d' = D.
    rate : float
        Bits of a code on average as a share of log2 U rounded up: 1 where all are alike, less where
        a fit gives many words the same units (see_min/storage/codes.py).

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
    coded: bool = False
    derived: bool = False
    projected: bool = True
    rate: float = 1.0

    @property
    def units(self):
        """(U_1, ..., U_n)."""
        first = 1 if self.coded else self.slot_units
        return (first,) + (self.slot_units,) * (len(self.sizes) - 1)

    @property
    def inner_dim(self):
        """d' = prod q_j."""
        return prod(self.sizes)

    @property
    def directions(self):
        """Rows of the projection: d', or 0 if there is none."""
        return self.inner_dim if self.form == "see" and self.projected else 0

    @property
    def parameters(self):
        """r sum_j U_j q_j, and for `see` d' D (projection) + d' (private + knowledge) (bag)."""
        tables = self.rank * sum(U * q for U, q in zip(self.units, self.sizes))
        if self.form != "see":
            return tables
        bag = self.inner_dim * (self.private + self.knowledge)
        return tables + self.directions * self.dimension + bag

    @property
    def ratio(self):
        """V D / parameters."""
        return self.vocabulary * self.dimension / self.parameters

    def bytes(self, bag_entries=0, bits=32):
        """Parameters and index as `SememeEncoding.bytes` counts them.

        Codes: V n terms, r times as many with an index per term (form "paper" may have one), none
        for private words where `coded`. A bag has V lengths and its entries, whose number depends
        on the words and not on the plan; a derived one the private words.
        """
        V, shared = self.vocabulary, self.form == "morphemes" or not self.per_term
        codes = (V - self.private * self.coded) * (1 if shared else self.rank)
        total = sum(ceil(codes * self.rate * code_bits(U) / 8) for U in self.units)
        see, vectors = self.form == "see", self.private + self.knowledge
        if self.derived:
            total += ceil(self.private * code_bits(V) / 8)
        elif see:
            most = min(self.private, 1) if self.coded and not self.knowledge else 255
            total += ceil(V * code_bits(most + 1) / 8) + ceil(bag_entries * code_bits(vectors) / 8)
        if bits == 32:
            return 4 * self.parameters + total
        total += sum(ceil(self.rank * U * q * bits / 8) for U, q in zip(self.units, self.sizes))
        total += 4 * self.rank * len(self.sizes)  # steps of rounding
        total += ceil(self.directions * self.dimension * bits / 8) + 4 * self.directions
        if see:
            total += ceil(vectors * self.inner_dim * bits / 8) + 4 * vectors
        return total

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
        return 2 * self.directions * self.dimension


def make_plan(form, vocabulary, dimension, ratio, known, order=None, per_term=True):
    """The plan of a form, of FORMS or an InputError; order 2 for "see", else 3, when left out."""
    if form not in FORMS:
        raise InputError(f"form: expected one of {', '.join(FORMS)}, got {form!r}")
    if form == "see":
        return plan_see(vocabulary, dimension, ratio, order or 2, known, per_term)
    return plan_paper(vocabulary, dimension, ratio, order or 3, known, form)


def plan_see(vocabulary, dimension, ratio, order=2, known=0, per_term=True):
    """Our form: a projection, a bag of private and knowledge vectors, products of hash buckets.

    1. The projection has about WIDTH D / sqrt(ratio) dimensions.
    2. Of what is left, a third goes to the vectors of the `known` units, as far as they exist;
    3. an eighth to the leaf tables: of 3 sqrt(V) units per slot, or with an index per term of 8 to
       256 units in up to 16 terms;
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


def default_bits(ratio, given=None):
    """Bits of a parameter where none are given: 8 up to a ratio of 30, else 6.

    Rounding costs most where little else is lost, bytes where few are left.

    >>> default_bits(20), default_bits(80)
    (8, 6)
    """
    return given if given is not None else 8 if ratio <= FINE else 6


def plans_bytes(vocabulary, dimension, ratio, known=0, derived=False, bits=6):
    """The plans of GRID at a ratio of bytes, each once: which is best depends on the matrix.

    Of those without a projection the two of least `expected_error`.
    """
    arguments = vocabulary, dimension, ratio, known, derived, bits
    few = vocabulary <= FEW_WORDS
    grid = *((width, *USUAL[few]) for width in WIDTHS), *GRID
    plans = [plan_bytes(*arguments, *one, rate=rate)
             for rate in (None, 1.0)[: 1 + few] for one in grid]
    if few and all(plan.rate == 1 for plan in plans):  # so few that codes need all bytes
        plans += [plan_bytes(*arguments, width, *USUAL[False]) for width in WIDTHS]
    plans = list(dict.fromkeys(plans))
    whole = sorted((plan for plan in plans if not plan.projected), key=expected_error)
    return [plan for plan in plans if plan.projected] + whole[:2]


def expected_error(plan):
    """The share that the codes of a plan would lose of independent Gaussian numbers.

    b bits for q of them leave at least 2^(-2 b / q) of their squares (Shannon 1959); term k codes
    block k mod g.

    >>> expected_error(Plan(99, 4, (2, 2), 3, 4, coded=True))  # 4 bits for one block, 2 for another
    0.15625
    """
    (g, q), bits = plan.sizes, plan.rate * code_bits(plan.slot_units)
    terms = [plan.rank // g + (j < plan.rank % g) for j in range(g)]
    return sum(2.0 ** (-2 * bits * count / q) for count in terms) / g


def plan_bytes(
    vocabulary, dimension, ratio, known=0, derived=False, bits=6, width=2.8, share=0.0, units=256,
    rate=None,
):  # fmt: skip
    """Our form at a ratio of *bytes*: a code per term.

    1. The projection has about `width` D / sqrt(ratio) dimensions and takes at most a fifth of the
       bytes. Without a width there is none, and d' = D: on few words a projection is dear.
    2. A slot has the power of 2 units, at most `units`, that keeps the tables below TABLES of them;
       without a projection it has `units`.
    3. A `share` of them goes to private vectors; KNOWN of them to known units, if the bag is
       derived: where it is stored, its index costs more than it brings.
    4. The rest buys codes, a term per block. Where there is a projection and LONG units, codes
       differ in length: q is such that the rate that takes all bytes is nearest `rate`, RATE where
       none is given. With a `rate` of 1 codes are alike; what remains goes to private vectors.

    A share of 1 is low-rank factors: all words have private vectors, and codes say nothing.

    So `plan.bytes(private, bits) <= 4 V D / ratio`. InputError if the ratio is out of reach.

    >>> plan = plan_bytes(30522, 384, 80)
    >>> plan.sizes, plan.rank, plan.units, plan.bytes(plan.private, 6) <= 4 * 30522 * 384 / 80
    ((30, 4), 30, (1, 256), True)
    >>> plan_bytes(2048, 384, 20, bits=8, width=None, units=32).sizes
    (96, 4)
    """
    V, D = vocabulary, check_at_least("matrix: columns", dimension, 2)
    least = Plan(V, D, (1, 2), 1, 2, coded=True, derived=derived)
    check_ratio(ratio, 4 * V * D / least.bytes(0, bits), "the form see")
    budget, number = 4 * V * D / ratio, bits / 8  # bytes, of a parameter
    rate = RATE[ratio <= FINE] if rate is None else rate
    if share == 1:
        other = vocabulary, dimension, ratio, known, derived, bits
        return _plan_factors(least, budget, bits) or plan_bytes(*other)
    if width is None:
        least, width = replace(least, projected=False), D
    else:
        width = max(2, int(min(D, width * D / sqrt(ratio), 0.2 * budget / (number * D))))
        while units > 2 and units * width * number > TABLES * budget:
            units //= 2
    least = replace(least, slot_units=units)
    if derived:
        least = replace(least, knowledge=min(known, int(KNOWN * budget / (number * width))))
    found = None
    if rate < 1 and least.projected and units >= LONG:
        found = _plan_lengths(replace(least, rate=rate), width, budget, bits, share)
    return found or _plan_codes(least, width, budget, bits, share)


def _plan_factors(least, budget, bits):
    """Private vectors of all words, in the most directions; None if one takes too many bytes."""
    V, D = least.vocabulary, least.dimension
    for inner in range(max(1, min(D, int((budget - 5 * V) / (bits / 8 * (V + D))))), 0, -1):
        found = replace(_with_terms(least, 1, inner), private=V)
        if found.bytes(V, bits) <= budget:
            return found


def _plan_lengths(plan, width, budget, bits, share):
    """A term per block of q directions, q such that the rate that takes all bytes is nearest its.

    None if no such rate is among RATES.
    """
    plans = []
    for q in range(1, width // 2 + 1):
        blocks = min(plan.dimension // q, round(width / q))
        one = replace(plan, sizes=(blocks, q), rank=blocks, rate=0.0)
        private = int(share * budget / (bits / 8 * one.inner_dim))
        one = replace(one, private=min(one.vocabulary // MOST_PRIVATE, private))
        left, codes = budget - one.bytes(one.private, bits), (one.vocabulary - one.private) * blocks
        one = replace(one, rate=8 * (left - 1) / (codes * code_bits(one.slot_units)))  # whole bytes
        plans += [one] * (RATES[0] <= one.rate <= RATES[1])
    return min(plans, key=lambda one: abs(one.rate - plan.rate), default=None)


def _plan_codes(plan, width, budget, bits, share):
    """The most terms in about `width` directions, and private vectors for what remains."""
    number, units, knowledge = bits / 8, plan.slot_units, plan.knowledge  # bytes of a parameter
    shared = (plan.dimension if plan.projected else 0) + units + knowledge
    left = (1 - share) * budget - number * width * shared
    rank = max(1, int(8 * left / (plan.vocabulary * code_bits(units))))
    while True:
        found = _with_terms(replace(plan, slot_units=units, knowledge=knowledge), rank, width)
        if found.bytes(0, bits) <= budget:
            return with_private(found, budget, bits)
        if rank > 1:  # small vocabularies: less of everything
            rank -= 1
        elif knowledge:
            knowledge //= 2
        else:
            units = max(2, units // 2)
            width = max(2, width * 3 // 4) if plan.projected else width


def _with_terms(plan, rank, width):
    """The plan with a block per term, of `width` directions together as nearly as may be."""
    D = plan.dimension
    if not plan.projected:  # all D of them: further terms go to the first blocks again
        blocks = max(g for g in range(1, min(rank, D) + 1) if D % g == 0)
        return replace(plan, sizes=(blocks, D // blocks), rank=rank)
    blocks = min(rank, width)
    q = min(D // blocks, max(1, round(width / blocks)))
    if blocks * q < 0.9 * width:  # fewer blocks, some with a term more, lose no directions
        q += 1
        blocks = width // q
    return replace(plan, sizes=(blocks, q), rank=rank)


def with_private(plan, budget, bits):
    """The plan with as many private vectors as its bytes leave room for."""
    codes = plan.rank * code_bits(plan.slot_units)  # bits
    each = 6 + plan.inner_dim * bits / 8 - codes / 8
    private = int((budget - plan.bytes(0, bits)) / max(each, 1))
    plan = replace(plan, private=min(plan.vocabulary // MOST_PRIVATE, private))
    while plan.private and plan.bytes(plan.private, bits) > budget:
        plan = replace(plan, private=plan.private - 1)
    return plan


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
    """InputError for a ratio below 1 (or NaN) or beyond `largest`, which its text states."""
    if not 1 <= ratio <= largest:
        allowed = floor(10 * largest) / 10  # rounded down: the ratio that the text states will do
        rule = f"expected 1 to {allowed:.1f} for {form} at this size"
        raise InputError(f"ratio: {rule}, got {ratio:g}")
