"""Words that a language model spells in pieces get a token each. Not part of the test run.

    python tests/added_words_lm.py --model SmolLM2-135M --text wikitext2.valid.txt --lexicon A+B
        --train both "mean of pieces" --out docs/data/added_words.json

The words are the most frequent ones of a training part (three lines of four) that are spelled in
pieces and of which the lexicon knows something. A row of the result is a way to make their rows:
nats of held-out windows, per word, as the rows are made and after steps that move them alone.
`--ratio 18` does the same to a compressed model; the rows of other models stay in the file.
"""

import argparse
import json
import random
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from new_words_table import letters
from torch.nn import functional as F

from see_min.bridge import SememeEmbedding, compress
from see_min.experiments.hf_models import load_model
from see_min.experiments.reports import environment
from see_min.storage.files import read_lines, write_atomic
from see_min.units import shuffled
from see_min.words.formats import load_lexicon
from see_min.words.new_words import UnitVectors, annotated

LINE, SPACE, DOCUMENT, NOTHING = "\n", "Ġ", "<|endoftext|>", -100


def chosen(lines, split, lexicon, most):
    """The most frequent words in pieces, and what share of the tokens of lines they are."""
    count = Counter(word for line in lines for word in line.split())
    several = [w for w in count if w.isascii() and w.isalpha() and len(split[w]) > 1
               and len(split["", w]) > 1 and lexicon.senses(w)]
    words = sorted(several, key=lambda w: (-count[w], w))[:most]
    part, whole = (sum(count[w] * len(split[w]) for w in some) for some in (words, count))
    return words, {"candidates": len(several), "least_count": count[words[-1]],
                   "occurrences": sum(count[w] for w in words), "share": round(part / whole, 4)}


def cut(lines, split, size):
    """Windows of whole words whose pieces, and a mark of the beginning, are at most `size`."""
    windows, left = [[]], size - 1
    for word in (word for line in lines for word in (*line.split(), LINE)):
        if len(split[word]) > left:
            windows.append([])
            left = size - 1
        windows[-1].append(word)
        left -= len(split[word])
    return windows


class Grown:
    """A causal model whose embedding and tied head have further rows: X (N, D), or X P."""

    def __init__(self, model, first):
        self.model, self.first = model.requires_grad_(False), first
        layer = model.get_input_embeddings()
        packed = isinstance(layer, SememeEmbedding)
        self.W = layer.weight.detach().clone()  # (V, D), of a compressed layer computed once
        self.P = layer.projection if packed else None  # (d', D)
        self.put(np.zeros((0, self.W.shape[1])))

    def put(self, X):
        """Take rows (N, D); what is trained of a compressed layer are private vectors (N, d')."""
        X = torch.as_tensor(X, dtype=torch.float32)
        X = X if self.P is None else torch.linalg.lstsq(self.P.T, X.T).solution.T  # (N, d')
        self.X = torch.nn.Parameter(X)

    def nats(self, windows, spelled):
        """Cross entropy (b, t) of the ids of windows, 0 after the end of each."""
        rows = [[self.first, *(id for w in window for id in spelled[w])] for window in windows]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self.first] * (longest - len(row)) for row in rows])  # (b, t)
        targets = torch.tensor([row[1:] + [NOTHING] * (longest - len(row)) for row in rows])
        new = self.X if self.P is None else self.X @ self.P  # (N, D)
        own = (ids - len(self.W)).clamp(min=0)  # (b, t)
        old = F.embedding(ids.clamp(max=len(self.W) - 1), self.W)  # (b, t, D)
        rows = torch.where((ids >= len(self.W))[..., None], new[own], old) if len(new) else old
        h = self.model.base_model(inputs_embeds=rows)[0][:, :-1]  # (b, t - 1, D)
        logits = torch.cat([h @ self.W.T, h @ new.T], -1).transpose(1, 2)  # (b, V + N, t - 1)
        return F.cross_entropy(logits, targets, reduction="none", ignore_index=NOTHING)

    @torch.no_grad()
    def measure(self, windows, spelled, words):
        """Nats per word, of all words, the added ones and the others; bits per byte; tokens."""
        costs, counts, tokens = Counter(), Counter(), 0
        for start in range(0, len(windows), 4):
            some = windows[start : start + 4]
            for window, row in zip(some, self.nats(some, spelled)):
                place = 0
                for word in window:
                    end = place + len(spelled[word])
                    costs[word in words] += float(row[place:end].sum())
                    counts[word in words] += 1
                    place = end
                tokens += place
        size = sum(len(w.encode()) + (w != LINE) for window in windows for w in window)
        total = sum(costs.values())
        return {"nats": round(total / counts.total(), 4),
                "added": round(costs[True] / counts[True], 3),
                "others": round(costs[False] / counts[False], 4),
                "bits_per_byte": round(total / size / np.log(2), 4), "tokens": tokens}

    def train(self, windows, spelled, steps, lr):
        """A window a step moves the rows of its words; yields steps done at each of `steps`."""
        optimizer = torch.optim.Adagrad([self.X], lr=lr)
        for step, window in enumerate(windows[: max(steps)], start=1):
            optimizer.zero_grad()
            self.nats([window], spelled).mean().backward()
            here = [spelled[w][0] - len(self.W) for w in window]
            absent = np.setdiff1d(np.arange(len(self.X)), here)
            self.X.grad[absent] = 0  # small, but the optimizer would make whole steps of it
            optimizer.step()
            if step in steps:
                yield step


