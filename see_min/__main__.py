"""`python -m see_min COMMAND`: arguments, one function call a command, exit codes."""

import argparse
import json
import shlex
import sys

from see_min.checks import DataError, ShapeError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def number(text):
    """A ratio as int where it is whole, so that 10 is shown as 10."""
    value = float(text)
    return int(value) if value.is_integer() else value


def parser():
    """The command line."""
    top = Parser(prog="python -m see_min", description="SEE: sememe entanglement encoding for transformer compression")
    commands = top.add_subparsers(dest="command", required=True, parser_class=Parser)
    job = commands.add_parser(
        "compress", help="train a small GPT, compress its embedding and tied head, finetune, report",
        description="Train a small GPT on real text, compress its embedding and tied output head with SEE and four other "
                    "methods at equal floats, finetune all of them alike in two stages, and show what was gained and lost.",
    )
    data = job.add_argument_group("data")
    data.add_argument("--corpus", metavar="FILE", help="UTF-8 text (default: the docstrings of installed packages)")
    data.add_argument("--lexicon", metavar="NAME", help="what words mean: sample (default), none, openhownet, a folder, a file, "
                      "or several joined by +")
    data.add_argument("--vocabulary", type=int, metavar="V", help="words of the model (default: 4000)")
    method = job.add_argument_group("method")
    method.add_argument("--ratios", type=number, nargs="+", metavar="R", help="dense floats / kept floats (default: 10 40)")
    method.add_argument("--order", type=int, metavar="N", help="factors of a product in the default form (default: 2)")
    method.add_argument("--policy", metavar="NAME", help="additive (default), amplitudes, backoff, undealt, morphemes or senses")
    method.add_argument("--paper-order", type=int, metavar="N", help="factors in the papers' form (default: 3)")
    method.add_argument("--paper-policy", metavar="NAME", help="slots of the papers' form (default: senses)")
    method.add_argument("--also", nargs="+", metavar="NAME", help="further policies to run beside the five methods")
    method.add_argument("--sweeps", type=int, metavar="N", help="sweeps of the fit (default: 20)")
    model = job.add_argument_group("model and training")
    model.add_argument("--dimension", type=int, metavar="D", help="width of the model (default: 192)")
    model.add_argument("--blocks", type=int, metavar="N", help="transformer blocks (default: 2)")
    model.add_argument("--teacher-steps", type=int, metavar="N", help="training steps of the dense model (default: 700)")
    model.add_argument("--stage1-steps", type=int, metavar="N", help="steps on embeddings and hidden states (default: 15)")
    model.add_argument("--stage2-steps", type=int, metavar="N", help="steps of distillation and cross entropy (default: 85)")
    model.add_argument("--seed", type=int, metavar="N", help="default: 0")
    model.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: auto")
    job.add_argument("--out", default="out", metavar="DIR", help="report, figure and checkpoints (default: out)")
    job.add_argument("--quick", action="store_true", help="a small version of everything, under a minute")
    job.add_argument("--resume", action="store_true", help="go on after the phases that a stopped run finished")
    seeds = commands.add_parser("seeds", help="mean and range over runs of compress that differ in the seed")
    seeds.add_argument("reports", nargs="+", metavar="DIR", help="what compress was given as --out")
    _compare_parser(commands)
    _explain_parser(commands)
    hownet = commands.add_parser("hownet", help="look at HowNet's data, or download them")
    hownet.add_argument("--download", action="store_true", help="let OpenHowNet download the data, and check them")
    hownet.add_argument("--folder", metavar="DIR", help="where the data are (default: ~/.openhownet)")
    morphology = commands.add_parser("morphology", help="how well morphemes fall where annotators cut words")
    morphology.add_argument("gold", metavar="FILE", help="word TAB morphemes, or JSON; .gz too")
    morphology.add_argument("--segmentation", metavar="FILE", help="rate this one (default: Morfessor, trained on the words)")
    morphology.add_argument("--key", help="which object of a JSON segmentation")
    morphology.add_argument("--vocabulary", metavar="FILE", help="words to train on and rate (default: those of the gold file)")
    morphology.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    return top


def _matrix_arguments(command):
    """What `compare` and `explain` have in common: a matrix, what is known of its rows, the form."""
    data = command.add_argument_group("matrix")
    data.add_argument("--model", metavar="NAME", help="a folder of a Hugging Face model, or all-MiniLM-L6-v2 (extra: real)")
    data.add_argument("--matrix", metavar="FILE", help=".npy, .npz or .safetensors, or a folder with model.safetensors")
    data.add_argument("--key", help="name of the matrix in the file (default: the largest)")
    data.add_argument("--vocabulary", metavar="FILE", help="vocab.txt, vocab.json or tokenizer.json (default: beside the matrix)")
    data.add_argument("--text", metavar="FILE", help="text in which tokens are counted")
    data.add_argument("--counts", metavar="FILE", help="token TAB count a line, in the place of a text")
    data.add_argument("--unordered", action="store_true", help="the rows do not stand by falling frequency: go by counts alone")
    data.add_argument("--lexicon", default="sample", metavar="NAME", help="sample (default), none, openhownet, a folder, a file, "
                      "or several joined by +")
    data.add_argument("--segmentation", metavar="FILE", help="morphemes of words (default: Morfessor)")
    form = command.add_argument_group("form")
    form.add_argument("--policy", default="additive", metavar="NAME", help="which units a word is made of (default: additive)")
    form.add_argument("--order", type=int, metavar="N", help="factors of a product (default: 2, in the papers' form 3)")
    form.add_argument("--sweeps", type=int, default=6, metavar="N", help="sweeps of a fit (default: 6)")


