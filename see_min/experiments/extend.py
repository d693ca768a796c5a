"""`extend`: a folder with further words, whose rows are made of what is known of them."""

from pathlib import Path

from see_min.bridge.grow import add_words
from see_min.errors import InputError
from see_min.experiments.hf_models import load_model, read_record, save_model
from see_min.experiments.options import add_flags
from see_min.storage.files import check_writable, read_lines
from see_min.words.formats import load_lexicon
from see_min.words.new_words import described


def read_words(path, lexicon):
    """{word: its senses, or None for those of the lexicon} of a file.

    A line is a word; `word TAB sememe sememe`, a sense of one's own, again for a further one; or
    `word TAB = text`, a definition, for the first two senses of each of its words.

    Raises InputError for other lines, and a definition of which no word is known.
    """
    words = {}
    for number, line in enumerate(read_lines(path), start=1):
        word, tab, given = line.partition("\t")
        if not line.strip():
            continue
        if not word.strip() or (tab and not given.strip("= ")):
            rule = "a word, or word TAB sememes, or word TAB = definition"
            raise InputError(f"{path}:{number}: expected {rule}, got {line!r:.80}")
        senses = [tuple(given.split())] if tab else []
        if given.startswith("="):
            senses = described(given[1:], lexicon)
            if not senses:
                rule = "a definition with words that the lexicon knows"
                raise InputError(f"{path}:{number}: expected {rule}, got {given!r:.80}")
        words[word.strip()] = [*(words.get(word.strip()) or ()), *senses] or None
    if not words:
        raise InputError(f"{path}: expected at least 1 word, got none")
    return words


def add_arguments(parser):
    """The flags of `extend`."""
    parser.add_argument("model", metavar="FOLDER", help="of a Hugging Face model, or of `compress`")
    parser.add_argument("--words", required=True, metavar="FILE", help="a line per word: word; "
                        "word TAB sememes; or word TAB = definition")
    add_flags(parser, "lexicon")
    parser.add_argument("--task", choices=("lm", "mlm", "encoder"),
                        help="default: that of its compression, else encoder")
    parser.add_argument("--no-pieces", action="store_true",
                        help="rows of what is known alone, without the tokens that spell a word")
    parser.add_argument("--out", metavar="FOLDER", help="a new folder (default: FOLDER_words)")


def run(arguments, command):
    """Write the new folder in one step; the old one stays as it is.

    Raises InputError for a folder or words that cannot be used.
    """
    folder = Path(arguments.model)
    out = Path(arguments.out or folder.with_name(f"{folder.name}_words"))
    if out.exists():
        raise InputError(f"out: expected a folder that is not there, got {out}")
    check_writable(out.parent)
    lexicon = load_lexicon(arguments.lexicon)
    words = read_words(arguments.words, lexicon)
    task = arguments.task or read_record(folder).get("task", "encoder")
    model, tokenizer = load_model(arguments.model, task)
    ids = add_words(model, tokenizer, words, lexicon, not arguments.no_pieces)
    save_model(model, tokenizer, out, folder, read_record(folder))
    for word, id in zip(words, ids):
        print(f"{word}\t{id}")
