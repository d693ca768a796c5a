"""Held-out words as if they were new: rows, sentences, senses. Not part of the test run.

    python tests/new_words_table.py --lexicon A+B --corpus TEXT --similarity MEN --similarity SIMLEX
        --sts PAIRS.csv --wordnet DICT --encoding see40.npz --out docs/data/new_words.json

Every fold takes a fifth of the whole words of all-MiniLM-L6-v2 out of what is learned from; rows of
the rest are those of `see` at 1/40, in a file that is made where it is missing. DICT is the folder
of WordNet's files. Each part of the result is written when it is there.
"""

import argparse
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from see_min import SememeEncoding, encode
from see_min.encoding import private_units
from see_min.entangle import entangled_rows
from see_min.errors import require
from see_min.experiments import sources
from see_min.experiments.hf_models import Pretrained, sentences_of
from see_min.experiments.measure import in_batches, sts
from see_min.experiments.similarity import cosines, rank_correlation, read_sentence_pairs, row_of
from see_min.storage.files import read_lines, write_atomic
from see_min.units import Annotation, shuffled
from see_min.words.formats import load_lexicon
from see_min.words.lexicon import forms
from see_min.words.new_words import UnitVectors, described

FOLDS, NEAREST, TERMS = 5, 10, 3000
WAYS = ("sememes and morphemes", "sememes alone", "shuffled", "mean of pieces", "both",
        "letters (FOCUS-like)", "mean row (transformers' resizing)")
FEWER = ("sememes and morphemes", "mean of pieces", "both", "shuffled")  # of later seeds
TRAINED = ("mean of pieces", "both")  # that are finetuned, too
STEPS, BATCH, RATE = 100, 32, 3e-3


def kept(encoding):
    """An encoding whose rows are computed once."""
    X, P = encoding.inner_rows(np.arange(len(encoding))), encoding.projection  # (V, d')
    E = X if P is None else X @ P  # (V, D)
    return SimpleNamespace(projection=P, inner_rows=lambda ids: X[ids], rows=lambda ids: E[ids])


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


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


def held_rows(encoding, vocabulary, whole, held, seed):
    """{way: rows (N, D)} that it gives to the held-out words of a fold, and {word: its pieces}."""
    names, notes = vocabulary.names, vocabulary.annotations
    train = np.setdiff1d(np.arange(len(names)), held)
    E = encoding.rows(np.arange(len(names)))  # (V, D)
    mean, out, rows = E[train].mean(0), set(held.tolist()), {}
    number = {name: i for i, name in enumerate(names)}
    pieces = {w: split(vocabulary.tokens[w].word, number, out) for w in held}
    spelled = np.array([E[ids].mean(0) if ids else mean for ids in pieces.values()])  # (N, D)
    for name, own in {
        "shuffled": shuffled(notes, seed),
        "sememes alone": [replace(note, morphemes=()) for note in notes],
        "sememes and morphemes": notes,
    }.items():
        model = UnitVectors(encoding, own, train)
        known = np.array([model.knows(own[w]) for w in held])[:, None]  # (N, 1)
        rows[name] = np.where(known, model.rows([own[w] for w in held]), mean)
    rows["mean of pieces"] = spelled
    rows["both"] = np.array([model.between(x, y) if one else y for x, y, one in zip(
        rows["sememes and morphemes"], spelled, known[:, 0])])
    text, known = [token.word for token in vocabulary.tokens], np.setdiff1d(whole, held)
    rows["letters (FOCUS-like)"] = letters(
        [text[w] for w in known], [text[w] for w in held], E[known])
    rows["mean row (transformers' resizing)"] = np.repeat(mean[None], len(held), 0)
    return rows, pieces


def letters(known, words, rows):
    """Rows of words: the nearest known words' `rows` by n-grams of letters (3 to 5), weighted."""
    text = require("sklearn.feature_extraction.text", "pip install scikit-learn")
    grams = text.TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), dtype=np.float32)
    K = grams.fit_transform(known)  # (K, grams)
    S = (grams.transform(words) @ K.T).tocsr()  # (N, K)
    result = np.repeat(rows.mean(0)[None], len(words), 0)  # (N, D)
    for i in range(len(words)):
        row = slice(S.indptr[i], S.indptr[i + 1])
        best = np.argsort(-S.data[row])[:NEAREST]
        if len(best):
            weights = S.data[row][best]
            result[i] = weights @ rows[S.indices[row][best]] / weights.sum()
    return result


