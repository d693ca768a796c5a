"""`compare`: methods on one embedding matrix, at equal budgets and without finetuning.

`see` and the quantizers keep 1/ratio of the *bytes*, codes included; forms that have hardly any
codes keep 1/ratio of the parameters. Every row says both. With a model and a text, errors are those
that the model sees: the fit's metric is measured on the text.
"""

import time
from functools import partial
from itertools import product
from types import SimpleNamespace

import numpy as np

from see_min.errors import InputError
from see_min.experiments import reports
from see_min.experiments.options import add_flags, check_mix, check_seed
from see_min.experiments.similarity import mean_cosine, read_sentence_pairs, word_similarity
from see_min.experiments.sources import coverage_line, find_source, named_benchmarks
from see_min.fitting.least_squares import check_finite_rows, frequency_weights, relative_error
from see_min.fitting.starts import mapped, metric_roots
from see_min.recipe import FIT_POWER, MIX
from see_min.related import registry
from see_min.storage.encodings import check_bits, rounded
from see_min.storage.files import check_writable
from see_min.words.formats import load_lexicon

RATIOS = (10, 20, 40, 80)
MEANS = ("parameters", "bytes", "error", "weighted_error", "cosine", "seconds")


def as_dense(matrix):
    """A matrix (V, D) as what approximates itself."""
    return SimpleNamespace(rows=lambda ids: np.asarray(matrix[ids]), parameters=matrix.size,
                           index_bytes=0)


