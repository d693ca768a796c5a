"""Held-out words as if they were new: rows, sentences, senses. Not part of the test run.

    python tests/new_words_table.py --lexicon A+B --corpus TEXT --similarity MEN --similarity SIMLEX
        --sts PAIRS.csv --encoding see40.npz --out docs/data/new_words.json

Every fold takes a fifth of the whole words of all-MiniLM-L6-v2 out of what is learned from; rows of
the rest are those of a compressed encoding. Each part of the result is written when it is there.
"""

import argparse
import json
from dataclasses import replace

import numpy as np
from scipy.stats import spearmanr

from see_min.encoding import SememeEncoding
from see_min.errors import require
from see_min.experiments import sources
from see_min.experiments.hf_models import Pretrained
from see_min.experiments.measure import in_batches
from see_min.experiments.similarity import (
    cosines,
    rank_correlation,
    read_sentence_pairs,
    row_of,
    word_similarity,
)
from see_min.files import write_atomic
from see_min.new_words import UnitVectors
from see_min.units import Annotation, shuffled
from see_min.words.formats import load_lexicon

FOLDS, NEAREST = 5, 10
BOTH = {"both": 0.5, "both, equal": 1.0}  # the direction of pieces beside that of knowledge
FEWER = ("sememes and morphemes", "mean of pieces", "both, equal", "shuffled")


def split(word, vocabulary, without):
    """WordPiece: the longest tokens first, none of them in `without`; [] if there are none."""
    ids, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            id = vocabulary.get(("##" if start else "") + word[start:end])
            if id is not None and id not in without:
                break
        else:
            return []
        ids.append(id)
        start = end
    return ids


class Kept:
    """An encoding whose rows are computed once."""

    def __init__(self, encoding):
        every = np.arange(len(encoding))
        self.X, self.projection = encoding.inner_rows(every), encoding.projection  # (V, d')
        self.E = self.X if self.projection is None else self.X @ self.projection  # (V, D)

    def inner_rows(self, ids):
        return self.X[ids]

    def rows(self, ids):
        return self.E[ids]


class Held:
    """The rows that each way gives to the held-out words of one fold."""

    def __init__(self, encoding, vocabulary, whole, held, seed):
        self.encoding, self.held = encoding, held
        names, notes = vocabulary.names, vocabulary.annotations
        train = np.setdiff1d(np.arange(len(names)), held)
        all_rows = encoding.rows(np.arange(len(names)))  # (V, D)
        mean = all_rows[train].mean(0)
        out = set(held.tolist())
        number = {name: i for i, name in enumerate(names)}
        self.pieces = {w: split(vocabulary.tokens[w].word, number, out) for w in held}
        self.rows = {}
        controls = {
            "sememes and morphemes": notes,
            "sememes alone": [replace(note, morphemes=()) for note in notes],
            "shuffled": shuffled(notes, seed),
        }
        pieces = np.array([all_rows[self.pieces[w]].mean(0) if self.pieces[w] else mean
                           for w in held])  # (N, D)
        for name, own in controls.items():
            model = UnitVectors(encoding, own, train)
            found = model.rows([own[w] for w in held])
            knows = np.array([model.knows(own[w]) for w in held])
            if name == "sememes and morphemes":
                length, self.known = model.length, knows
            self.rows[name] = np.where(knows[:, None], found, mean)
        self.rows["mean of pieces"] = pieces
        self.rows["sememes and morphemes, else pieces"] = np.where(
            self.known[:, None], self.rows["sememes and morphemes"], pieces)
        best = self.rows["sememes and morphemes, else pieces"]
        one, other = unit(best - mean), unit(pieces - mean)  # (N, D) each
        for name, share in BOTH.items():
            self.rows[name] = mean + length * unit(one + share * other)
        self.rows["letters (FOCUS-like)"] = letters(vocabulary, whole, held, all_rows, out)
        self.rows["mean row (transformers' resizing)"] = np.repeat(mean[None], len(held), 0)


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def letters(vocabulary, whole, held, rows, out):
    """Sum of the nearest words' rows by n-grams of letters (3 to 5), weighted by similarity."""
    known = np.array([w for w in whole if w not in out])
    text = require("sklearn.feature_extraction.text", "pip install scikit-learn")
    grams = text.TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), dtype=np.float32)
    K = grams.fit_transform([vocabulary.tokens[w].word for w in known])
    S = (grams.transform([vocabulary.tokens[w].word for w in held]) @ K.T).tocsr()  # (N, known)
    result = np.repeat(rows[known].mean(0)[None], len(held), 0)  # (N, D)
    for i in range(len(held)):
        row = slice(S.indptr[i], S.indptr[i + 1])
        best = np.argsort(-S.data[row])[:NEAREST]
        if len(best):
            weights = S.data[row][best]
            result[i] = weights @ rows[known[S.indices[row][best]]] / weights.sum()
    return result


def word_numbers(E, found, whole, of, benchmarks):
    """Rank correlations between two new words, a new and a known one; centred cosines."""
    centred = [X[whole] - X[whole].mean(0) for X in (found, E)]
    result = {"cosine": round(float(cosines(*centred).mean()), 3)}
    for name, pairs in benchmarks.items():
        score = word_similarity(lambda ids: found[ids], of, pairs, set())["spearman"]
        rows = [(row_of(of, a), row_of(of, b), s) for a, b, s in pairs]
        a, b, s = map(np.array, zip(*(one for one in rows if None not in one)))
        with_known = cosines(found[a], E[b]) + cosines(E[a], found[b])
        result[name] = round(score, 3) if score is not None else None
        result[f"{name}, one known"] = round(rank_correlation(with_known, s) or 0.0, 3)
    return result


