"""HowNet's mark-up: trees against a writer of them; damage."""

import random

import pytest

from see_min.errors import InputError
from see_min.words.kdml import DEEPEST, PLACEHOLDERS, Node, draw, parse_definition

NAMED = ('{place|地方:PlaceSect={capital|国都}{city|市},belong="New Zealand|新西兰",'
         "modifier={ProperName|专}}")
CLAUSE = ("{human|人:{cure|医治:agent={~},patient={human|人:modifier={ill|病}}},"
          "domain={medical|医}}")


def random_tree(rng, depth=4, role=""):
    if rng.random() < 0.15:
        return Node(rng.choice(PLACEHOLDERS), role)
    name = f"e{rng.randrange(10**9)}{rng.choice(['', ' x', '_y'])}"
    name += rng.choice(["", "|中", "|中 文"])
    number = rng.randrange(4) if depth else 0
    roles = sorted(rng.choice(["", "agent", "OfPart", "role 2"]) for _ in range(number))
    return Node(name, role, tuple(random_tree(rng, depth - 1, role) for role in roles))


def written(rng, node):
    """The tree as text: spaces, quotes and shared roles by chance."""
    def space():
        return rng.choice(["", "", " ", "  "])

    name = node.name.replace("|", f"{space()}|{space()}")
    is_leaf = not node.children and node.name not in PLACEHOLDERS
    if node.role and is_leaf and rng.random() < 0.5:
        return f'"{space()}{name}{space()}"'
    text = ""
    for before, child in zip((None, *node.children), node.children):
        if before and before.role == child.role and rng.random() < 0.5:
            text += space()
        else:
            text += f"{space()},{space()}" if before else ":"
            text += f"{child.role}{space()}={space()}" if child.role else ""
        text += written(rng, child)
    return "{" + space() + name + space() + text + space() + "}"


def test_parsed_definition_is_the_tree_drawn_by_hand():
    patient = Node("human|人", "patient", (Node("ill|病", "modifier"),))
    cure = Node("cure|医治", "", (Node("~", "agent"), patient))
    root, = parse_definition(CLAUSE)
    assert root == Node("human|人", "", (cure, Node("medical|医", "domain")))
    shared = Node("city|市", "PlaceSect"), Node("New Zealand|新西兰", "belong")
    assert parse_definition(NAMED)[0].children[1:3] == shared
    assert parse_definition(CLAUSE + "\nRMK=any {text; at\0 all") == (root,)


def test_parser_inverts_a_writer_whatever_its_spaces_quotes_and_shared_roles():
    rng = random.Random(0)
    for _ in range(500):
        roots = tuple(random_tree(rng) for _ in range(rng.randrange(1, 4)))
        text = rng.choice([";", " ; "]).join(written(rng, root) for root in roots)
        assert parse_definition(text) == roots


@pytest.mark.parametrize(("text", "message"), [
    ("", "expected '{', got the end at character 1"),
    ("{|人}", "expected a name, got '|' at character 2"),
    ("{hu\0man}", "expected ':' or '}', got '\\x00' at character 4"),
    ("{human:}", "expected a role or a filler, got '}' at character 8"),
    ("{human:agent=~}", "expected '{', got '~' at character 14"),
    ("{human:agent={~};{add}}", "expected ',' or '}', got ';' at character 17"),
    ('{human:belong="US}', "expected '\"', got '}' at character 18"),
    ("{human}{add}", "expected ';', 'RMK=' or the end, got '{' at character 8"),
])
def test_broken_definition_is_refused_with_the_place(text, message):
    with pytest.raises(InputError) as caught:
        parse_definition(text)
    assert str(caught.value) == f"definition: {message}"


def test_any_missing_or_foreign_character_gives_a_tree_or_a_data_error():
    rng, refused = random.Random(2), 0
    for trial in range(5000):
        text = list(rng.choice([NAMED, CLAUSE, f"{NAMED} ; {CLAUSE}"]))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(2)] = rng.choice(["", *'{}":;,=|~ \0\n中'])
        try:
            assert draw(parse_definition("".join(text)))
        except InputError as error:
            refused += 1
            assert " at character " in str(error), (trial, error)
    assert 0 < refused < 5000  # both happen


def test_nesting_is_read_down_to_the_cap_and_refused_below_it():
    def nested(depth):
        return "{a:" * (depth - 1) + "{a}" + "}" * (depth - 1)

    assert len(draw(parse_definition(nested(DEEPEST))).split("\n")) == DEEPEST
    text = r"expected at most 100 braces inside each other, got '\{' at character 301"
    with pytest.raises(InputError, match=text):
        parse_definition(nested(DEEPEST + 1))