def measure_rows(matrix, vocabulary, approximation, benchmarks, sentences=None, S=None):
    """What is left of a matrix (V, D): sizes, errors, and rank correlations with what people say.

    `benchmarks` is {name: [(word, word, score)]}, `sentences(rows (V, D))` a score. The result has
    parameters, bytes; error (relative squared), weighted_error (what fits minimise: weights of the
    recipe, rows seen through S), cosine; scores, rare_scores (pairs with a word of the rarer half
    of the words), pairs.
    """
    rows_of_words, counts = vocabulary.rows_of_words, vocabulary.counts
    known = sorted(rows_of_words.values(), key=lambda row: (-counts[row], row))
    rare = set(known[len(known) // 2 :])
    found = {name: word_similarity(approximation.rows, rows_of_words, pairs, rare)
             for name, pairs in benchmarks.items()}
    scores = {name: one["spearman"] for name, one in found.items()}
    if sentences is not None:
        scores["STS"] = sentences(approximation.rows(np.arange(len(matrix))))
    weights, both = frequency_weights(counts, FIT_POWER), (matrix, approximation)
    if S is not None:
        both = mapped(matrix, S), SimpleNamespace(rows=lambda ids: approximation.rows(ids) @ S)
    return {
        "parameters": int(approximation.parameters),
        "bytes": int(registry.bits(approximation)) // 8,
        "error": relative_error(matrix, approximation),
        "weighted_error": relative_error(*both, weights),
        "cosine": mean_cosine(matrix, approximation.rows), "scores": scores,
        "rare_scores": {name: one["rare_spearman"] for name, one in found.items()},
        "pairs": {name: [one["pairs"], one["rare_pairs"]] for name, one in found.items()},
    }


def reachable(shape, vocabulary, methods, ratios, log=None, **options):
    """[(ratio, method)] of all, before any work: InputError for ratios out of reach.

    With `log` they are left out instead, as long as something is left. Options are those of
    `see_min.related.registry.plan_method`.
    """
    found, refusal = [], None
    for ratio, method in product(ratios, methods):
        try:
            registry.plan_method(shape, vocabulary, method, ratio, **options)
            found.append((ratio, method))
        except InputError as error:
            if log is None:
                raise
            refusal = error
            log(f"{method} at {ratio:g}x is left out: {error}")
    if refusal and not found:
        raise refusal
    return found


def run_comparison(matrix, vocabulary, methods=registry.METHODS, ratios=RATIOS, seeds=(0,),
                   benchmarks=None, sentences=None, log=print, metric=None, mix=MIX, bits=None,
                   **options):
    """All methods, ratios and seeds: rows of `measure_rows` with method, ratio, seed, seconds.

    The dense matrix is first. Methods that draw no random numbers run with the first seed alone.
    With "all" among the methods, ratios that a method cannot reach are left out; else they are
    refused before any work. Metric, mix and the options are those of `see_min.recipe.encode`; with
    `bits`, encodings that count parameters are rounded to so many, and their bytes are of these.
    """
    check_finite_rows(matrix)
    names, benchmarks = registry.check_methods(methods), benchmarks or {}
    left_out = log if "all" in methods else None
    lines = reachable(matrix.shape, vocabulary, names, ratios, left_out, **options)
    work = [(ratio, method, seed) for ratio, method in lines
            for seed in (seeds[:1] if method in registry.SEEDLESS else seeds)]
    S = None if metric is None else metric_roots(metric, mix)[0]
    options |= {"metric": metric, "mix": mix}
    measured = partial(measure_rows, matrix, vocabulary, benchmarks=benchmarks,
                       sentences=sentences, S=S)
    rows = [{"method": "dense", "ratio": 1, "seed": seeds[0], "seconds": 0.0}]
    rows[0] |= measured(as_dense(matrix))
    for done, (ratio, method, seed) in enumerate(work, start=1):
        start = time.perf_counter()
        approximation = registry.approximate(matrix, vocabulary, method, ratio, seed, **options)
        if bits is not None and getattr(approximation, "bits", bits) is None:
            approximation = rounded(approximation, bits)
        seconds = time.perf_counter() - start
        row = {"method": method, "ratio": ratio, "seed": seed, "seconds": seconds}
        rows.append(row | measured(approximation))
        log(f"{done}/{len(work)} {method} at {ratio:g}x, seed {seed}: {_scores_line(rows[-1])}")
    return rows


def _scores_line(row):
    scores = [f"{name} {value:.3f}" for name, value in row["scores"].items() if value is not None]
    error = f"weighted error {row['weighted_error']:.3f}"
    return ", ".join([error, *scores, f"{row['seconds']:.0f} s"])


def mean_rows(rows):
    """{(method, ratio): row}, every number the mean over seeds; a score one seed lacks is None."""
    groups = {}
    for row in rows:
        groups.setdefault((row["method"], row["ratio"]), []).append(row)
    means = {}
    for key, group in groups.items():
        means[key] = group[0] | {name: _mean([row[name] for row in group]) for name in MEANS}
        for kind in ("scores", "rare_scores"):
            means[key][kind] = {name: _mean([row[kind][name] for row in group])
                                for name in group[0][kind]}
    return means


def _mean(values):
    return None if None in values else float(np.mean(values))


def table(report):
    """The comparison as Markdown: sizes, errors, scores."""
    lines = mean_rows(report["rows"])
    dense = lines["dense", 1]
    seeds = len({row["seed"] for row in report["rows"]})
    scores = [*dense["scores"], *(f"{name} (rare)" for name in dense["rare_scores"])]
    head = ["method, ratio", "parameters", "bytes", "error", "weighted", "cosine", *scores,
            "seconds"]
    rows = []
    for row in lines.values():
        sizes = [reports.format_share(dense[key], row[key]) for key in ("parameters", "bytes")]
        errors = [f"{row[key]:.3f}" for key in ("error", "weighted_error", "cosine")]
        values = [*row["scores"].values(), *row["rare_scores"].values()]
        values = ["–" if value is None else f"{value:.3f}" for value in values]
        rows.append([reports.line_name(row), *sizes, *errors, *values, f"{row['seconds']:.1f}"])
    pairs = [f"{name} {used:,} ({few:,} rare)" for name, (used, few) in dense["pairs"].items()]
    note = (f"Scores are Spearman's correlations, means of {seeds} seed{'s' * (seeds > 1)}. Sizes "
            "are shares of the dense ones, bytes with indices. Errors are squared and relative; "
            "the weighted one is what fits minimise. see-derived and its controls do not store the "
            "index of the lexicon: compare their bytes with no other line.")
    used = f"Pairs whose two words are in the vocabulary: {', '.join(pairs) or 'none'}."
    return reports.as_markdown(report, note, reports.markdown_table(head, rows), used)


def figure(report, path):
    """Draw the weighted error and each score against bytes, a line per method."""
    means = mean_rows(report["rows"])
    dense = means.pop(("dense", 1))["scores"]
    labels = {"weighted_error": "weighted error (lower is better)"}
    labels |= {name: f"{name} (higher is better)" for name in dense if dense[name] is not None}
    rows = [row | row["scores"] | {"embedding_bytes": row["bytes"]} for row in means.values()]
    fig = reports.new_figure(5.5 * len(labels), 5, "Quality against size, without finetuning")
    for axis, key in zip(fig.subplots(1, len(labels), squeeze=False)[0], labels):
        axis.set_ylabel(labels[key])
        reports.size_panel(axis, [row for row in rows if row[key] is not None], key)
        if key in dense:
            axis.axhline(dense[key], color="black", label="dense", ls="--", lw=1.3)
    handles, names = axis.get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    return reports.save_figure(fig, path)


def add_arguments(parser):
    """The flags of `compare`."""
    parser.add_argument("--model", metavar="FOLDER",
                        help="a Hugging Face model, or all-MiniLM-L6-v2")
    parser.add_argument("--matrix", metavar="FILE", help=".npy, .safetensors or a toy .pt")
    parser.add_argument("--vocabulary", metavar="FILE",
                        help="vocab.txt, vocab.json or tokenizer.json (default: beside the matrix)")
    parser.add_argument("--similarity", nargs="+", default=(), metavar="FILE",
                        help="lines word TAB word TAB score")
    parser.add_argument("--methods", nargs="+", metavar="NAME",
                        help=f"default: {' '.join(registry.METHODS)}; or all")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0,), metavar="N",
                        help="default: 0")
    parser.add_argument("--bits", type=int, metavar="B",
                        help="of a parameter of encodings that count parameters (default: 32)")
    parser.add_argument("--layers", action="store_true",
                        help="compare methods for the blocks of a small GPT and BERT instead")
    add_flags(parser, "corpus", "lexicon", "sts", "ratios", "mix", "quick", "out")


