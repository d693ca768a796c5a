"""The command line: `python -m see_min COMMAND`. A command's module is imported when it is named.

Exit codes: 0; 2 for input that cannot be used, with one line on stderr; 130 after Ctrl-C.
"""

import argparse
import importlib
import os
import shlex
import sys

from see_min import __version__
from see_min.errors import InputError

COMMANDS = {
    "train": ("train", "train a toy model, compress it by several methods, finetune, report"),
    "compress": ("folders", "compress and finetune the Hugging Face model in a folder"),
    "compare": ("comparison", "compare methods on an embedding matrix, without finetuning"),
    "explain": ("explain", "show what words are made of"),
    "extend": ("extend", "give a Hugging Face model in a folder further words"),
    "evaluate": ("evaluate", "measure the Hugging Face model in a folder, plain or compressed"),
    "bench": ("benchmark", "time and memory of look-up and tied head against dense"),
    "hownet": ("hownet_data", "look at HowNet's data, or download them"),
}
RESUMABLE = ("train", "compress")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"see_min: {' '.join(message.split())}\n")


def make_parser(command=None):
    """The command line, with the flags of one command, and that command's module."""
    parser = Parser(prog="python -m see_min", description="SEE: sememe entanglement encoding")
    parser.add_argument("--version", action="version", version=f"see_min {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    module = None
    for name, (file, text) in COMMANDS.items():
        own = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == command:
            module = _import(file)
            module.add_arguments(own)
    return parser, module


def _import(file):
    try:
        return importlib.import_module(f"see_min.experiments.{file}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("see_min"):
            raise
        install = "pip install -r requirements.txt"
        raise InputError(f"{error.name}: expected the package, got none: {install}") from None


def main(argv=None):
    """Run a command; its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal may know ASCII alone
    arguments = None
    try:
        if any("\0" in text for text in argv):
            raise InputError("arguments: expected names without NUL, got one with it")
        if not all(map(str.strip, argv)):
            raise InputError("arguments: expected names and values, got an empty one")
        parser, module = make_parser(argv[0] if argv else None)
        arguments = parser.parse_args(argv)
        command = shlex.join(["python", "-m", "see_min", *argv])
        module.run(arguments, command.encode("utf-8", "replace").decode())
    except InputError as error:
        return _refuse(error)
    except BrokenPipeError:  # of `| head`; what is left must not be flushed into it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, UnicodeError, MemoryError, OverflowError) as error:
        return _refuse(str(error) or type(error).__name__)
    except KeyboardInterrupt:
        text = "interrupted"
        if getattr(arguments, "command", None) in RESUMABLE:
            text += (f"; finished phases are kept in {arguments.out}/phases: the same command with "
                     "--resume goes on after them")
        print(f"\nsee_min: {text}", file=sys.stderr)
        return 130
    return 0


def _refuse(text):
    print(f"see_min: {' '.join(str(text).split())}", file=sys.stderr)
    return 2
