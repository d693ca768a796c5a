"""Word -> senses -> sememes, the head sememe first; and how a word finds its entry.

Lexicons list base forms, in upper or lower case, and several words joined by an underscore. So a
look-up falls back from "went" to "go", from "Normally" to "normal", "ice cream" to "ice_cream".
Inflections are undone by simplemma, a table of lemmas; derivations by a short list of endings.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property

from see_min.errors import InputError, check_at_least, require

LONGEST = 64  # letters: a longer word has no base form
SHORTEST = 3  # letters of a base that an ending leaves: "bed" is no form of "b"
IRREGULAR = dict(  # what simplemma takes for a word of its own, or undoes otherwise
    axes="axis", bent="bend", bit="bite", bound="bind", broke="break", data="datum", felt="feel",
    gone="go", halves="half", leaves="leaf", left="leave", less="little", lives="life",
    more="many", most="many", people="person", rose="rise", shelves="shelf", shook="shake",
    shot="shoot", thieves="thief", thought="think", wives="wife", won="win", worse="bad",
    wound="wind",
)  # fmt: skip
ENDINGS = {  # ending -> what may stand in its place, the safer guess first; the first known wins
    "s": ("",),  # names that no table has: Australians
    "ing": ("e", ""), "ed": ("e", ""), "er": ("e", ""), "or": ("e", ""),
    "ily": ("y",), "ly": ("", "le", "e"), "ally": ("",),  # after "ly": normally -> normal
    "ment": ("e", ""), "ation": ("e", ""), "ition": ("e",), "ion": ("e", ""),
    "able": ("e", ""), "ness": ("",),
}  # fmt: skip


@dataclass(frozen=True)
class Sense:
    """One meaning of a word."""

    sememes: tuple[str, ...]  # English names in the order of the definition, the head sememe first
    roles: tuple[str, ...] = ()  # what each does there ("agent"; "" for the head); () if unknown
    pos: str = ""  # part of speech as the source has it
    definition: str = ""  # in HowNet's mark-up, see kdml.py
    number: str = ""  # what the source calls this sense


@dataclass(frozen=True)
class Lexicon:
    """What words mean.

    >>> lexicon = Lexicon.of({"add": [("add", "calculate")], "ice_cream": [("food",)]})
    >>> lexicon.senses("Adding"), lexicon.senses("ice cream"), lexicon.senses("tensor")
    ((('add', 'calculate'),), (('food',),), ())
    """

    entries: dict[str, tuple[Sense, ...]]
    skipped: tuple[str, ...] = field(default=(), repr=False)  # left out in reading: where and why

    @classmethod
    def of(cls, entries):
        """A lexicon from word -> senses, each a sequence of sememe names."""
        return cls({w: tuple(Sense(tuple(names)) for names in s) for w, s in entries.items()})

    def __len__(self):
        return len(self.entries)

    @property
    def note(self):
        """What was left out in reading this, as one line; "" if nothing was."""
        if not self.skipped:
            return ""
        number = len(self.skipped)
        return f"notes on what the lexicon lacks: {number}, the first: {self.skipped[0]}"

    @cached_property
    def _lower(self):
        """Lower-case form -> entry; of two that differ in case, the lower one or else the first."""
        return {word.lower(): word for word in sorted(reversed(self.entries), key=str.islower)}

    def find(self, word):
        """The entry under which `word` is known, or None.

        Itself; in another case; its parts joined otherwise; its lemma; what an ending leaves.

        >>> Lexicon.of({"normal": [("ordinary",)]}).find("Normally")
        'normal'
        >>> Lexicon.of({"child": [("human", "young")]}).find("children's")
        'child'
        """
        if word in self.entries:
            return word
        return next((self._lower[form] for form in forms(word) if form in self._lower), None)

    def meanings(self, word):
        """All that is known of `word`, a tuple of Sense; () if it is not known."""
        return self.entries.get(self.find(word), ())

    def senses(self, word):
        """The senses of `word`, each a tuple of sememe names; () if it is not known."""
        return tuple(sense.sememes for sense in self.meanings(word))

    def coverage(self, words, counts=None):
        """(share of types, share of tokens) of `words` that have a sense.

        A repeated word is one type, and its counts add up; without `counts` every word counts 1.
        Raises InputError without words, and if the counts do not fit them or are all 0.

        >>> Lexicon.of({"add": [("add",)]}).coverage(["add", "xyzzy"], [3, 1])
        (0.5, 0.75)
        """
        words = list(words)
        counts = [1] * len(words) if counts is None else list(counts)
        check_at_least("words: number", len(words), 1)
        if len(counts) != len(words):
            raise InputError(f"counts: expected {len(words)} as in words, got {len(counts)}")
        total = check_at_least("counts: sum", sum(counts), 1)
        known = {word: bool(self.senses(word)) for word in set(words)}
        tokens = sum(count for word, count in zip(words, counts) if known[word])
        return sum(known.values()) / len(known), float(tokens / total)


def forms(word):
    """Yield the lower-case forms under which `word` may stand, the best guess first.

    >>> list(forms("Vertices"))
    ['vertices', 'vertex', 'vertice']
    """
    lower = word.lower()
    yield lower
    parts = re.split("[ _-]", lower)
    if len(parts) > 1:
        yield from (joint.join(parts) for joint in ("_", "-", ""))
    bare = lower.removesuffix("'s")
    if not 1 < len(bare) <= LONGEST:
        return
    if len(parts) > 1:
        bare = "_".join(parts)
    lemma = require("simplemma", "pip install simplemma==2.0.0").lemmatize(bare, "en").lower()
    bases = dict.fromkeys((bare, IRREGULAR.get(bare, lemma), lemma))
    yield from (form for form in bases if form != lower)
    for form in bases:
        yield from _without_ending(form)


def _without_ending(word):
    for ending, replacements in ENDINGS.items():
        stem = word.removesuffix(ending)
        if stem == word or (ending == "s" and stem.endswith(("s", "u", "i"))):  # class, basis
            continue
        doubled = ending[0] in "aeiou" and stem[-1:] == stem[-2:-1]  # setting -> set
        for base in [stem + r for r in replacements] + [stem[:-1]] * doubled:
            if len(base) >= SHORTEST:
                yield base
