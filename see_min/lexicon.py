"""Word -> senses -> sememes, the head sememe first: what is known of words, and how a word finds its entry.

Lexicons list base forms, in upper or lower case, and several words joined by an underscore. So a look-up falls back from
"Normalizing" to "normalize", from "went" to "go" and from "ice cream" to "ice_cream". Where entries come from:
`see_min.lexicon_files`.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from see_min.checks import DataError, check_at_least

IRREGULAR = Path(__file__).parent / "data" / "irregular_forms.txt"
VOWELS = "aeiouy"
ENDINGS = (  # ending -> what may stand in its place; "2" undoubles a consonant; the safer guess first
    ("'s", ("",)),
    ("ies", ("y",)),
    ("s", ("",)),  # before "es": planes -> plane, not plan
    ("es", ("",)),
    ("ied", ("y",)),
    ("ier", ("y",)),
    ("ily", ("y",)),
    ("ing", ("e", "", "2")),  # "e" before "": hoping -> hope, not hop
    ("ed", ("e", "", "2")),
    ("er", ("e", "", "2")),
    ("or", ("e", "")),
    ("est", ("e", "", "2")),
    ("ly", ("", "le", "e")),
    ("ally", ("",)),  # after "ly": normally -> normal, not norm
    ("ment", ("e", "")),
    ("ation", ("e", "")),
    ("ition", ("e",)),
    ("ion", ("e", "")),
    ("able", ("e", "")),
    ("ness", ("",)),
)


@dataclass(frozen=True)
class Sense:
    """One meaning of a word.

    Attributes
    ----------
    sememes : tuple of str
        English names in the order of the definition, the head sememe first.
    roles : tuple of str
        What each sememe does in the definition ("agent", "modifier", ...; "" for the head); () if the source does not say.
    pos : str
        Part of speech as the source has it, or "".
    definition : str
        In HowNet's mark-up (`see_min.kdml`), or "".
    number : str
        What the source calls this sense: a record number, a WordNet id, or "".

    Examples
    --------
    >>> Sense(("human", "cook"), ("", "agent")).sememes[0]
    'human'
    """

    sememes: tuple[str, ...]
    roles: tuple[str, ...] = ()
    pos: str = ""
    definition: str = ""
    number: str = ""


@dataclass(frozen=True)
class Lexicon:
    """What words mean.

    Attributes
    ----------
    entries : dict of str to tuple of Sense
    skipped : tuple of str
        What was left out when this was read and why, each text with its place.

    Examples
    --------
    >>> lexicon = Lexicon.of({"add": [("add", "calculate")], "ice_cream": [("food",)]})
    >>> len(lexicon), lexicon.senses("Adding"), lexicon.senses("ice cream"), lexicon.senses("tensor")
    (2, (('add', 'calculate'),), (('food',),), ())
    """

    entries: dict[str, tuple[Sense, ...]]
    skipped: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, entries):
        """A lexicon from word -> senses, each a sequence of sememe names.

        Examples
        --------
        >>> Lexicon.of({"add": [("add",)]}).entries["add"][0].sememes
        ('add',)
        """
        return cls({word: tuple(Sense(tuple(names)) for names in senses) for word, senses in entries.items()})

    def __len__(self):
        return len(self.entries)

    @property
    def note(self):
        """What was left out in reading this, as one line; "" if nothing was.

        Examples
        --------
        >>> Lexicon({}, ("a.txt:3: no roles",)).note
        'notes on what the lexicon lacks: 1, the first: a.txt:3: no roles'
        """
        return f"notes on what the lexicon lacks: {len(self.skipped)}, the first: {self.skipped[0]}" if self.skipped else ""

    @cached_property
    def _lower(self):
        """Lower-case form -> entry; of two entries that differ in case alone, the one in lower case or else the first."""
        return {word.lower(): word for word in sorted(reversed(self.entries), key=str.islower)}

    def find(self, word):
        """The entry under which `word` is known, or None: itself, in another case, joined otherwise, or its first known base.

        The base of an irregular form comes first, then what is left when an ending comes off, then when two do.

        Examples
        --------
        >>> Lexicon.of({"normal": [("ordinary",)], "Paris": [("place",)]}).find("normally")
        'normal'
        >>> Lexicon.of({"x-ray": [("wave",)], "Paris": [("place",)]}).find("paris")
        'Paris'
        >>> Lexicon.of({"child": [("human", "young")]}).find("children's")
        'child'

        Source: ours.
        """
        if word in self.entries:
            return word
        lower = word.lower()
        parts = re.split("[ _-]", lower)
        joined = [joint.join(parts) for joint in ("_", "-", "")] if len(parts) > 1 else []
        irregular = [base for base in (irregular_forms().get(form) for form in (lower, lower.removesuffix("'s"))) if base]
        once = [base for form in (lower, *joined[:1]) for base in bases(form)]
        twice = [base for form in once for base in bases(form)]
        return next((self._lower[form] for form in (lower, *joined, *irregular, *once, *twice) if form in self._lower), None)

    def meanings(self, word):
        """All that is known of `word`, a tuple of Sense; () if it is not known.

        Examples
        --------
        >>> Lexicon.of({"add": [("add",)]}).meanings("adds")[0].sememes
        ('add',)

        Source: ours.
        """
        return self.entries.get(self.find(word), ())

    def senses(self, word):
        """The senses of `word`, each a tuple of sememe names; () if it is not known.

        Examples
        --------
        >>> Lexicon.of({"normal": [("ordinary",)]}).senses("normally")
        (('ordinary',),)

        Source: ours.
        """
        return tuple(sense.sememes for sense in self.meanings(word))

    def coverage(self, words, counts=None):
        """(share of types, share of tokens) of `words` that have a sense.

        Parameters
        ----------
        words : sequence of str
            A repeated word is one type; its counts add up.
        counts : sequence of int, optional
            How often each word occurs; 1 when left out.

        Raises
        ------
        DataError
            If there are no words, or `counts` has another length, a negative value or the sum 0.

        Examples
        --------
        >>> Lexicon.of({"add": [("add",)]}).coverage(["add", "xyzzy"], [3, 1])
        (0.5, 0.75)

        Source: ours.
        """
        words = list(words)
        counts = [1] * len(words) if counts is None else list(counts)
        check_at_least("words: number", len(words), 1)
        if len(counts) != len(words):
            raise DataError(f"counts: expected {len(words)} as in words, got {len(counts)}")
        check_at_least("counts", min(counts), 0)
        check_at_least("counts: sum", sum(counts), 1)
        tally = Counter()
        for word, count in zip(words, counts):
            tally[word] += count
        known = [word for word in tally if self.senses(word)]
        return len(known) / len(tally), float(sum(tally[word] for word in known) / sum(counts))


@cache
def irregular_forms():
    """Form -> base for the inflections of English that no ending undoes, as a dict.

    Examples
    --------
    >>> irregular_forms()["went"], irregular_forms()["vertices"]
    ('go', 'vertex')

    Source: ours; data/README.md.
    """
    return dict(line.split("\t") for line in IRREGULAR.read_text(encoding="utf-8").splitlines())


def bases(word):
    """Yield the forms of at least 3 letters that `word` may be inflected or derived from, best guess first.

    Examples
    --------
    >>> list(bases("planned"))
    ['planne', 'plann', 'plan']
    >>> list(bases("matrices")), list(bases("class"))
    (['matrice', 'matric'], [])

    Source: ours; suffixes of English. For what they cannot undo see `irregular_forms`.
    """
    for ending, replacements in ENDINGS:
        stem = word.removesuffix(ending)
        if stem == word or (ending == "s" and stem.endswith(("s", "u", "i"))):  # class, status, basis are no plurals
            continue
        for replacement in replacements:
            if replacement != "2":
                base = stem + replacement
            elif stem[-1:] == stem[-2:-1] and stem[-1:] not in VOWELS:
                base = stem[:-1]
            else:
                continue
            if len(base) >= 3:
                yield base
