"""Tables in docs/results.md, docs/new_words.md and README.md are those of the runs in docs/data.

`python tests/test_results.py` prints them. Each file of docs/data holds the rows of a command's
reports, one report per seed, with the commit and the machine.
"""

import json
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs/data"
NEW_WORDS = "docs/new_words.md"
PERPLEXITY, BLEU, STS = (1, "perplexity"), (2, "BLEU"), (4, "STS")
FINETUNED = {"main_job": PERPLEXITY, "translation": BLEU, "minilm_folder": STS,
             "smollm2": PERPLEXITY}
SCORES = ("weighted_error", "STS", "MEN", "rare MEN")


def read(name, part="rows"):
    return json.loads((DATA / f"{name}.json").read_text())[part]


def mean(rows, digits, dense=None):
    """Mean over seeds, and of the differences from the dense model of the same seed."""
    if not rows:
        return "not run"
    text = f"{np.mean([row['value'] for row in rows]):.{digits}f}"
    if dense is None:
        return text
    off = [row["value"] - dense[row["seed"]] for row in rows]
    spread = f" ± {np.std(off, ddof=1):.{digits}f}" if len(off) > 1 else ""
    return f"{text} ({np.mean(off):+.{digits}f}{spread})"


def trained_dense(rows):
    """{seed: value} of the dense model with the same training, or of the dense model as it is."""
    found = {row["seed"]: row["value"] for row in of(rows, method="dense", stage="teacher")}
    return found | {row["seed"]: row["value"] for row in of(rows, method="dense", stage="stage2")}


