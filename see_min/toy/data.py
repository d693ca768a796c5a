"""Documents -> words -> ids -> batches, for the toy models.

A `Batch` is what a model reads and what it should answer: next words, masked words, translations.
Spans of sentences with some words swapped come without answers, for a student that imitates.
"""

from collections import Counter
from itertools import chain
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh

from see_min.errors import InputError, check_at_least
from see_min.storage.files import read_lines
from see_min.toy.documents import default_documents, tokenize

# ------------------------------------------------------------------ vocabularies and ids

UNKNOWN, END = "<unk>", "<eos>"  # a word without an id, the end of a document
SPECIAL = (UNKNOWN, END)  # the first words of a corpus
PAIR_SPECIAL = ("<pad>", "<s>", "</s>", UNKNOWN)  # of a language of parallel text
VALID = 0.05  # share of the documents that are held out
MIN_COUNT = 2  # of a word of parallel text that has an id of its own


class Corpus(NamedTuple):
    """A tokenised text."""

    words: list  # V, by falling count, the special ones first
    counts: np.ndarray  # (V,), of the training split
    train: np.ndarray  # ids (N,), documents one after the other, each closed by <eos>
    valid: np.ndarray


def build_corpus(documents, vocab_size, seed=0, min_tokens=1):
    """Shuffle documents, hold out a share VALID, and number the training split's frequent words.

    `vocab_size` is the most words V, the special ones included. Raises InputError for a split with
    fewer tokens than `min_tokens`.

    >>> corpus = build_corpus(["a b b", "b a b"] * 10, 4)
    >>> corpus.words, corpus.counts.tolist(), len(corpus.valid)
    (['<unk>', '<eos>', 'b', 'a'], [0, 19, 38, 19], 4)
    """
    check_at_least("vocab_size", vocab_size, len(SPECIAL) + 1)
    order = np.random.default_rng(seed).permutation(len(documents))
    held_out = max(1, int(VALID * len(documents)))
    train, valid = ([tokenize(documents[d]) for d in part]
                    for part in (order[held_out:], order[:held_out]))
    for name, split in (("training", train), ("validation", valid)):
        size = sum(len(tokens) + 1 for tokens in split)
        if size < min_tokens:
            raise InputError(f"corpus: expected at least {min_tokens} tokens "
                             f"in the {name} split, got {size}")
    words = [*SPECIAL, *_ranked(Counter(chain.from_iterable(train)))][:vocab_size]
    train, valid = text_ids(train, words), text_ids(valid, words)
    return Corpus(words, np.bincount(train, minlength=len(words)), train, valid)


def _ranked(counts):
    """Words by falling count, equal counts by word."""
    return sorted(counts, key=lambda word: (-counts[word], word))


def text_ids(documents, words):
    """The ids (N,) of tokenised documents in the vocabulary of a corpus, each closed by <eos>."""
    numbers = {word: i for i, word in enumerate(words)}
    ids = [i for tokens in documents for i in encode([*tokens, END], numbers)]
    return np.array(ids, dtype=np.int64)


def encode(sentence, numbers):
    """The ids of words; a word without one gets that of "<unk>".

    >>> encode(["a", "x"], {"<unk>": 0, "a": 1})
    [1, 0]
    """
    return [numbers.get(word, numbers[UNKNOWN]) for word in sentence]


def word_vocabulary(sentences, vocab_size=None):
    """(words, counts): the words of sentences by falling count, after the special ones.

    Words that occur less than `MIN_COUNT` times, or beyond the `vocab_size` first (special ones
    included), are left out; their occurrences count as "<unk>".

    >>> words, counts = word_vocabulary([["b", "a", "b"], ["a", "c"]])
    >>> words, counts.tolist()
    (['<pad>', '<s>', '</s>', '<unk>', 'a', 'b'], [0, 0, 0, 1, 2, 2])
    """
    if vocab_size is not None:
        check_at_least("vocab_size", vocab_size, len(PAIR_SPECIAL) + 1)
    count = Counter(chain.from_iterable(sentences))
    ranked = [w for w in _ranked(count) if count[w] >= MIN_COUNT and w not in PAIR_SPECIAL]
    words = [*PAIR_SPECIAL, *ranked][:vocab_size]
    counts = np.array([count[word] for word in words], dtype=np.int64)  # (V,)
    counts[words.index(UNKNOWN)] += count.total() - counts.sum()
    return words, counts


def read_parallel(source, target):
    """Pairs (source words, target words) of two files with a sentence per line.

    A line that is empty on either side is left out on both. Raises InputError for files of unequal
    lengths, or without a pair.
    """
    first, second = ([line.split() for line in read_lines(path)] for path in (source, target))
    if len(first) != len(second):
        raise InputError(f"{source}, {target}: expected as many lines in both, "
                         f"got {len(first)} and {len(second)}")
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a and b]
    if not pairs:
        raise InputError(f"{source}, {target}: expected at least 1 line with words in both, "
                         "got none")
    return pairs


# ------------------------------------------------------------------ the matrix of the notebooks