def sentence_numbers(model, pairs, E, held, kinds, most=None):
    """STS of the pairs with a held-out word: {kind: Spearman}; "split" has its pieces instead."""
    out = set(held.held.tolist())
    ids = model.encode([text for a, b, _ in pairs for text in (a, b)], special=True)
    some = [i for i in range(len(pairs)) if out & {*ids[2 * i], *ids[2 * i + 1]}]
    some = some[:: max(1, len(some) // most)][:most] if most else some
    ids = [ids[2 * i + side] for i in some for side in (0, 1)]
    gold = [pairs[i][2] for i in some]
    weight, result = model.model.get_input_embeddings().weight, {"pairs": len(some)}
    import torch

    def measure(ids):
        with torch.no_grad():
            found = in_batches(lambda x: model.means(x).float(), ids, model.pad, model.device)
        found = torch.stack(found).numpy()
        return round(float(spearmanr(cosines(found[::2], found[1::2]), gold).statistic), 4)

    result["true rows"] = measure(ids)
    longest = model.block_size
    result["split into pieces"] = measure(
        [[p for t in one for p in (held.pieces.get(t) or [t])][:longest] for one in ids])
    for kind in kinds:
        with torch.no_grad():
            weight[held.held] = torch.as_tensor(held.rows[kind], dtype=weight.dtype)
        result[kind] = measure(ids)
        with torch.no_grad():
            weight[held.held] = torch.as_tensor(E[held.held], dtype=weight.dtype)
    return result


def sense_numbers(encoding, vocabulary, lexicon, whole, seed):
    """Does a vector of a sense stand nearer to words that have this sense than to another's?

    Pairs of senses of a word, each with a held-out synonym (the same WordNet number) that lacks the
    other: the share of synonyms nearer to their own sense. By chance it is a half.
    """
    rng = np.random.default_rng(seed)
    held = whole[rng.integers(0, FOLDS, len(whole)) == 0]
    notes = vocabulary.annotations
    model = UnitVectors(encoding, notes, np.setdiff1d(np.arange(len(notes)), held))
    having = {}  # WordNet number -> held-out rows
    meanings = {w: lexicon.meanings(vocabulary.tokens[w].word) for w in whole}
    for w in held:
        for sense in meanings[w]:
            having.setdefault(sense.number, set()).add(w)
    hits, controls, E = [], [], encoding.rows(np.arange(len(notes)))
    for w in whole:
        senses = {s.number: s.sememes for s in meanings[w] if s.number}
        numbers = [n for n in senses if having.get(n, set()) - {w}]
        for a in numbers:
            for b in numbers:
                own = having[a] - having[b] - {w}
                if a == b or senses[a] == senses[b] or not own:
                    continue
                mixed = rng.permutation([*senses[a], *senses[b]]).tolist()
                cut = len(senses[a])
                for x, y, to in ((senses[a], senses[b], hits),
                                 (mixed[:cut], mixed[cut:], controls)):
                    V = model.rows([Annotation((tuple(x),)), Annotation((tuple(y),))])  # (2, D)
                    V = V - encoding_mean(model)
                    syn = E[sorted(own)] - encoding_mean(model)  # (N, D)
                    near = unit(syn) @ unit(V).T  # (N, 2)
                    to.extend((near[:, 0] > near[:, 1]).tolist())
    return {"synonyms": len(hits), "own sense nearer": round(float(np.mean(hits)), 3),
            "shuffled senses": round(float(np.mean(controls)), 3)}


def encoding_mean(model):
    return model.mean if model.P is None else model.mean @ model.P


def main():
    parser = argparse.ArgumentParser()
    for name in ("lexicon", "corpus", "sts", "encoding", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--similarity", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sts-folds", type=int, default=1)
    parser.add_argument("--pairs", type=int, help="of sentences, the first of those that count")
    a = parser.parse_args()
    source = sources.find_source(model="all-MiniLM-L6-v2")
    lexicon = load_lexicon(a.lexicon)
    vocabulary = source.vocabulary(lexicon, a.corpus)
    stored = SememeEncoding.load(a.encoding)
    encoding = Kept(stored)
    E, of = source.matrix, vocabulary.rows_of_words
    whole = np.array([w for w, t in enumerate(vocabulary.tokens)
                      if t.word.isalpha() and t.word.isascii()])
    benchmarks = sources.named_benchmarks(a.similarity)
    model, pairs = Pretrained(source.model, source.tokenizer, "encoder"), read_sentence_pairs(a.sts)
    result = {"encoding bytes": stored.bytes, "words": len(whole), "seeds": []}

    def write():
        write_atomic(a.out, json.dumps(result, indent=1))

    result["true rows"] = word_numbers(E, E, whole, of, benchmarks)
    for seed in range(a.seeds):
        fold = np.random.default_rng(seed).integers(0, FOLDS, len(whole))
        found, kept = {}, {"seed": seed, "sentences": []}
        result["seeds"].append(kept)
        for k in range(a.sts_folds if seed else FOLDS):
            held = Held(encoding, vocabulary, whole, whole[fold == k], seed)
            for kind, rows in held.rows.items():
                found.setdefault(kind, np.zeros_like(E))[held.held] = rows
            if k < a.sts_folds:
                kinds = FEWER if seed else [*held.rows]
                kept["sentences"].append(sentence_numbers(model, pairs, E, held, kinds, a.pairs))
                print(seed, kept["sentences"][-1], flush=True)
                write()
        if not seed:
            kept["words"] = {kind: word_numbers(E, rows, whole, of, benchmarks)
                             for kind, rows in found.items()}
            for kind, numbers in kept["words"].items():
                print(kind, numbers, flush=True)
            write()
    result["senses"] = sense_numbers(encoding, vocabulary, lexicon, whole, 0)
    write()


if __name__ == "__main__":
    main()