def ways(source, words, split, lexicon, resized):
    """{name: rows (N, D) of the words}; `both` is what `add_words` does."""
    notes, own = annotated(source.words, words, lexicon)
    mean = np.array([source.rows(np.array(split[w])).mean(0) for w in words])  # (N, D)
    found = {"mean of pieces": mean, "mean resizing": resized}
    known = [i for i, name in enumerate(source.words) if name[1:].isalpha() and name[0] == SPACE]
    names = [source.words[i][1:].lower() for i in known]
    found["letters (FOCUS-like)"] = letters(names, words, source.rows(np.array(known)))
    others = [own[i] for i in np.random.default_rng(0).permutation(len(own))]
    for name, learned, given in (("", notes, own), ("shuffled", shuffled(notes, 0), others)):
        model = UnitVectors(source, learned)
        rows = model.rows(given)  # (N, D)
        found[name or "knowledge"] = rows
        both = [model.between(*pair) for pair in zip(rows, mean)]
        found[f"both, {name}" if name else "both"] = np.array(both)
    return found


def main():
    parser = argparse.ArgumentParser()
    for name in ("model", "text", "lexicon", "out"):
        parser.add_argument(f"--{name}", required=True)
    for name, value in (("ratio", 1), ("words", 300), ("size", 64), ("windows", 32),
                        ("train-size", 24)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--train", nargs="*", default=[])
    a = parser.parse_args()
    lines, lexicon = [line for line in read_lines(a.text) if line.strip()], load_lexicon(a.lexicon)
    held, train = lines[::4], [line for i, line in enumerate(lines) if i % 4]
    model, tokenizer = load_model(a.model, "lm")
    every = sorted({word for line in lines for word in line.split()})
    ids = tokenizer([LINE, *(f" {w}" for w in every), *every])["input_ids"]
    split = dict(zip([LINE, *every, *(("", w) for w in every)], ids))
    words, facts = chosen(train, split, lexicon, a.words)
    new, V = set(words), len(tokenizer)
    held = sorted(cut(held, split, a.size), key=lambda w: -sum(x in new for x in w))[: a.windows]
    train = [window for window in cut(train, split, a.train_size) if new & set(window)]
    random.Random(0).shuffle(train)
    torch.manual_seed(0)
    model.resize_token_embeddings(V + len(words), mean_resizing=True)
    resized = model.get_input_embeddings().weight[V:].detach().clone().numpy()  # (N, D)
    model.resize_token_embeddings(V)
    name = f"see 1/{a.ratio}" if a.ratio > 1 else "dense"
    if a.ratio > 1:
        counts = np.bincount([id for w in train for x in w for id in split[x]], minlength=V)
        facts["bytes"] = compress(model, tokenizer.get_vocab(), a.ratio, counts)[0].bytes
    counted, out = [w for window in held for w in window], Path(a.out)
    facts |= {"held_words": len(counted), "held_added": sum(w in new for w in counted),
              "pieces": sum(len(split[w]) for w in counted if w in new), "windows": len(train)}
    result = json.loads(out.read_text()) if out.is_file() else {"rows": [], "facts": {}}
    kept = [row for row in result["rows"] if row["model"] != name]
    command = " ".join(["python", "tests/added_words_lm.py", *sys.argv[1:]])
    result = {"command": command, "environment": environment(), "rows": kept,
              "facts": result["facts"] | {name: facts}}

    def note(way, step, spelled):
        row = {"model": name, "way": way, "step": step} | grown.measure(held, spelled, new)
        result["rows"].append(row)
        print(row, flush=True)
        write_atomic(out, json.dumps(result, indent=1))

    print(facts, words[:20], flush=True)
    grown = Grown(model.eval(), tokenizer.convert_tokens_to_ids(DOCUMENT))
    if grown.P is not None:
        resized[:] = grown.W.mean(0).numpy()
    note("split", 0, split)
    names = tokenizer.convert_ids_to_tokens(list(range(V)))
    source = SimpleNamespace(words=names, rows=lambda ids: grown.W[ids].double().numpy())
    ways_of = ways(source, words, split, lexicon, resized)
    spelled = split | {word: [V + i] for i, word in enumerate(words)}
    for way, rows in ways_of.items():
        grown.put(rows)
        note(way, 0, spelled)
    for way in a.train:
        grown.put(ways_of[way])
        for step in grown.train(train, spelled, a.steps, a.lr):
            note(way, step, spelled)


if __name__ == "__main__":
    main()
