"""`python -m see_min COMMAND`: one function a command, exit codes. What a command takes: `see_min.arguments`."""

import json
import os
import shlex
import sys

from see_min.arguments import parser
from see_min.checks import DataError, ShapeError

REAL = ("sts", "methods", "batch", "context", "rate", "leaf_rate", "accumulate", "bf16")  # of compress PATH alone
SMALL = ("vocabulary", "paper_order", "paper_policy", "also", "dimension", "blocks", "teacher_steps", "teacher", "valid_parallel",
         "source_lexicon", "shared_vocabulary", "least")  # of a job without PATH alone


def compress(arguments, command):
    """Run a job on a model of the bridge, or compress the model in a folder; write the report."""
    try:
        from see_min.bridge.job import run_job, settings
        from see_min.bridge.pretrained_job import PretrainedJob, run_pretrained
        from see_min.bridge.training import processes
    except ImportError as error:
        raise DataError(f"torch: expected the package to be installed, got {error}: pip install -r requirements.txt") from None
    from see_min.report import table, write_report

    given = {name: value for name, value in vars(arguments).items()
             if value is not None and name not in ("command", "out", "resume", "path")}
    given.update({name: tuple(dict.fromkeys(given[name])) for name in ("ratios", "also", "methods") if name in given})
    given.update({name: tuple(given[name]) for name in ("parallel", "valid_parallel") if name in given})
    foreign = [name for name in (SMALL if arguments.path else REAL) if name in given]
    if foreign:
        needs = "no PATH" if arguments.path else "a PATH"
        raise DataError(f"{foreign[0].replace('_', '-')}: expected {needs} with it, got {'one' if arguments.path else 'none'}")
    say = lambda line: print(line, flush=True)
    if arguments.path:
        quick = {"stage1_steps": 3, "stage2_steps": 5, "sweeps": 2} if given.pop("quick") else {}
        job = PretrainedJob(**(quick | given | {"model": arguments.path}))
        report = run_pretrained(job, arguments.out, arguments.resume, say)
    else:
        report = run_job(settings(**given), arguments.out, arguments.resume, say)
    if processes()[0]:
        return  # under torchrun the first process writes
    report["task"] = {"command": command, **report["task"]}
    paths = write_report(report, arguments.out)
    print(table(report))
    kept = "a folder a method and ratio" if arguments.path else "one checkpoint a ratio"
    print(f"written: {', '.join(str(path) for path in paths)} and {kept} ({report['seconds']:.0f} s in all)")


def evaluate(arguments, command):
    """Print the metric of a model in a folder, or of a checkpoint."""
    try:
        from see_min.bridge.measure import measure_checkpoint
        from see_min.bridge.pretrained_job import measure
    except ImportError as error:
        raise DataError(f"torch: expected the package to be installed, got {error}: pip install -r requirements.txt") from None
    given = {name: value for name, value in vars(arguments).items() if name not in ("command", "json") and value is not None}
    path, is_file = given.pop("path"), arguments.path.endswith(".pt")
    foreign = [name for name in ("task", "sts", "context") if is_file and name in given]
    if foreign:
        raise DataError(f"{foreign[0]}: expected a folder with it, got a file: {path}")
    result = (measure_checkpoint if is_file else measure)(path, **given)
    print(json.dumps({"command": command, **result}, indent=1) if arguments.json else f"{result['metric']} {result['value']:.4f}")


def seeds(arguments, command):
    """Print the table over seeds."""
    from see_min.report import seeds_table
    from see_min.results import read_report

    print(f"Command: `{command}`\n\n{seeds_table([read_report(path) for path in arguments.reports])}", end="")


def hownet(arguments, command):
    """Say what HowNet's data hold, after downloading them if asked."""
    from see_min.hownet import download, read_openhownet

    if arguments.download:
        download(arguments.folder, say=print)
    lexicon = read_openhownet(arguments.folder)
    senses = [sense for own in lexicon.entries.values() for sense in own]
    sememes = {name for sense in senses for name in sense.sememes}
    print(f"{len(lexicon):,} English words, {len(senses):,} senses, {len(sememes):,} sememes; {len(lexicon.skipped):,} notes")
    for note in lexicon.skipped[:5]:
        print(f"  {note}")