def word_numbers(E, found, some, of, benchmarks):
    """Rank correlations of `some` new words, two or one beside a known one; centred cosines."""
    inside = set(some.tolist())
    result = {"cosine": cosines(*(X[some] - X[some].mean(0) for X in (found, E))).mean()}
    for name, pairs in benchmarks.items():
        rows = [(row_of(of, a), row_of(of, b), s) for a, b, s in pairs]
        a, b, s = map(np.array, zip(*(one for one in rows if inside >= {*one[:2]})))
        result[name] = rank_correlation(cosines(found[a], found[b]).round(12), s)
        both = cosines(found[a], E[b]) + cosines(E[a], found[b])  # (N,)
        result[f"{name}, one known"] = rank_correlation(both, s)
    return {name: round(float(value or 0), 3) for name, value in result.items()}


def spelled(ids, pieces, most):
    """Ids of a sentence with held-out words in pieces, at most so many."""
    return [p for t in ids for p in pieces.get(t) or [t]][:most]


def finetuned(source, texts, E, held, pieces, rows, seed):
    """Rows (N, D) after a few steps that move them alone, each in sentences that it occurs in.

    A sentence with the new tokens is to get the vector that it has with these words in pieces:
    nothing else is known of them.
    """
    X, held_out = E.copy(), set(held.tolist())
    X[held] = rows
    layer = torch.nn.Embedding.from_pretrained(torch.as_tensor(X, dtype=torch.float32), False)
    source.model.requires_grad_(False).set_input_embeddings(layer.requires_grad_())
    reader = Pretrained(source.model, source.tokenizer, "encoder")
    own = torch.zeros(len(E), 1)
    own[held] = 1
    optimizer = torch.optim.Adagrad([layer.weight], lr=RATE)
    ids = [one for one in reader.encode(texts, special=True) if held_out & set(one)]
    order = np.random.default_rng(seed).permutation(len(ids))[: STEPS * BATCH]
    for some in order.reshape(-1, BATCH):
        batch = [ids[i] for i in some]
        with torch.no_grad():
            target = vectors(reader, [spelled(one, pieces, reader.block_size) for one in batch])
        loss = 1 - torch.cosine_similarity(vectors(reader, batch), target).mean()  # of (B, H)
        optimizer.zero_grad()
        loss.backward()
        layer.weight.grad *= own
        optimizer.step()
    return layer.weight.detach()[held].double().numpy()


def vectors(reader, ids):
    """(N, H) of sentences given as ids."""
    return torch.stack(in_batches(lambda x: reader.means(x).float(), ids, reader.pad, "cpu"))


def sentence_numbers(source, pairs, texts, E, held, pieces, rows, seed):
    """STS of the pairs with a held-out word, other rows dense: {way: Spearman}."""
    reader, out = Pretrained(source.model, source.tokenizer, "encoder"), set(held.tolist())
    some = [pair for pair in pairs if out & set(sum(reader.encode(pair[:2], special=True), []))]

    @torch.no_grad()
    def in_pieces(texts):
        return vectors(reader, [spelled(one, pieces, reader.block_size)
                                for one in reader.encode(texts, special=True)])

    result = {"pairs": len(some), "true rows": source.sts(some, E)}
    result["split into pieces"] = sts(in_pieces, some)
    trained = {f"{way}, finetuned": finetuned(source, texts, E, held, pieces, rows[way], seed)
               for way in TRAINED}
    for way, own in (rows | trained).items():
        X = E.copy()
        X[held] = own
        result[way] = source.sts(some, X)
    return {way: round(value, 4) for way, value in result.items()}


def definitions(folder):
    """{lemma: its first definition} of WordNet's files."""
    found = {}
    for part in ("noun", "verb", "adj", "adv"):
        texts = {line[:8]: line.partition("| ")[2] for line in read_lines(folder / f"data.{part}")}
        for line in read_lines(folder / f"index.{part}"):
            if line[0] != " ":  # the licence
                lemma, _, number, *rest = line.split()
                found.setdefault(lemma, re.split('[;:]? *"', texts[rest[-int(number)]])[0])
    return found


