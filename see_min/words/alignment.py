"""Translations of words from a parallel text (IBM model 1), and the senses inherited through them.

    p(e_1 ... e_m | f_1 ... f_l)  =  const * prod_{j=1..m}  sum_{i=1..l}  t(e_j | f_i)

A language without a lexicon inherits the senses of one that has it. Every word e_j of a sentence is
a translation of one of the words f_i of the other, all equally likely beforehand. Which one is not
observed, so t is fitted by expectation and maximisation: a word is divided among the f_i in
proportion to t(e_j | f_i), and t(e | f) becomes the share of f's total that went to e. No round
lowers the likelihood (docs/derivations.md).
"""

import numpy as np
import scipy.sparse

from see_min.errors import check_at_least, check_ids
from see_min.words.lexicon import Lexicon

LEAST = 0.2  # the probability that a translation has at least
MOST = 2  # translations that a compound may need: rallyeauto, "rally" and "car"


def translation_table(pairs, sizes, rounds=5):
    """t(e | f) of all words that meet in a pair of sentences, and the likelihood before each round.

    `pairs` is a list of (source ids, target ids), `sizes` those of both vocabularies, (V_f, V_e).
    The table is a scipy.sparse.csr_array (V_f, V_e) whose rows sum to 1, or to 0 for a word that
    does not occur. The list of sum_j log sum_i t(e_j | f_i) / l over all pairs never falls.
    Raises InputError without a pair that has words on both sides, or if an id is not in `sizes`.

    >>> table, _ = translation_table([([0, 1], [0, 1]), ([0, 2], [0, 2])], (3, 3), rounds=20)
    >>> table.toarray().round(1)[0]            # 0 is what both pairs have in common
    array([1., 0., 0.])

    Source: Brown et al. 1993, model 1, without its empty word.
    """
    check_at_least("rounds", rounds, 1)
    pairs = [(source, target) for source, target in pairs if len(source) and len(target)]
    check_at_least("pairs: number of pairs with words on both sides", len(pairs), 1)
    for side, name in enumerate(("source ids", "target ids")):
        check_ids(name, np.concatenate([pair[side] for pair in pairs]), sizes[side])
    f, e, token, lengths = _meetings(pairs)
    meeting, entry = np.unique(f * sizes[1] + e, return_inverse=True)  # (M,) words, (N,)
    f, e = np.divmod(meeting, sizes[1])  # (M,)
    t, history = np.full(len(meeting), 1 / sizes[1]), []
    for _ in range(rounds):
        share = t[entry]  # (N,)
        likelihood = np.bincount(token, share)  # (tokens,): sum_i t(e_j | f_i)
        history.append(float(np.log(likelihood / lengths).sum()))
        went = np.bincount(entry, share / likelihood[token])  # (M,)
        t = went / np.bincount(f, went)[f]
    return scipy.sparse.csr_array((t, (f, e)), shape=sizes), history


def _meetings(pairs):
    """One entry for every word of a source beside every word of its target: N of them.

    Returns f, e and the number of e's token in the whole text, all (N,); and the length l of the
    source that each token (tokens,) stands beside.
    """
    f = np.concatenate([np.repeat(source, len(target)) for source, target in pairs])  # (N,)
    e = np.concatenate([np.tile(target, len(source)) for source, target in pairs])  # (N,)
    ls, ms = np.array([(len(source), len(target)) for source, target in pairs]).T  # (pairs,)
    starts = np.cumsum(ms) - ms
    spans = [np.tile(np.arange(a, a + m), n) for a, m, n in zip(starts, ms, ls)]
    return f, e, np.concatenate(spans), np.repeat(ls, ms)


def inherited(words, table, targets, lexicon):
    """A lexicon of `words` with the senses of their `MOST` likeliest translations, if `LEAST` so.

    `words` and `targets` name the rows and the columns of `table`, a sparse array (V_f, V_e) of
    t(e | f); `lexicon` is of the targets' language.

    >>> table, dogs = scipy.sparse.csr_array([[0.5, 0.5]]), Lexicon.of({"dog": [("animal",)]})
    >>> inherited(["hund"], table, ["dog", "the"], dogs).senses("hund")
    (('animal',),)
    """
    entries, table = {}, scipy.sparse.csr_array(table)
    for row, word in enumerate(words):
        likely = [targets[column] for column in translations(table, row)]
        senses = [sense for target in likely for sense in lexicon.meanings(target)]
        if senses:
            entries[word] = tuple(dict.fromkeys(senses))
    return Lexicon(entries)


def translations(table, row):
    """The columns that a row of `table`, a csr_array, inherits from, the likeliest first.

    >>> translations(scipy.sparse.csr_array([[0.1, 0.3, 0.6]]), 0)
    [2, 1]
    """
    part = slice(table.indptr[row], table.indptr[row + 1])
    ranked = sorted(zip(-table.data[part], table.indices[part]))[:MOST]
    return [int(column) for share, column in ranked if -share >= LEAST]