def _compare_parser(commands):
    command = commands.add_parser(
        "compare", help="compare methods on an embedding matrix, without finetuning",
        description="Compress an embedding matrix by several methods at several ratios and measure what is left of it: "
                    "errors, word similarity, and with a model the similarity of sentences.",
    )
    _matrix_arguments(command)
    command.add_argument("--similarity", nargs="+", default=(), metavar="FILE", help="word TAB word TAB score")
    command.add_argument("--sts", metavar="FILE", help="sentence,sentence,score as CSV; needs --model")
    command.add_argument("--methods", nargs="+", metavar="NAME", help="default: see backoff shuffled hashed svd weighted-svd pq; "
                         "policies are methods, too")
    command.add_argument("--ratios", type=number, nargs="+", default=(10, 20, 40, 80), metavar="R", help="default: 10 20 40 80")
    command.add_argument("--seeds", type=int, nargs="+", default=(0,), metavar="N", help="default: 0")
    command.add_argument("--out", default="out", metavar="DIR", help="compare.json, .md, .png (default: out)")


def _explain_parser(commands):
    command = commands.add_parser(
        "explain", help="show what words are made of",
        description="Show senses, sememes and morphemes of words, and, with a matrix or after the main job, the units that "
                    "rebuild their embeddings, how entangled they are, and their nearest words before and after.",
    )
    command.add_argument("words", nargs="+", metavar="WORD")
    _matrix_arguments(command)
    command.add_argument("--ratio", type=number, default=10, metavar="R", help="default: 10")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    command.add_argument("--job", default="out", metavar="DIR", help="of the main job, if no matrix is named (default: out)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--plot", metavar="FILE.png", help="draw how the (first) word is built")


def compress(arguments, command):
    """Run the main job and write its report."""
    try:
        from see_min.bridge.job import QUICK, Job, run_job
    except ImportError as error:
        raise DataError(f"torch: expected the package to be installed, got {error}: pip install -r requirements.txt") from None
    from see_min.report import table, write_report

    given = {name: value for name, value in vars(arguments).items()
             if value is not None and name not in ("command", "out", "resume")}
    given.update({name: tuple(dict.fromkeys(given[name])) for name in ("ratios", "also") if name in given})
    job = Job(**((QUICK if arguments.quick else {}) | given))
    report = run_job(job, arguments.out, arguments.resume, say=lambda line: print(line, flush=True))
    report["task"] = {"command": command, **report["task"]}
    paths = write_report(report, arguments.out)
    print(table(report))
    print(f"written: {', '.join(str(path) for path in paths)} and one checkpoint a ratio ({report['seconds']:.0f} s in all)")


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
    from see_min.inputs import named_lexicon

    lexicon, note = named_lexicon(name)
    if note:
        print(f"see_min: {note}", file=sys.stderr)
    return lexicon


def compare(arguments, command):
    """Compare methods on a matrix, and write the comparison."""
    from see_min.compare import METHODS, check_methods, compare
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
    task, order = _task(arguments, source, lexicon)
    sentences = None
    if sentence_pairs is not None:
        sentences = lambda rows: source.encoder.sts(sentence_pairs, rows[order.argsort()])
    ratios, seeds = (tuple(dict.fromkeys(values)) for values in (arguments.ratios, arguments.seeds))
    rows = compare(task, methods, ratios, seeds, benchmarks, sentences, say=lambda line: print(line, flush=True))
    about = {"command": command, "source": source.name, "rows": len(task.matrix), "dimension": task.matrix.shape[1],
             "lexicon": arguments.lexicon, "policy": arguments.policy, "sweeps": arguments.sweeps}
    report = {"task": about, "environment": environment(), "rows": rows}
    paths = write_comparison(report, arguments.out)
    print(f"{table(report)}written: {', '.join(map(str, paths))}")


def explain(arguments, command):
    """Print what words are made of, and draw the first."""
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
        task, _ = _task(arguments, source, lexicon)
        plan = plan_of(task, "see", arguments.ratio)
        fitted = {"task": task, "encoding": approximate(task, "see", arguments.ratio, arguments.seed),
                  "units": units_of(task, "see", plan, arguments.seed)}
        rows = {word: row_of(task.vocabulary, word) for word in words}
        pieces = {word: task.vocabulary.annotations[row].morphemes for word, row in rows.items() if row is not None}
    found = explain(words, lexicon, pieces, **fitted)
    print(json.dumps(as_json(found), indent=1, ensure_ascii=False) if arguments.json else text(found))
    if arguments.plot:
        print(f"written: {plot(found[0], arguments.plot)}", file=sys.stderr)


COMMANDS = {"compress": compress, "seeds": seeds, "compare": compare, "explain": explain, "hownet": hownet,
            "morphology": morphology}


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
