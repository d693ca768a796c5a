"""Tokenizer vocabularies -> plain letters: what a token spells, and whether it can be a word of its own.

Styles mark the edges of words differently: wordpiece what continues a word (play ##ing), byte-bpe and sentencepiece what
begins one (Ġplay ing, ▁play ing), fairseq what does not end one (play@@ ing), word nothing. `Token` says the same for all.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from see_min.checks import DataError
from see_min.segmentation import read_json, read_lines

MARKS = {"wordpiece": r"##.+", "byte-bpe": "Ġ.*", "sentencepiece": "▁.*", "fairseq": ".+@@", "</w>": ".+</w>"}
STYLES = ("word", "wordpiece", "byte-bpe", "sentencepiece", "fairseq")
LEAST_SHARE = 0.01  # of marked tokens; in texts without a tokenizer such tokens are rarer, in its vocabulary far more common
BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")  # SentencePiece's letters for bytes
SPECIAL = re.compile(r"<[^<>\s]*[A-Za-z][^<>\s]*>|\[(?:[A-Z]{2,}|unused)\d*\]|madeupword\d{4}")

_SAME = (*range(33, 127), *range(161, 173), *range(174, 256))  # bytes whose Latin-1 letter prints
_BYTE_OF = {chr(b): b for b in _SAME} | {chr(256 + n): b for n, b in enumerate(sorted({*range(256)} - {*_SAME}))}


@dataclass(frozen=True)
class Token:
    """A token without its marks.

    Attributes
    ----------
    text : str
        The letters it spells, without spaces around them; of a special token the token itself.
    kind : str
        "word": can be a whole word, as nothing in the token speaks against it; "piece": a part of a longer word; "space":
        spaces alone, or a bare mark; "byte": not UTF-8 without its neighbours; "special": <s>, [CLS], <pad>, [unused1].
    begins, ends : bool or None
        Whether a word begins before, ends behind it; None where the style does not say, as of a byte-bpe "ing" only
        begins = False is known, of a fairseq "ing" only ends = True.

    Examples
    --------
    >>> word, piece = normalise(["play", "##ing"])
    >>> word.word, word.morpheme, piece.word, piece.morpheme
    ('play', '', '', 'ing')
    """

    text: str
    kind: str
    begins: bool | None
    ends: bool | None

    @property
    def word(self):
        """The word to look up in a lexicon; "" if the token is no whole word."""
        return self.text if self.kind == "word" else ""

    @property
    def morpheme(self):
        """The text of a part of a word, to be used as a morpheme; "" for all else."""
        return self.text if self.kind == "piece" else ""


def detect_style(vocabulary):
    """The style whose mark the largest share of the tokens carries; "word" if no mark stands on 1 in 100.

    Raises
    ------
    DataError
        If the mark is the ``</w>`` behind words, which is not read.

    Examples
    --------
    >>> detect_style(["the", "play", "##ing"]), detect_style(["Ġthe", "ing"]), detect_style(["the", "playing"])
    ('wordpiece', 'byte-bpe', 'word')

    Source: ours.
    """
    marked = {style: sum(re.fullmatch(mark, t, re.DOTALL) is not None for t in vocabulary) for style, mark in MARKS.items()}
    best = max(marked, key=marked.get)
    if marked[best] < max(LEAST_SHARE * len(vocabulary), 1):
        return "word"
    if best not in STYLES:
        raise DataError(f"vocabulary: expected a style of {', '.join(STYLES)}, got tokens that end in {best}")
    return best


def normalise(vocabulary, style=None):
    """A list with a `Token` for each token, in the order given.

    Parameters
    ----------
    vocabulary : sequence of str
    style : str, optional
        One of `STYLES`; `detect_style` decides when left out.

    Raises
    ------
    DataError
        If the style is not one of these; as `detect_style`.

    Examples
    --------
    >>> [(t.text, t.kind) for t in normalise(["<s>", "Ġcaf\\u00c3\\u00a9", "s", "\\u00c3"])]
    [('<s>', 'special'), ('café', 'word'), ('s', 'piece'), ('', 'byte')]

    Source: marks of BERT (arXiv 1810.04805), GPT-2, SentencePiece (1808.06226), BPE (1508.07909) in fairseq; kinds are ours.
    """
    style = detect_style(vocabulary) if style is None else style
    if style not in STYLES:
        raise DataError(f"style: expected one of {', '.join(STYLES)}, got {style!r}")
    return [_token(token, style) for token in vocabulary]


def _token(token, style):
    if SPECIAL.fullmatch(token) and not BYTE.fullmatch(token):
        return Token(token, "special", True, True)
    text, begins, ends = _unmark(token, style)
    if text is None:
        return Token("", "byte", begins, ends)
    kind = "space" if not text.strip() else "piece" if begins is False or ends is False else "word"
    return Token(text.strip(), kind, begins, ends)


def _unmark(token, style):
    """(letters or None, begins, ends) of a token that is not special."""
    match = re.fullmatch(MARKS.get(style, ""), token, re.DOTALL) is not None
    if style == "wordpiece":
        return token[2:] if match else token, not match, None
    if style == "fairseq":
        return token[:-2] if match else token, None, not match
    if style == "byte-bpe":
        return _from_bytes(token), match, None
    if style == "sentencepiece":
        return None if BYTE.fullmatch(token) else token.replace("▁", " "), match, None
    return token, True, True


def _from_bytes(token):
    """Undo GPT-2's table, in which a letter stands for a byte; None if the bytes are not UTF-8."""
    try:
        return bytes(map(_BYTE_OF.__getitem__, token)).decode()
    except KeyError:
        return token  # added to the vocabulary by hand, so not spelled in bytes
    except UnicodeDecodeError:
        return None


