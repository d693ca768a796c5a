"""Flags that several commands share; nothing heavy is imported."""

from see_min.errors import InputError
from see_min.recipe import MIX


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


FLAGS = {
    "corpus": {"metavar": "FILE", "help": "UTF-8 text to learn from, be measured on or "
               "count in; to count in also lines token TAB count in a .tsv"},
    "parallel": {"nargs": 2, "metavar": ("SOURCE", "TARGET"),
                 "help": "sentences and their translations, one per line, plain or .gz"},
    "sts": {"metavar": "FILE", "help": "sentence,sentence,score as CSV, for encoders"},
    "lexicon": {"metavar": "NAME", "default": "sample",
                "help": "what words mean: sample (default), none, openhownet, a folder, a file, or "
                        "several joined by +"},
    "ratios": {"type": parse_ratio, "nargs": "+", "metavar": "R",
               "help": "dense size / size kept (default: 10 40; of compare: 10 20 40 80)"},
    "mix": {"type": float, "default": MIX, "metavar": "X",
            "help": f"share of the text's metric in the fit (default: {MIX}; 0: none)"},
    "device": {"choices": ("auto", "cpu", "cuda"), "help": "default: auto"},
    "bf16": {"action": "store_true", "default": None, "help": "bfloat16 where possible"},
    "out": {"default": "out", "metavar": "FOLDER", "help": "what is written (default: out)"},
    "quick": {"action": "store_true", "help": "a small version of everything"},
}


def add_flags(parser, *names):
    """Flags of FLAGS by name."""
    for name in names:
        parser.add_argument(f"--{name}", **FLAGS[name])


def add_run_arguments(parser, methods):
    """What `train` and `compress` take."""
    add_flags(parser, "corpus", "parallel", "device", "lexicon", "ratios", "mix", "out", "quick")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help=f"default: {methods}")
    parser.add_argument("--count", choices=("bytes", "parameters"),
                        help="what a ratio counts: a file's bytes (default), or as the papers do")
    parser.add_argument("--stage2-steps", type=int, metavar="N", help="steps of distillation")
    parser.add_argument("--seed", type=int, metavar="N", help="default: 0")
    parser.add_argument("--resume", action="store_true",
                        help="go on after the phases that a stopped run finished")


def given_settings(arguments):
    """{name: value} of the flags that were given, lists as tuples without repetitions.

    A pair of files is no list: its names may be the same.
    """
    given = {key: value for key, value in vars(arguments).items()
             if value is not None and key not in ("command", "out", "resume", "quick")}
    for key, value in given.items():
        if isinstance(value, list):
            given[key] = tuple(value if "parallel" in key else dict.fromkeys(value))
    return given