def morphology(arguments, command):
    """Print precision, recall and F1 of morpheme boundaries."""
    from see_min.morphemes import segment
    from see_min.report import cells
    from see_min.segmentation import boundary_scores, read_segmentation
    from see_min.tokens import normalise, read_vocabulary

    gold = read_segmentation(arguments.gold)
    tokens = normalise(read_vocabulary(arguments.vocabulary)) if arguments.vocabulary else ()
    words = list(dict.fromkeys(token.word for token in tokens if token.word)) if arguments.vocabulary else list(gold)
    if arguments.segmentation:
        name, predicted = arguments.segmentation, read_segmentation(arguments.segmentation, arguments.key)
        predicted = {word: predicted[word] for word in words if word in predicted}
    else:
        print(f"training Morfessor on {sum(map(str.isalpha, words)):,} words of letters alone", file=sys.stderr, flush=True)
        name, predicted = "Morfessor", {word: pieces for word, pieces in zip(words, segment(words, arguments.seed)) if pieces}
    scores = boundary_scores(predicted, gold)
    values = [f"{scores[key]:.3f}" for key in ("precision", "recall", "f1", "exact")]
    print(f"Command: `{command}`\n\n{cells(['segmentation', 'words', 'precision', 'recall', 'F1', 'all cuts right'])}")
    print(f"{cells(['---'] + ['---:'] * 5)}\n{cells([name, format(scores['words'], ','), *values])}")


def _task(arguments, source, lexicon, progress=None):
    from see_min.inputs import build_task, coverage_line

    task, rows = build_task(source, lexicon, arguments.text, arguments.counts, not arguments.unordered, arguments.segmentation,
                            arguments.policy, arguments.order, arguments.sweeps, progress=progress)
    print(f"{source.name}: {task.matrix.shape[0]:,} rows of {task.matrix.shape[1]}; {coverage_line(lexicon, task.vocabulary)}",
          file=sys.stderr, flush=True)
    return task, rows


def _lexicon(name):
    from see_min.lexicon_files import load_lexicon

    lexicon = load_lexicon(name)
    if lexicon.note:
        print(f"see_min: {lexicon.note}", file=sys.stderr)
    return lexicon


def compare(arguments, command):
    """Compare methods on a matrix, or with --layers on the blocks of small models."""
    if arguments.layers:
        return compare_layers(arguments, command)
    if arguments.quick:
        raise DataError("quick: expected --layers with it, got none")
    compare_embeddings(arguments, command)


def compare_embeddings(arguments, command):
    """Compare methods on a matrix, and write the comparison."""
    from tqdm import tqdm

    from see_min.compare import FIXED, METHODS, RATIOS, check_methods, compare
    from see_min.compare_report import table, write_comparison
    from see_min.files import check_writable
    from see_min.inputs import find_source, named_benchmarks
    from see_min.results import environment
    from see_min.similarity import read_sentence_pairs

    methods = check_methods(arguments.methods or METHODS, arguments.policy)
    check_writable(arguments.out)
    benchmarks = named_benchmarks(arguments.similarity)
    sentence_pairs = None if arguments.sts is None else read_sentence_pairs(arguments.sts)
    lexicon = _lexicon(arguments.lexicon)
    source = find_source(arguments.matrix, arguments.key, arguments.vocabulary, arguments.model)
    if source is None:
        raise DataError("matrix: expected --matrix FILE or --model NAME, got neither")
    if sentence_pairs is not None and source.encoder is None:
        raise DataError("sts: expected --model, whose place in sentences the matrix can take, got a matrix alone")
    ratios, seeds = (tuple(dict.fromkeys(values)) for values in (arguments.ratios or RATIOS, arguments.seeds))
    lines = len(ratios) * sum(1 if method in FIXED else len(seeds) for method in methods)
    bar = tqdm(total=lines, desc="compare", disable=None, leave=False)
    task, order = _task(arguments, source, lexicon, progress=bar.set_postfix_str)
    sentences = None
    if sentence_pairs is not None:
        sentences = lambda rows: source.encoder.sts(sentence_pairs, rows[order.argsort()])

    def say(line):
        bar.write(line)
        sys.stdout.flush()
        bar.update()

    rows = compare(task, methods, ratios, seeds, benchmarks, sentences, say, leave_out="all" in (arguments.methods or ()))
    bar.close()
    about = {"command": command, "source": source.name, "rows": len(task.matrix), "dimension": task.matrix.shape[1],
             "lexicon": arguments.lexicon, "policy": arguments.policy, "sweeps": arguments.sweeps}
    report = {"task": about, "environment": environment(), "rows": rows}
    paths = write_comparison(report, arguments.out)
    print(f"{table(report)}written: {', '.join(map(str, paths))}")