def read_vocabulary(path):
    """The tokens in the order of their ids, of a vocab.txt (one a line), vocab.json, tokenizer.json, or a folder with one.

    Raises
    ------
    DataError
        If the file cannot be read or is not of these forms, or a token or an id is missing or stands twice.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "vocab.json"
    >>> _ = path.write_text('{"b": 1, "a": 0}')
    >>> read_vocabulary(path)
    ['a', 'b']

    Source: ours; the files are those of the Hugging Face libraries.
    """
    path = Path(path)
    if path.is_dir():
        names = ("tokenizer.json", "vocab.json", "vocab.txt")  # the first knows added tokens as well
        path /= next((name for name in names if (path / name).is_file()), names[0])
    if path.suffix == ".json":
        return _in_order(_pairs(read_json(path), path), path)
    return _in_order([(line, number) for number, line in enumerate(read_lines(path))], path)


def _pairs(data, path):
    """[(token, id)] of parsed JSON; an added token may repeat one of the vocabulary under the same id."""
    full = isinstance(data, dict) and isinstance(data.get("model"), dict)  # tokenizer.json
    try:
        vocab = data["model"]["vocab"] if full else data
        listed = isinstance(vocab, list)  # [[token, score], ...] or tokens alone: the id is the place
        named = ((item if isinstance(item, str) else item[0], n) for n, item in enumerate(vocab)) if listed else vocab.items()
        pairs, added = list(named), [(item["content"], item["id"]) for item in data.get("added_tokens") or ()] if full else []
    except (AttributeError, LookupError, TypeError):
        raise DataError(f"{path}: expected token -> id, or model.vocab and added_tokens, got another form") from None
    if not all(isinstance(token, str) and type(number) is int for token, number in pairs + added):
        raise DataError(f"{path}: expected texts as tokens and whole numbers as ids, got another type")
    return list(dict.fromkeys(pairs + added))


def _in_order(pairs, path):
    if not pairs:
        raise DataError(f"{path}: expected at least 1 token, got none")
    seen = {}  # token -> id
    for place, (token, number) in enumerate(sorted(pairs, key=lambda pair: pair[1])):
        if number != place:
            raise DataError(f"{path}: expected the ids 0 to {len(pairs) - 1}, each once, got {number} in place of {place}")
        if seen.setdefault(token, number) != number:
            line = "" if path.suffix == ".json" else f":{number + 1}"
            raise DataError(f"{path}{line}: expected every token once, got {token!r} as ids {seen[token]} and {number}")
    return list(seen)
