"""MorphTE: a word is a sum of r products of the vectors of its morphemes, which words with the same morpheme share.

    minimise  sum_w f_w ||E0[w] - sum_{k=1..r} T_1[m_w1, k] (x) T_2[m_w2, k] (x) T_3[m_w3, k]||^2;   r sum_j |M_j| q_j floats

m_wj is morpheme j of the word; as published one table serves all slots, with r |M| q floats. It is SEE without sememes:
`see_min.units.morphemes` deals the units and `see_min.fit` alternates.

Source: arXiv 2210.15379. Simplified: no LayerNorm, no training. Ours: the fit, a table a slot with exact leaf sizes (D is rarely
q^n), the budget met by leaving rare morphemes out, and back-off units, a quarter or more of a slot, which the fit deals to words
that have no known morpheme there, where the paper has one pad for all.
"""

from dataclasses import replace

from see_min.budget import Plan, plan_product
from see_min.checks import DataError, check_axes
from see_min.fit import fit as alternate
from see_min.fit import random_encoding
from see_min.related.word2ket import ceil_root
from see_min.units import assign


def published(vocabulary, dimension, morphemes, order=3, rank=7):
    """The plan that the paper counts: r |M| q floats, one table for all slots, q = ceil(D^(1/n)).

    Parameters
    ----------
    vocabulary, dimension : int
    morphemes : int
        |M|.
    order, rank : int
        Those of the authors' README when left out.

    Examples
    --------
    >>> published(8848, 512, 3013).floats, published(8848, 512, 3013).floats + 3 * 8848     # with the entries of the index
    (168728, 195272)

    Source: arXiv 2210.15379; floats with the entries of the index are what its tables state.
    """
    return Plan(vocabulary, dimension, (ceil_root(dimension, order),) * order, rank, morphemes, shared=True)


def plan(vocabulary, dimension, ratio, order=3):
    """`plan_product` without identity units; three quarters of the units of a slot are for morphemes, if there are so many.

    Raises
    ------
    DataError
        As `plan_product`.

    Examples
    --------
    >>> plan(4000, 192, 40).rank, plan(4000, 192, 40).slot_units, plan(4000, 192, 40).knowledge
    (2, 533, 400)

    Source: ours.
    """
    sizes = plan_product(vocabulary, dimension, ratio, order)
    return replace(sizes, identity=0, knowledge=sizes.slot_units - sizes.slot_units // 4)


def fit(matrix, ratio, weights=None, seed=0, names=(), annotations=(), order=3, sweeps=6):
    """Leaves of morphemes, and the units of every word.

    Parameters
    ----------
    matrix : array (V, D)
    ratio : float
    weights : array (V,), optional
        f_w, ones when left out.
    seed : int
    names : list of V str
        The words, by which back-off units are dealt.
    annotations : list of V see_min.units.Annotation
        Their morphemes.
    order, sweeps : int

    Returns
    -------
    SememeEncoding

    Raises
    ------
    ShapeError, DataError
        If the ratio is out of reach, names or annotations are not V, or as `see_min.fit.fit`.

    Examples
    --------
    >>> from see_min.units import Annotation
    >>> words = [stem + end for stem in ("work", "play", "jump", "look") for end in ("", "s", "ed", "ing")] * 4
    >>> notes = [Annotation(morphemes=(word[:4], word[4:]) if word[4:] else (word,)) for word in words]
    >>> import numpy as np
    >>> kept = fit(np.random.default_rng(0).standard_normal((64, 8)), 4, names=words, annotations=notes)
    >>> kept.sizes, kept.floats
    ((2, 2, 2), 120)

    Source: arXiv 2210.15379 for the form; the fit is ours.
    """
    matrix = check_axes("matrix", matrix, None, None)
    for name, values in (("names", names), ("annotations", annotations)):
        if len(values) != len(matrix):
            raise DataError(f"{name}: expected {len(matrix)}, one a row of the matrix, got {len(values)}")
    sizes = plan(*matrix.shape, ratio, order)
    units = assign(names, annotations, sizes, "morphemes")
    return alternate(matrix, random_encoding(units, sizes, seed), weights, units, sweeps)[0]