def compare_layers(arguments, command):
    """Compare layer methods on the blocks of small models, and write the comparison."""
    try:
        from see_min.bridge.compare_layers import QUICK, LayerTask, check_task, compare_layers
    except ImportError as error:
        raise DataError(f"torch: expected the package to be installed, got {error}: pip install -r requirements.txt") from None
    from see_min.files import check_writable
    from see_min.layers_report import table, write_layers
    from see_min.results import environment

    for name in ("matrix", "model", "sts", "similarity"):
        if getattr(arguments, name):
            raise DataError(f"{name}: expected no --layers with it, got one")
    given = {name: tuple(dict.fromkeys(getattr(arguments, name))) for name in ("methods", "ratios") if getattr(arguments, name)}
    task = LayerTask(**((QUICK if arguments.quick else {}) | given | {"job": arguments.job, "seed": arguments.seeds[0]}))
    check_task(task)
    check_writable(arguments.out)
    report = compare_layers(task, arguments.out, say=lambda line: print(line, file=sys.stderr, flush=True))
    report = {"task": {"command": command, **report.pop("task")}, "environment": environment(), **report}
    paths = write_layers(report, arguments.out)
    print(f"{table(report)}written: {', '.join(map(str, paths))}")


def explain(arguments, command):
    """Print what words are made of, and draw the first."""
    from tqdm import tqdm

    from see_min.checks import check_at_least
    from see_min.compare import approximate, plan_of, units_of
    from see_min.explain import as_json, explain, row_of
    from see_min.explain_report import plot, text
    from see_min.inputs import find_source
    from see_min.morphemes import segment
    from see_min.units import check_policy

    check_at_least("seed", arguments.seed, 0)
    check_policy(arguments.policy)
    lexicon, words, fitted = _lexicon(arguments.lexicon), list(dict.fromkeys(arguments.words)), {}
    source = find_source(arguments.matrix, arguments.key, arguments.vocabulary, arguments.model, arguments.job)
    if source is None:
        if arguments.plot:
            raise DataError("plot: expected --matrix FILE, --model NAME or a finished main job, got none of them")
        print(f"no --matrix, no --model, no main job in {arguments.job}: what is known of the words alone", file=sys.stderr)
        pieces = dict(zip(words, segment([*words, *lexicon.entries])))
    else:
        bar = tqdm(total=arguments.sweeps, desc="fit", disable=None, leave=False)
        task, _ = _task(arguments, source, lexicon, progress=lambda method: bar.update())
        plan = plan_of(task, "see", arguments.ratio)
        fitted = {"task": task, "encoding": approximate(task, "see", arguments.ratio, arguments.seed),
                  "units": units_of(task, "see", plan, arguments.seed)}
        bar.close()
        rows = {word: row_of(task.vocabulary, word) for word in words}
        pieces = {word: task.vocabulary.annotations[row].morphemes for word, row in rows.items() if row is not None}
    found = explain(words, lexicon, pieces, **fitted)
    print(json.dumps(as_json(found), indent=1, ensure_ascii=False) if arguments.json else text(found))
    if arguments.plot:
        print(f"written: {plot(found[0], arguments.plot)}", file=sys.stderr)


def bench(arguments, command):
    """Measure time and memory, and write the measurement."""
    from see_min.bench_report import table, write_bench
    from see_min.files import check_writable

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # before torch: its profiler writes two lines a measurement otherwise
    try:
        from see_min.bridge.bench import QUICK, Bench, bench
    except ImportError as error:
        raise DataError(f"torch: expected the package to be installed, got {error}: pip install -r requirements.txt") from None

    check_writable(arguments.out)
    given = {name: value for name, value in vars(arguments).items() if value is not None and name not in ("command", "out")}
    if "dimensions" in given:
        given["dimensions"] = tuple(dict.fromkeys(given["dimensions"]))
    task = Bench(**((QUICK if arguments.quick else {}) | given))
    report = bench(task, say=lambda line: print(line, file=sys.stderr, flush=True))
    report["task"] = {"command": command, **report["task"]}
    paths = write_bench(report, arguments.out)
    print(f"{table(report)}written: {', '.join(map(str, paths))}")


COMMANDS = {"compress": compress, "evaluate": evaluate, "seeds": seeds, "compare": compare, "explain": explain, "bench": bench,
            "hownet": hownet, "morphology": morphology}


def main(argv=None):
    """Exit code 0; 2 for input that cannot be used, with one line; 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = parser().parse_args(argv)
    try:
        COMMANDS[arguments.command](arguments, shlex.join(["python", "-m", "see_min", *argv]))
    except (DataError, ShapeError) as error:
        print(f"see_min: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = ""
        if arguments.command == "compress":
            kept = f"; finished phases are kept in {arguments.out}/phases: the same command with --resume goes on after them"
        print(f"\nsee_min: interrupted{kept}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
