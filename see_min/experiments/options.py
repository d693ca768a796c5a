"""Flags that several commands share; nothing heavy is imported."""

from see_min.errors import InputError

LEXICON = "sample (default), none, openhownet, a folder, a file, or several joined by +"


def parse_ratio(text):
    """A ratio, as int where it is whole, so that 10 is shown as 10.

    >>> parse_ratio("10.0"), parse_ratio("2.5")
    (10, 2.5)
    """
    value = float(text)
    return int(value) if value.is_integer() else value


def check_seed(value):
    """Refuse a seed that torch does not take."""
    if not 0 <= value < 2**63:
        raise InputError(f"seed: expected 0 to 2^63 - 1, got {value}")


def check_mix(value):
    """Refuse a share of the metric that is none: plain squares keep a part."""
    if not 0 <= value < 1:
        raise InputError(f"mix: expected 0 to below 1, got {value:g}")
    return value


def add_data_arguments(parser):
    """Texts that a model is trained on or measured by."""
    parser.add_argument("--corpus", metavar="FILE", help="UTF-8 text of lm, mlm and encoder")
    parser.add_argument("--parallel", nargs=2, metavar=("SOURCE", "TARGET"),
                        help="sentences and their translations, one per line, plain or .gz")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: auto")


def add_run_arguments(parser, methods):
    """What every experiment takes."""
    add_data_arguments(parser)
    parser.add_argument("--lexicon", metavar="NAME", help=f"what words mean: {LEXICON}")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help=f"default: {methods}")
    parser.add_argument("--ratios", type=parse_ratio, nargs="+", metavar="R",
                        help="dense size / size kept (default: 10 40)")
    parser.add_argument("--count", choices=("bytes", "parameters"),
                        help="what a ratio counts: a file's bytes (default), or as the papers do")
    parser.add_argument("--mix", type=float, metavar="X",
                        help="share of the text's metric in the fit (default: 0.7; 0: none)")
    parser.add_argument("--stage2-steps", type=int, metavar="N", help="steps of distillation")
    parser.add_argument("--seed", type=int, metavar="N", help="default: 0")
    parser.add_argument("--out", default="out", metavar="FOLDER",
                        help="report, figure and compressed models (default: out)")
    parser.add_argument("--quick", action="store_true", help="a small version of everything")
    parser.add_argument("--resume", action="store_true",
                        help="go on after the phases that a stopped run finished")


def given_settings(arguments):
    """{name: value} of the flags that were given, lists as tuples without repetitions."""
    given = {key: value for key, value in vars(arguments).items()
             if value is not None and key not in ("command", "out", "resume", "quick")}
    for key in ("methods", "ratios"):
        if key in given:
            given[key] = tuple(dict.fromkeys(given[key]))
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