def run(arguments, command):
    """Compare, and write compare.json, .md and .png; InputError for what cannot be used."""
    if arguments.layers:
        from see_min.experiments import layers

        return layers.run(arguments, command)
    given = arguments.methods or registry.METHODS
    registry.check_methods(given)
    check_mix(arguments.mix)
    if arguments.bits is not None:
        check_bits(arguments.bits)
    for seed in arguments.seeds:
        check_seed(seed)
    check_writable(arguments.out)
    benchmarks = named_benchmarks(arguments.similarity)
    pairs = None if arguments.sts is None else read_sentence_pairs(arguments.sts)
    if pairs is not None and arguments.model is None:
        raise InputError("sts: expected --model, whose embedding the matrix can replace, got none")
    source = find_source(arguments.matrix, arguments.vocabulary, arguments.model)
    lexicon = load_lexicon(arguments.lexicon)
    vocabulary = source.vocabulary(lexicon, arguments.corpus)
    V, D = source.matrix.shape
    reports.progress(f"{source.name}: {V:,} rows of {D}; {coverage_line(lexicon, vocabulary)}")
    sentences = None if pairs is None else lambda rows: source.sts(pairs, rows)
    rows = run_comparison(
        source.matrix, vocabulary, given, tuple(dict.fromkeys(arguments.ratios or RATIOS)),
        tuple(dict.fromkeys(arguments.seeds)), benchmarks, sentences, reports.progress,
        metric=_metric(source, arguments), mix=arguments.mix, bits=arguments.bits,
        sweeps=1 if arguments.quick else None)
    task = {"source": source.name, "rows": V, "dimension": D, "lexicon": arguments.lexicon}
    reports.write_report({"task": task, "rows": rows}, command, arguments.out, "compare", table,
                         figure)


def _metric(source, arguments):
    """What the model sees of the rows in the text; a model of no sentences has plain squares."""
    if not arguments.mix:
        return None
    try:
        return source.metric(arguments.corpus)
    except InputError as error:
        reports.progress(f"no metric is measured: {error}")