def definition_numbers(encoding, E, vocabulary, lexicon, texts, of, benchmarks):
    """Words of the benchmarks with sememes and a definition text: rows by each, from one fit.

    What a text says of the word itself does not count.
    """
    named = {row_of(of, one) for pairs in benchmarks.values() for pair in pairs for one in pair[:2]}
    notes, own = vocabulary.annotations, {}
    for w in sorted(named - {None}):
        word = vocabulary.tokens[w].word
        text = next((texts[form] for form in forms(word) if form in texts), "")
        others = [one for one in text.split() if lexicon.find(one) != lexicon.find(word)]
        senses = described(" ".join(others), lexicon)
        if senses and notes[w].senses:
            own[w] = Annotation(senses, notes[w].morphemes)
    some = np.array(list(own))
    model = UnitVectors(encoding, notes, np.setdiff1d(np.arange(len(notes)), some))
    found, result = np.zeros_like(E), {"words": len(some)}
    for way, use in (("sememes and morphemes", notes), ("definition text and morphemes", own)):
        found[some] = model.rows([use[w] for w in some])
        result[way] = word_numbers(E, found, some, of, benchmarks)
    return result


def synonyms(lexicon, vocabulary, words):
    """{word: {WordNet number: sememes of this sense}}, and {number: its words}."""
    senses, having = {}, {}
    for w in words:
        meanings = lexicon.meanings(vocabulary.tokens[w].word)
        senses[w] = {s.number: s.sememes for s in meanings if s.number}
        for number in senses[w]:
            having.setdefault(number, set()).add(w)
    return senses, having


def sense_numbers(encoding, vocabulary, lexicon, whole):
    """Does a vector of a sense stand nearer to words that have this sense than to another's?

    Pairs of senses of a word, each with a held-out synonym (the same WordNet number) that lacks the
    other: the share of synonyms nearer to their own sense. By chance it is a half.
    """
    rng = np.random.default_rng(0)
    held = set(whole[rng.integers(0, FOLDS, len(whole)) == 0].tolist())
    notes, (senses, having) = vocabulary.annotations, synonyms(lexicon, vocabulary, whole)
    model = UnitVectors(encoding, notes, np.setdiff1d(np.arange(len(notes)), list(held)))
    mean = model.mean if model.P is None else model.mean @ model.P  # (D,)
    hits, controls = [], []
    for w, own in senses.items():
        numbers = [n for n in own if having[n] & held - {w}]
        for a, b in itertools.permutations(numbers, 2):
            found = sorted(having[a] & held - having[b] - {w})
            if own[a] == own[b] or not found:
                continue
            mixed, cut = rng.permutation([*own[a], *own[b]]).tolist(), len(own[a])
            S = unit(encoding.rows(found) - mean)  # (N, D)
            for x, y, to in ((own[a], own[b], hits), (mixed[:cut], mixed[cut:], controls)):
                V = model.rows([Annotation((tuple(x),)), Annotation((tuple(y),))])  # (2, D)
                near = S @ unit(V - mean).T  # (N, 2)
                to.extend((near[:, 0] > near[:, 1]).tolist())
    return {"synonyms": len(hits), "own sense nearer": round(float(np.mean(hits)), 3),
            "shuffled senses": round(float(np.mean(controls)), 3)}