EXAMPLE = ("numpy", "scipy", "matplotlib")  # whose docstrings make it


def ppmi(ids, size, reach=4, skip=0):
    """Positive pointwise mutual information of words that stand at most `reach` apart, (V, V).

    max(0, ln(N_vw N / (N_v N_w))) of the ids (N,) from `skip` to V + skip = `size`. A word that
    never occurs has a row of zeros.

    >>> ppmi(np.array([0, 1, 0, 1]), 3, reach=1).round(2).tolist()
    [[0.0, 0.69, 0.0], [0.69, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    N = np.zeros((size, size))
    for d in range(1, reach + 1):
        pairs = ids[:-d] * size + ids[d:]  # words that stand d places apart
        N += np.bincount(pairs, minlength=size * size).reshape(size, size)  # (V, V)
    N = (N + N.T)[skip:, skip:]
    share = N.sum(1) / N.sum()  # (V,)
    chance = np.outer(share, share)  # (V, V)
    return np.log(np.divide(N / N.sum(), chance, out=np.ones_like(N), where=N > 0).clip(1))


def example_matrix(size=2048, dimension=384):
    """(words, counts (V,), E (V, D)): the word vectors of the notebooks, made of docstrings.

    The D largest eigenvalues of the symmetric `ppmi` and their vectors, so that E E^T is near it.
    The V most frequent words, the most frequent first; the special ones have no row.
    """
    corpus = build_corpus(default_documents(EXAMPLE), size + len(SPECIAL))
    information = ppmi(corpus.train, len(corpus.words), skip=len(SPECIAL))  # (V, V)
    values, vectors = eigh(information, subset_by_index=[size - dimension, size - 1])  # ascending
    vectors = vectors * np.sign(vectors.sum(0))  # an eigenvector has no sign of its own
    E = (vectors * np.sqrt(values))[:, ::-1]  # (V, D), the largest first
    return corpus.words[len(SPECIAL):], corpus.counts[len(SPECIAL):], E


# ------------------------------------------------------------------ batches

IGNORE = -100  # a target that no loss counts; the value torch's cross entropy leaves out
MASKED = 0.15  # share of the positions that are predicted
HIDDEN, RANDOM = 0.8, 0.1  # of these: replaced by the mask, by a random word; the rest stays
POOL = 100  # batches sorted by length together: similar lengths, yet other neighbours every epoch
SHORTEST, LONGEST = 4, 16  # words of a span
SWAPPED = 0.4  # share of the words of a span that are replaced


class Batch(NamedTuple):
    """What a model reads, and what it should answer."""

    inputs: tuple  # of int arrays (b, t)
    targets: np.ndarray | None  # (b, t); None: no answer


def windows(ids, block_size, max_windows):
    """Consecutive windows (n, block_size + 1), each overlapping the last by one token."""
    starts = np.arange(0, len(ids) - block_size, block_size)[:max_windows]  # (n,)
    return ids[starts[:, None] + np.arange(block_size + 1)]  # (n, t + 1)


def random_windows(ids, length, batch_size, steps, seed):
    """Yield `steps` arrays (batch_size, length) of consecutive ids; refuses fewer than `length`."""
    check_at_least("ids", len(ids), length)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        start = rng.integers(0, len(ids) - length + 1, batch_size)  # (b,)
        yield ids[start[:, None] + np.arange(length)]  # (b, length)


def language_batches(ids, block_size, batch_size, steps, seed):
    """Yield `steps` batches of random windows whose targets are the next words.

    >>> batch = next(language_batches(np.arange(4), 3, 1, 1, seed=0))
    >>> batch.inputs[0].tolist(), batch.targets.tolist()
    ([[0, 1, 2]], [[1, 2, 3]])
    """
    for window in random_windows(ids, block_size + 1, batch_size, steps, seed):  # (b, t + 1)
        yield Batch((window[:, :-1],), window[:, 1:])


def masked_batches(ids, block_size, batch_size, steps, seed, mask, vocab_size, special=()):
    """Yield `steps` batches of random windows with some words masked; only these have a target.

    Each position is chosen with probability `MASKED`, and at least one per window. Of the chosen, a
    share `HIDDEN` becomes `mask`, `RANDOM` a random word, and the rest stays. The mask and the ids
    `special` are neither chosen nor drawn; a window of nothing else has no target.

    Source: arXiv 1810.04805, section 3.1; there the random word may be any.
    """
    special = np.unique([mask, *special])
    check_at_least("vocab_size", vocab_size, len(special) + 1)
    words = np.setdiff1d(np.arange(vocab_size), special)  # what a random word is drawn from
    rng = np.random.default_rng([seed, 1])  # not the stream that draws the windows
    for window in random_windows(ids, block_size, batch_size, steps, seed):  # (b, t)
        draw = np.where(np.isin(window, special), np.inf, rng.random(window.shape))  # (b, t)
        lowest = draw == draw.min(axis=1, keepdims=True)  # (b, t)
        chosen = (draw < MASKED) | (lowest & np.isfinite(draw))  # (b, t)
        fate = np.where(chosen, rng.random(window.shape), 1.0)  # (b, t), 1: stays
        read = np.where(fate < HIDDEN + RANDOM, rng.choice(words, window.shape), window)  # (b, t)
        yield Batch((np.where(fate < HIDDEN, mask, read),), np.where(chosen, window, IGNORE))


def padded_rows(sequences, pad):
    """Sequences as rows of one array, filled up at their end: (b, length of the longest)."""
    rows = np.full((len(sequences), max(map(len, sequences), default=0)), pad, dtype=np.int64)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return rows


def pair_batches(pairs, batch_size, steps, seed, pad, begin, end):
    """Yield `steps` batches: source + end and begin + target are read, target + end is answered.

    Pairs (source ids, target ids) of similar length stand together; the last batch of an epoch may
    be short. Inputs are filled up with `pad`, targets with `IGNORE`.

    >>> batch = next(pair_batches([([5, 6], [7])], 1, 1, seed=0, pad=0, begin=1, end=2))
    >>> [array.tolist() for array in batch.inputs], batch.targets.tolist()
    ([[[5, 6, 2]], [[1, 7]]], [[7, 2]])
    """
    check_at_least("pairs", len(pairs), 1)
    lengths = np.array([[len(source), len(target)] for source, target in pairs])  # (N, 2)
    for rows in _by_length(lengths, batch_size, steps, seed):
        chosen = [pairs[row] for row in rows]
        source = padded_rows([[*source, end] for source, _ in chosen], pad)  # (b, s)
        target = padded_rows([[begin, *target] for _, target in chosen], pad)  # (b, t)
        answer = padded_rows([[*target, end] for _, target in chosen], IGNORE)  # (b, t)
        yield Batch((source, target), answer)


def _by_length(lengths, size, steps, seed):
    """Yield `steps` sets of rows of `lengths` (N, k), of similar length each, epoch after epoch."""
    rng = np.random.default_rng(seed)
    while steps > 0:
        order, found = rng.permutation(len(lengths)), []
        for first in range(0, len(order), POOL * size):
            pool = order[first : first + POOL * size]
            pool = pool[np.lexsort(lengths[pool].T[::-1])]  # stable: equal lengths stay shuffled
            found += [pool[start : start + size] for start in range(0, len(pool), size)]
        for number in rng.permutation(len(found))[:steps]:  # not from short to long
            yield found[number]
        steps -= len(found)


# ------------------------------------------------------------------ spans


def swap_chances(vocabulary):
    """How likely each word of a `Vocabulary` is to replace another, (V,).

    (count + 1)^(1/2), but 0 for special tokens; they sum to 1.
    """
    words = np.array([token.kind != "special" for token in vocabulary.tokens])  # (V,)
    check_at_least("vocabulary: number of words", words.sum(), 1)
    chances = words * np.sqrt(vocabulary.counts + 1.0)  # (V,)
    return chances / chances.sum()


def span_batches(sequences, batch_size, steps, seed, chances, special=()):
    """Yield `steps` batches (b, t) without targets: spans whose words are swapped for others.

    A small text shows a fraction of a vocabulary; so a share `SWAPPED` of the words is drawn from
    all of it by `chances` (V,). The teacher reads the same spans, so nothing false is learned.
    Special ids at the ends of a sequence stay there. Spans of a batch have one length.

    >>> drawn = span_batches([[101, 7, 7, 7, 102]], 2, 1, 1, np.eye(200)[9], special=(101, 102))
    >>> next(drawn).inputs[0].tolist()
    [[101, 7, 7, 9, 102], [101, 7, 7, 9, 102]]
    """
    check_at_least("sequences", len(sequences), 1)
    parts = [_ends(sequence, set(special)) for sequence in sequences]
    check_at_least("sequences: words in each", min(len(words) for _, words, _ in parts), 1)
    cumulative = np.cumsum(chances)  # (V,)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        drawn = [parts[i] for i in rng.integers(len(parts), size=batch_size)]
        longest = int(rng.integers(SHORTEST, LONGEST + 1))
        L = min(longest, *(len(words) for _, words, _ in drawn))
        first = [int(rng.integers(len(words) - L + 1)) for _, words, _ in drawn]
        spans = np.array([part[1][i : i + L] for part, i in zip(drawn, first)])  # (b, L)
        draw = rng.random(spans.shape) * cumulative[-1]  # (b, L)
        others = np.searchsorted(cumulative, draw, side="right")  # (b, L)
        spans = np.where(rng.random(spans.shape) < SWAPPED, others, spans)  # (b, L)
        rows = [[*left, *span, *right] for (left, _, right), span in zip(drawn, spans)]  # (b, t)
        yield Batch((np.array(rows),), None)


def _ends(sequence, special):
    """(special ids before, words, special ids behind) of a sequence."""
    inner = [i for i, number in enumerate(sequence) if number not in special]
    low, high = (inner[0], inner[-1] + 1) if inner else (0, 0)
    return sequence[:low], sequence[low:high], sequence[high:]