def of(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def keys(rows, key):
    """Values in the order of their first rows, without those of the dense model."""
    return list(dict.fromkeys(row[key] for row in rows if "dense" not in row.values()))


def finetuned_table(name):
    """Methods by ratios, after the fit and finetuned: mean (difference from dense ± deviation)."""
    digits, metric = FINETUNED[name]
    rows, ratios = read(name), sorted(keys(read(name), "ratio"))
    dense = trained_dense(rows)
    head = [f"fit, 1/{ratio:g} | finetuned, 1/{ratio:g}" for ratio in ratios]
    lines = [f"| {metric} | " + " | ".join(head) + " |", "|---" + "|---:" * 2 * len(ratios) + "|"]
    for method in keys(rows, "method"):
        cells = [mean(of(rows, method=method, ratio=ratio, stage=stage), digits, one)
                 for ratio in ratios for stage, one in (("fit", None), ("stage2", dense))]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def stored_line(name):
    """Bytes that a file holds, means over seeds, per method and ratio."""
    rows, key = read(name), "bytes" if name == "minilm_compare" else "embedding_bytes"
    ratios = sorted(keys(rows, "ratio"))
    parts = [f"dense {of(rows, method='dense')[0][key]:,}"]
    for method in keys(rows, "method"):
        some = [[row[key] for row in of(rows, method=method, ratio=ratio)] for ratio in ratios]
        means = " / ".join(f"{np.mean(one):,.0f}" if one else "not run" for one in some)
        parts.append(f"{method} {means}")
    head = "Stored bytes at " + ", ".join(f"1/{ratio:g}" for ratio in ratios)
    return f"{head}: {'; '.join(parts)}."


def score(row, name):
    if name == "weighted_error":
        return row[name]
    scores = row["rare_scores" if name.startswith("rare") else "scores"]
    return next(scores[key] for key in scores if name.removeprefix("rare ") in key)


def comparison_table():
    """Methods by ratios: weighted error / STS / MEN / MEN of pairs with a rare word."""
    rows = read("minilm_compare")
    ratios, found = sorted(keys(rows, "ratio")), []
    for method in keys(rows, "method"):
        cells = []
        for ratio in ratios:
            some = of(rows, method=method, ratio=ratio)
            means = [np.mean([score(row, name) for row in some]) for name in SCORES if some]
            cells.append(" / ".join(f"{one:.3f}" for one in means) or "not run")
        found.append(f"| {method} | " + " | ".join(cells) + " |")
    seeds = {ratio: len({row["seed"] for row in of(rows, ratio=ratio)}) for ratio in ratios}
    names = [f"1/{ratio:g}, {n} seed{'s' * (n > 1)}" for ratio, n in seeds.items()]
    return ["| | " + " | ".join(names) + " |", "|---" * (len(ratios) + 1) + "|", *found]


def bytes_table():
    """MorphTE's and word2ket's forms in 8 bits beside see: stored bytes, error and scores."""
    rows = read("morphte")
    return [f"| {row['method']} | {row['bytes']:,} | 1/{rows[0]['bytes'] / row['bytes']:.1f} | "
            + " | ".join(f"{score(row, name):.3f}" for name in SCORES) + " |" for row in rows]


def gain_table():
    """What the lexicon adds: scores of see-derived less those of its shuffled control."""
    rows = read("minilm_compare")
    ratios, cells = sorted(keys(rows, "ratio")), []
    for ratio in ratios:
        some, control = (of(rows, method=one, ratio=ratio) for one in ("see-derived", "shuffled"))
        off = [np.mean([score(row, name) for row in some])
               - np.mean([score(row, name) for row in control]) for name in SCORES]
        cells.append(" / ".join(f"{one:+.3f}" for one in off))
    return ["| | " + " | ".join(f"1/{ratio:g}" for ratio in ratios) + " |",
            "|---" * (len(ratios) + 1) + "|",
            "| see-derived minus shuffled | " + " | ".join(cells) + " |"]


def new_words_tables():
    """Rows of held-out words; sentences with them, a seed is the mean of its folds."""
    data = json.loads((DATA / "new_words.json").read_text())
    seeds = data["seeds"]
    names = [f"EN-{name}{one}" for name in ("MEN-TR-3k", "SIMLEX-999")
             for one in ("", ", one known")]
    words = {"the true row": data["true rows"]} | seeds[0]["words"]
    texts = data["definitions"]
    words |= {f"{way}, {texts['words']:,} words": texts[way] for way in list(texts)[1:]}
    lines = [f"| {kind} | " + " | ".join(f"{one[key]:.3f}" for key in [*names, "cosine"]) + " |"
             for kind, one in words.items()] + [data["command"]]
    for kind in seeds[0]["sentences"][0]:
        own = [np.mean([fold[kind] for fold in seed["sentences"]]) for seed in seeds
               if kind in seed["sentences"][0]]
        if kind == "pairs":
            continue
        cells = [f"{np.mean(own):.4f}", *(f"{one:.4f}" for one in own)]
        cells += ["not run"] * (len(seeds) - len(own))
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return lines


def spread(values):
    """Mean ± standard deviation over seeds; of one seed its value."""
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"


def two_languages_tables():
    """Words found in another language; rows of two languages in two tables, and in one."""
    rows, translator = read("two_languages"), read("two_languages", "translator")["rows"]
    lines = []
    for said, german, chinese in (
            ("true rows", "true rows, centred", "true rows of English names"),
            ("the English word's own sememes", "sememes of the English word", None),
            ("inherited sememes", "sememes", "sememes, English word"),
            ("shuffled", "shuffled", "shuffled, English word")):
        found = [("German", german, k) for k in (2, 3, 1)]
        found += [("Chinese", chinese, k) for k in (0, 1)] if chinese else []
        cells = [spread([seed[side][way][k] for seed in rows["seeds"]]) for side, way, k in found]
        lines.append(f"| {said} | " + " | ".join(cells + [""] * (5 - len(cells))) + " |")
    tables = rows["tables"][1:]  # the first is dense
    for kind in keys(tables, "kind"):
        cells = []
        for some in (of(tables, kind=kind, ratio=ratio) for ratio in (40, 80)):
            cells += [errors(some), spread([row["P@1"] for row in some])]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    parts = [f"{kind} {errors(some)} ({np.mean([row['BLEU'] for row in some]):.1f})"
             for kind in keys(translator, "kind") for some in [of(translator, kind=kind)]]
    return [*lines, f"Translator at 1/40, error of both (BLEU): {'; '.join(parts)}."]


def errors(rows):
    """Means over seeds: German / English, or of both."""
    return " / ".join(f"{x:.3f}" for x in np.mean([row["error"] for row in rows], axis=0))


def added_words_table():
    """Perplexity per word and nats per added word, by steps in which the new rows alone move."""
    rows = read("added_words")
    steps, lines = sorted({row["step"] for row in rows}), []
    for model, way in dict.fromkeys((row["model"], row["way"]) for row in rows):
        some = {row["step"]: row for row in of(rows, model=model, way=way)}
        cells = [f"{np.exp(some[s]['nats']):.1f}" if s in some else "-" for s in steps]
        cells += [f"{some[s]['added']:.2f}" if s in some else "-" for s in steps]
        lines.append(f"| {model}, {way} | " + " | ".join(cells) + " |")
    return lines


HEADS = ("dense", "see", "see, compiled", "see, held", "see, by parameters",
         "see, by parameters, held")


def accelerator_tables():
    """Milliseconds of heads (share of dense); tokens per second of GPT-2."""
    rows = read("accelerator")
    heads, lines = of(rows, part="head"), ["| head | " + " | ".join(HEADS) + " |"]
    for V, D, N, call in dict.fromkeys((r["V"], r["D"], r["states"], r["call"]) for r in heads):
        own = {r["method"]: r for r in of(heads, D=D, states=N, call=call)}
        cells = [f"{own[m]['ms']:.2f} ({own[m]['ratio']:.2f})" if m in own else "" for m in HEADS]
        what = "forward" if call == "forward" else "with gradients"
        states = "1 state" if N == 1 else f"{N:,} states"
        lines.append(f"| {V:,} x {D:,}, {states}, {what} | " + " | ".join(cells) + " |")
    for call in dict.fromkeys(row["call"] for row in of(rows, part="gpt2")):
        dense, see = of(rows, part="gpt2", call=call)
        speed = " | ".join(f"{row['tokens_per_second']:,}" for row in (dense, see))
        lines.append(f"| {call} | {speed} | {see['ratio']:.2f} |")
    return lines


def readme_table():
    """The main job, finetuned, seed 0: what the README's first command prints."""
    rows = of(read("main_job"), seed=0)
    names = {
        "see": "**see**",
        "see-derived": "see-derived: words and lexicon at hand at loading",
        "shuffled": "the same with shuffled lexicon entries (control)",
        "opq": "optimized product quantization",
        "svd-int8": "weighted SVD, 8-bit factors",
    }
    return [f"| {said} | " + " | ".join(
        mean(of(rows, method=method, ratio=ratio, stage="stage2"), 1) for ratio in (10, 40)) + " |"
        for method, said in names.items()]


def lost(lines, page="docs/results.md"):
    """Lines that a page does not have."""
    shown = (ROOT / page).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line not in shown]


