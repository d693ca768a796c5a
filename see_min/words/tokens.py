"""Tokenizer vocabularies -> plain letters: what a token spells, and whether it can be a whole word.

Styles mark the edges of words differently: wordpiece what continues a word (play ##ing), byte-bpe
and sentencepiece what begins one (Ġplay ing, ▁play ing), fairseq what does not end one
(play@@ ing), word nothing. `Token` says the same for all.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from see_min.errors import InputError
from see_min.storage.files import read_json, read_lines

STYLES = {  # how a marked token looks; (begins, kind) of a `Token` with the mark, and without
    "wordpiece": ("##(.+)", (False, "piece"), (True, "word")),
    "byte-bpe": ("Ġ(.*)", (True, "word"), (False, "piece")),
    "sentencepiece": ("▁(.*)", (True, "word"), (False, "piece")),
    "fairseq": ("(.+)@@", (None, "piece"), (None, "word")),
    "word": ("(?!)", None, (True, "word")),  # nothing is marked
}
LEAST_SHARE = 0.01  # of marked tokens: a text has fewer by chance, a tokenizer's vocabulary more
BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")  # SentencePiece's letters for bytes
SPECIAL = re.compile(
    r"<[^<>\s]*[A-Za-z][^<>\s]*>|\[(?:[A-Z]{2,}|unused)\d*\]|madeupword\d{4}"
)

_SAME = (*range(33, 127), *range(161, 173), *range(174, 256))  # bytes whose Latin-1 letter prints
_OTHER = sorted({*range(256)} - {*_SAME})
_BYTE_OF = {chr(b): b for b in _SAME} | {chr(256 + n): b for n, b in enumerate(_OTHER)}  # GPT-2's


@dataclass(frozen=True)
class Token:
    """A token without its marks.

    >>> word, piece = normalise(["play", "##ing"])
    >>> word.word, word.morpheme, piece.word, piece.morpheme
    ('play', '', '', 'ing')
    """

    text: str  # the letters it spells, without spaces around them; of a special token all of it
    # "word": nothing speaks against a whole word; "piece": a part of a longer one; "space": a bare
    # mark; "byte": not UTF-8 without its neighbours; "special": <s>, [CLS], [unused1]
    kind: str
    begins: bool | None  # whether a word begins before it; None where the style does not say

    @property
    def word(self):
        """The word to look up in a lexicon; "" if the token is no whole word."""
        return self.text if self.kind == "word" else ""

    @property
    def morpheme(self):
        """The text of a part of a word; "" for all else."""
        return self.text if self.kind == "piece" else ""


def detect_style(vocabulary):
    """The style whose mark most tokens carry; "word" if no mark stands on 1 in 100.

    >>> detect_style(["the", "play", "##ing"]), detect_style(["the", "playing"])
    ('wordpiece', 'word')
    """
    marked = {style: sum(bool(_marked(token, style)) for token in vocabulary) for style in STYLES}
    best = max(marked, key=marked.get)
    return best if marked[best] >= max(LEAST_SHARE * len(vocabulary), 1) else "word"


def normalise(vocabulary, style=None):
    """A list with a `Token` for each token; `detect_style` decides on the style when left out.

    Raises InputError for a style that there is not.

    >>> [(t.text, t.kind) for t in normalise(["<s>", "Ġcaf\\u00c3\\u00a9", "s", "\\u00c3"])]
    [('<s>', 'special'), ('café', 'word'), ('s', 'piece'), ('', 'byte')]

    Source: marks of BERT (arXiv 1810.04805), GPT-2, SentencePiece (1808.06226), BPE (1508.07909).
    """
    style = detect_style(vocabulary) if style is None else style
    if style not in STYLES:
        raise InputError(f"style: expected one of {', '.join(STYLES)}, got {style!r}")
    return [_token(token, style) for token in vocabulary]


def _marked(token, style):
    return re.fullmatch(STYLES[style][0], token, re.DOTALL)


def _token(token, style):
    if SPECIAL.fullmatch(token) and not BYTE.fullmatch(token):
        return Token(token, "special", True)
    marked, (_, with_mark, without) = _marked(token, style), STYLES[style]
    text, (begins, kind) = (marked[1], with_mark) if marked else (token, without)
    if style == "byte-bpe":
        text = _from_bytes(text)
    elif style == "sentencepiece":
        text = None if BYTE.fullmatch(token) else text.replace("▁", " ")
    if text is None:
        return Token("", "byte", begins)
    return Token(text.strip(), kind if text.strip() else "space", begins)


def _from_bytes(token):
    """Undo GPT-2's table, in which a letter stands for a byte; None if the bytes are not UTF-8."""
    try:
        return bytes(map(_BYTE_OF.__getitem__, token)).decode()
    except KeyError:
        return token  # an added token: not spelled in bytes
    except UnicodeDecodeError:
        return None


def read_vocabulary(path):
    """The tokens by id, of a vocab.txt (one per line), vocab.json, tokenizer.json, or a folder.

    Raises InputError for other forms, and if a token or an id is missing or stands twice.
    """
    path = Path(path)
    if path.is_dir():
        names = ("tokenizer.json", "vocab.json", "vocab.txt")  # the first knows added tokens too
        path /= next((name for name in names if (path / name).is_file()), names[0])
    if path.suffix == ".json":
        return ordered_by_id(_pairs(read_json(path), path), path)
    return ordered_by_id([(line, number) for number, line in enumerate(read_lines(path))], path)


def _pairs(data, path):
    """[(token, id)] of parsed JSON; an added token may repeat one of the vocabulary."""
    is_full = isinstance(data, dict) and isinstance(data.get("model"), dict)  # tokenizer.json
    try:
        vocab = data["model"]["vocab"] if is_full else data
        if isinstance(vocab, list):  # [[token, score], ...] or tokens alone: the id is the place
            vocab = [(t if isinstance(t, str) else t[0], n) for n, t in enumerate(vocab)]
        else:
            vocab = list(vocab.items())
        added = data.get("added_tokens") or () if is_full else ()
        pairs = vocab + [(item["content"], item["id"]) for item in added]
        return list(dict.fromkeys(pairs))
    except (AttributeError, LookupError, TypeError):
        rule = "expected token -> id, or model.vocab and added_tokens"
        raise InputError(f"{path}: {rule}, got another form") from None


def ordered_by_id(pairs, place):
    """The tokens of [(token, id)] by id; `place` is what errors are about.

    Raises InputError unless the ids are 0 .. V - 1, each once, and no token stands twice.

    >>> ordered_by_id([("b", 1), ("a", 0)], "words")
    ['a', 'b']
    """
    if not pairs:
        raise InputError(f"{place}: expected at least 1 token, got none")
    for token, number in pairs:
        is_whole = hasattr(number, "__index__") and not isinstance(number, bool)
        if not isinstance(token, str) or not is_whole:
            rule = "expected texts as tokens and whole numbers as ids"
            raise InputError(f"{place}: {rule}, got {token!r:.40}: {number!r:.40}")
    seen = {}  # token -> id
    for expected, (token, number) in enumerate(sorted(pairs, key=lambda pair: pair[1])):
        if number != expected:
            rule = f"expected the ids 0 to {len(pairs) - 1}, each once"
            raise InputError(f"{place}: {rule}, got {number} instead of {expected}")
        if seen.setdefault(token, number) != number:
            got = f"{token!r} as ids {seen[token]} and {number}"
            raise InputError(f"{place}: expected every token once, got {got}")
    return list(seen)