def term_numbers(encoding, E, vocabulary, lexicon, whole):
    """Are the terms of a fitted word its senses?

    Words x and x' have a sense of a word that y and y' lack, which have another one of it. Of the
    directions of its terms take the one with most of x - y and the one with least: how often does
    their difference point from y' to x', too? Beside it: terms of other words, and cuts of the
    word's own row at random.
    """
    rng = np.random.default_rng(0)
    whole = np.setdiff1d(whole, private_units(encoding.bag)[0])
    senses, having = synonyms(lexicon, vocabulary, whole)
    base = {w: lexicon.find(vocabulary.tokens[w].word) for w in whole}
    found = []
    for w, own in senses.items():
        for a, b in itertools.combinations(own, 2):
            sides = (sorted(having[n] - (having[a] & having[b])) for n in (a, b))
            sides = [list({base[x]: x for x in side}.values()) for side in sides]  # a form of each
            if min(map(len, sides)) > 1:
                found.append([w, *(x for side in sides for x in rng.choice(side, 2, False))])
    found = np.array(found)[rng.permutation(len(found))[:TERMS]]  # (N, 5)
    w, S = found[:, 0], unit(E - E[whole].mean(0))[found[:, 1:]]  # (N, 4, D)
    R = np.linalg.qr(rng.standard_normal((encoding.inner_dim,) * 2))[0]  # (d', d')
    X = encoding.inner_rows(w) @ R  # (N, d')
    cuts = [X[:, part] @ R[:, part].T for part in np.array_split(np.arange(len(R)), encoding.rank)]
    result = {"words": len(set(w.tolist())), "quadruples": len(w)}
    for way, terms in (("own terms", terms_of(encoding, w)),
                       ("terms of another word", terms_of(encoding, rng.permutation(w))),
                       ("own row cut at random", cuts)):
        T = np.stack([x if encoding.projection is None else x @ encoding.projection for x in terms])
        T, some = unit(T), np.arange(len(w))  # (r, N, D)
        near = (T * (S[:, 0] - S[:, 2])).sum(-1)  # (r, N)
        step = T[near.argmax(0), some] - T[near.argmin(0), some]  # (N, D)
        hits = (step * (S[:, 1] - S[:, 3])).sum(-1) > 0  # (N,)
        result[way] = round(float(hits.mean()), 3)
    return result


def terms_of(encoding, ids):
    """A list of r arrays (N, d'): what each term adds to rows."""
    leaves = encoding.leaves(ids)
    return [entangled_rows([leaf[:, [k]] for leaf in leaves]) for k in range(encoding.rank)]


def main():
    parser = argparse.ArgumentParser()
    for name in ("lexicon", "corpus", "sts", "wordnet", "encoding", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--similarity", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sts-folds", type=int, default=2)
    a = parser.parse_args()
    source, lexicon = sources.find_source(model="all-MiniLM-L6-v2"), load_lexicon(a.lexicon)
    vocabulary, E = source.vocabulary(lexicon, a.corpus), source.matrix
    if not Path(a.encoding).exists():
        encode(E, vocabulary, ratio=40, metric=source.metric(a.corpus)).save(a.encoding)
    stored = SememeEncoding.load(a.encoding)
    encoding, of = kept(stored), vocabulary.rows_of_words
    whole = np.array([w for w, t in enumerate(vocabulary.tokens)
                      if t.word.isalpha() and t.word.isascii()])
    benchmarks, pairs = sources.named_benchmarks(a.similarity), read_sentence_pairs(a.sts)
    texts = sentences_of(read_lines(a.corpus))
    result = {"encoding bytes": stored.bytes, "words": len(whole),
              "true rows": word_numbers(E, E, whole, of, benchmarks), "seeds": []}
    for seed in range(a.seeds):
        fold = np.random.default_rng(seed).integers(0, FOLDS, len(whole))
        found, one = {}, {"seed": seed, "sentences": []}
        result["seeds"].append(one)
        for k in range(a.sts_folds if seed else FOLDS):
            held = whole[fold == k]
            rows, pieces = held_rows(encoding, vocabulary, whole, held, seed)
            for way in WAYS:
                found.setdefault(way, np.zeros_like(E))[held] = rows[way]
            if k < a.sts_folds:
                some = {way: rows[way] for way in (FEWER if seed else WAYS)}
                one["sentences"].append(
                    sentence_numbers(source, pairs, texts, E, held, pieces, some, seed))
        if not seed:
            one["words"] = {way: word_numbers(E, rows, whole, of, benchmarks)
                            for way, rows in found.items()}
        write_atomic(a.out, json.dumps(result, indent=1))
    result["definitions"] = definition_numbers(
        encoding, E, vocabulary, lexicon, definitions(Path(a.wordnet)), of, benchmarks)
    result["senses"] = sense_numbers(encoding, vocabulary, lexicon, whole)
    result["terms"] = term_numbers(stored, E, vocabulary, lexicon, whole)
    write_atomic(a.out, json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
