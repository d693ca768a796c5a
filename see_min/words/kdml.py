"""HowNet's definition mark-up (KDML): text -> trees of sememes.

    {human|人:belong="UK|英国",{cure|医治:agent={~}}}      a human of the UK who cures

The grammar, in EBNF; white space may stand between any two tokens::

    definition = node, { ";", node }, [ "RMK=", remark ] ;
    node       = "{", name, [ ":", feature, { ",", feature } ], "}" ;
    feature    = [ role, "=" ], filler, { filler } ;       (* several fillers share the role *)
    filler     = node | '"', name, '"' ;                   (* quotes: countries, peoples, ... *)
    name       = english, [ "|", chinese ] | "~" | "?" | "$" ;

"~" stands for the node two levels up (the human who cures), "?" and "$" for what the sentence
supplies. English, Chinese and roles are runs of characters without control characters, "|" and the
marks { } " : ; , = (in quotes, only | { } " end them). A remark is dropped.

Source: the mark-up is HowNet's, read as OpenHowNet (arXiv 1901.09957) writes it.
"""

import re
from dataclasses import dataclass

from see_min.errors import InputError

PLACEHOLDERS = ("~", "?", "$")
DEEPEST = 100  # braces inside each other: HowNet needs 9, Python's stack allows some 400
RUN = re.compile(r'[^\x00-\x1f|{}":;,=]+')
QUOTED_RUN = re.compile(r'[^\x00-\x1f|{}"]+')


@dataclass(frozen=True)
class Node:
    """A sememe or a placeholder, its role for the node above it, and the nodes that tell more."""

    name: str  # "english|chinese", or a placeholder
    role: str = ""  # "" for a root, and where the definition names none
    children: tuple = ()

    @property
    def english(self):
        """The name up to "|"."""
        return self.name.partition("|")[0]


def parse_definition(text):
    """Read a definition: a tuple with the root of each of the parts between ";".

    Raises InputError where the grammar above is broken, or braces are nested more than 100 deep.

    >>> parse_definition("{human|人}")
    (Node(name='human|人', role='', children=()),)
    >>> parse_definition("{human|人:belong}")
    Traceback (most recent call last):
    ...
    see_min.errors.InputError: definition: expected '=', got '}' at character 16
    """
    reader = _Reader(text)
    roots = [reader.node("", 1)]
    while reader.peek() == ";":
        reader.take(";")
        roots.append(reader.node("", 1))
    if reader.peek() and not text.startswith("RMK=", reader.at):
        raise reader.refusal("';', 'RMK=' or the end")
    return tuple(roots)


def walk(roots):
    """Yield all nodes in the order of the text.

    >>> [node.name for node in walk(parse_definition("{a:x={b:{c}}{d}};{e}"))]
    ['a', 'b', 'c', 'd', 'e']
    """
    for node in roots:
        yield node
        yield from walk(node.children)


def sememes(roots):
    """A list of (English name, role) in the order of the text, without the placeholders.

    >>> sememes(parse_definition("{human|人:belong={army|军队},{fight|争斗:agent={~}}}"))
    [('human', ''), ('army', 'belong'), ('fight', '')]
    """
    return [(node.english, node.role) for node in walk(roots) if node.name not in PLACEHOLDERS]


def draw(roots):
    """The trees in box-drawing characters, one node a line: [role] name.

    >>> print(draw(parse_definition("{human|人:belong={army|军队},{fight|争斗:agent={~}}}")))
    human|人
    ├─ [belong] army|军队
    └─ fight|争斗
       └─ [agent] ~
    """
    return "\n".join(line for root in roots for line in _lines(root, "", ""))


def _lines(node, first, rest):
    """The lines of one node: `first` stands before its own, `rest` before those below it."""
    yield first + (f"[{node.role}] " if node.role else "") + node.name
    for number, child in enumerate(node.children, start=1):
        is_last = number == len(node.children)
        branch, line = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        yield from _lines(child, rest + branch, rest + line)


class _Reader:
    """The text and the place up to which it is read; a method for each rule of the grammar."""

    def __init__(self, text):
        self.text, self.at = text, 0

    def refusal(self, rule):
        """The error that `rule` does not hold for the next character."""
        got = repr(self.peek()) if self.peek() else "the end"
        return InputError(f"definition: expected {rule}, got {got} at character {self.at + 1}")

    def peek(self):
        """Step over white space; the next character, "" at the end."""
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, *marks):
        """Step over one of `marks` and say which it was."""
        mark = self.peek()
        if mark not in marks:
            raise self.refusal(" or ".join(map(repr, marks)))
        self.at += 1
        return mark

    def run(self, pattern, rule):
        """The characters that match, at least one."""
        self.peek()
        found = pattern.match(self.text, self.at)
        if not found:
            raise self.refusal(rule)
        self.at = found.end()
        return found[0].rstrip()

    def name(self, pattern=RUN):
        name = self.run(pattern, "a name")
        if self.peek() != "|":
            return name
        self.take("|")
        return f"{name}|{self.run(pattern, 'a name after |')}"

    def node(self, role, depth):
        if depth > DEEPEST:
            raise self.refusal(f"at most {DEEPEST} braces inside each other")
        self.take("{")
        name, children = self.name(), []
        mark = self.take(":", "}")
        while mark != "}":
            children += self.feature(depth + 1)
            mark = self.take(",", "}")
        return Node(name, role, tuple(children))

    def feature(self, depth):
        role, fillers = "", []
        if self.peek() not in ("{", '"'):
            role = self.run(RUN, "a role or a filler")
            self.take("=")
        while not fillers or self.peek() in ("{", '"'):
            fillers.append(self.quoted(role) if self.peek() == '"' else self.node(role, depth))
        return fillers

    def quoted(self, role):
        self.take('"')
        name = self.name(QUOTED_RUN)
        self.take('"')
        return Node(name, role)