def tables():
    """{name of a run: (lines, the page that shows them)}."""
    results = {name: finetuned_table(name) for name in FINETUNED}
    results["minilm_compare"] = comparison_table() + gain_table()
    for name, lines in results.items():
        results[name] = [*lines, read(name, "command"), stored_line(name)], "docs/results.md"
    results["README"] = readme_table(), "README.md"
    papers = [*bytes_table(), read("morphte", "command")]
    two, added = (read(name, "command") for name in ("two_languages", "added_words"))
    return results | {
        "morphte": (papers, "docs/results.md"),
        "accelerator": ([*accelerator_tables(), read("accelerator", "command")], "docs/results.md"),
        "new_words": (new_words_tables(), NEW_WORDS),
        "two_languages": ([*two_languages_tables(), two], NEW_WORDS),
        "added_words": ([*added_words_table(), added], NEW_WORDS),
    }


def test_tables_commands_and_stored_bytes_are_those_of_the_runs():
    for name, (lines, page) in tables().items():
        assert lost(lines, page) == [], name


def test_a_line_that_no_run_made_is_found():
    line = finetuned_table("main_job")[2]
    assert lost([line]) == [] and lost([line.replace(".", ".9", 1)]) != []


if __name__ == "__main__":
    for name, (lines, _) in tables().items():
        print(f"\n{name}\n", *lines, sep="\n")
