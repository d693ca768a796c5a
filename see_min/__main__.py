"""`python -m see_min COMMAND`: arguments, one function call a command, exit codes."""

import argparse
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
    data.add_argument("--lexicon", metavar="sample|none|FILE", help="what words mean (default: sample)")
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
    return top


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


def main(argv=None):
    """Exit code 0; 2 for input that cannot be used, with one line; 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = parser().parse_args(argv)
    try:
        {"compress": compress, "seeds": seeds}[arguments.command](arguments, shlex.join(["python", "-m", "see_min", *argv]))
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
