"""HowNet's mark-up: trees against a slow reader, a writer, HowNet's own list of sememes and OpenHowNet; damage has a place."""

import gzip
import random
from itertools import pairwise
from pathlib import Path

import pytest

from see_min.errors import InputError
from see_min.words.kdml import DEEPEST, PLACEHOLDERS, Node, draw, parse_definition, sememes, walk

REAL = Path(__file__).parents[2] / "shared" / "data" / "lexicon" / "hownet_wn_en_senses.tsv.gz"
needs_real = pytest.mark.skipif(not REAL.is_file(), reason=f"HowNet's definitions are not at {REAL}")
MEGABYTE = 1_000_000
NAMED = '{place|地方:PlaceSect={capital|国都}{city|市},belong="New Zealand|新西兰",modifier={ProperName|专}}'
CLAUSE = "{human|人:{cure|医治:agent={~},patient={human|人:modifier={ill|病}}},domain={medical|医}}"


@pytest.fixture(scope="module")
def real():
    """{definition: the sememes that the file lists for it}"""
    lines = gzip.open(REAL, "rt", encoding="utf-8").read().splitlines()[1:]
    return {line.split("\t")[5]: line.split("\t")[4].split(" ") for line in lines}


def random_tree(rng, depth=4, role=""):
    if rng.random() < 0.15:
        return Node(rng.choice(PLACEHOLDERS), role)
    name = f"e{rng.randrange(10**9)}" + rng.choice(["", " x", "_y"]) + rng.choice(["", "|中", "|中 文"])
    roles = sorted(rng.choice(["", "agent", "OfPart", "role 2"]) for _ in range(rng.randrange(4) if depth else 0))
    return Node(name, role, tuple(random_tree(rng, depth - 1, role) for role in roles))


def written(rng, node):
    """The tree as text: spaces, quotes and shared roles by chance."""
    space = lambda: rng.choice(["", "", " ", "  "])
    name = node.name.replace("|", f"{space()}|{space()}")
    if node.role and not node.children and node.name not in PLACEHOLDERS and rng.random() < 0.5:
        return f'"{space()}{name}{space()}"'
    text = ""
    for before, child in zip((None, *node.children), node.children):
        if before and before.role == child.role and rng.random() < 0.5:
            text += space()
        else:
            text += (space() + "," + space() if before else ":") + (child.role + space() + "=" + space() if child.role else "")
        text += written(rng, child)
    return "{" + space() + name + space() + text + space() + "}"


def cut(text, mark):
    """The pieces between the marks that no brace or quote encloses."""
    outside = lambda i: text[:i].count("{") == text[:i].count("}") and text[:i].count('"') % 2 == 0
    cuts = [-1, *(i for i, character in enumerate(text) if character == mark and outside(i)), len(text)]
    return [text[a + 1 : b].strip() for a, b in pairwise(cuts)]


def slow_fillers(text):
    start = 0
    for end in range(1, len(text) + 1):
        piece = text[start:end].strip()
        if piece and piece.count("{") == piece.count("}") and piece.count('"') % 2 == 0:
            yield piece
            start = end


def slow_node(text, role=""):
    """Cuts and counts alone; no damage is noticed."""
    head, *below = cut(text[1:-1], ":")
    children = []
    for feature in cut(below[0], ",") if below else []:
        *named, fillers = cut(feature, "=")
        children += [slow_node(filler, *named) for filler in slow_fillers(fillers)]
    return Node("|".join(part.strip() for part in head.split("|")), role, tuple(children))


def slow_definition(text):
    return tuple(slow_node(part) for part in cut(text, ";"))


def test_parsed_definition_is_the_tree_drawn_by_hand():
    cure = Node("cure|医治", "", (Node("~", "agent"), Node("human|人", "patient", (Node("ill|病", "modifier"),))))
    assert parse_definition(CLAUSE) == (Node("human|人", "", (cure, Node("medical|医", "domain"))),)
    assert parse_definition(NAMED)[0].children[1:3] == (Node("city|市", "PlaceSect"), Node("New Zealand|新西兰", "belong"))


def test_parser_inverts_a_writer_whatever_its_spaces_quotes_and_shared_roles():
    rng = random.Random(0)
    for _ in range(500):
        roots = tuple(random_tree(rng) for _ in range(rng.randrange(1, 4)))
        text = rng.choice([";", " ; "]).join(written(rng, root) for root in roots)
        assert parse_definition(text) == roots == slow_definition(text)


def test_remark_after_a_definition_changes_nothing():
    assert parse_definition(CLAUSE + "\nRMK=any {text; at\0 all") == parse_definition(CLAUSE + "RMK=") == parse_definition(CLAUSE)


def test_sememes_stand_in_the_order_of_the_text_without_placeholders():
    assert sememes(parse_definition(CLAUSE + ";{able|能:scope={?}{$}}")) == [
        ("human", ""), ("cure", ""), ("human", "patient"), ("ill", "modifier"), ("medical", "domain"), ("able", ""),
    ]  # fmt: skip


def depths(node, depth=0):
    yield depth
    for child in node.children:
        yield from depths(child, depth + 1)


def test_drawing_shows_a_node_a_line_from_which_the_tree_can_be_read_back():
    rng = random.Random(1)
    for _ in range(100):
        root = random_tree(rng)
        lines = draw((root,)).split("\n")
        labels = [line.lstrip("│├└─ ") for line in lines]
        assert labels == [(f"[{node.role}] " if node.role else "") + node.name for node in walk((root,))]
        assert [(len(line) - len(label)) // 3 for line, label in zip(lines, labels)] == list(depths(root))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected '{', got the end at character 1"),
        ("human|人", "expected '{', got 'h' at character 1"),
        ('"US|美国"', "expected '{', got '\"' at character 1"),
        ("{}", "expected a name, got '}' at character 2"),
        ("{|人}", "expected a name, got '|' at character 2"),
        ("{human|}", "expected a name after |, got '}' at character 8"),
        ("{human|人|人}", "expected ':' or '}', got '|' at character 9"),
        ("{human|人", "expected ':' or '}', got the end at character 9"),
        ("{hu\0man}", "expected ':' or '}', got '\\x00' at character 4"),
        ("{human:}", "expected a role or a filler, got '}' at character 8"),
        ("{human:agent}", "expected '=', got '}' at character 13"),
        ("{human:agent|施事={~}}", "expected '=', got '|' at character 13"),
        ("{human:agent=~}", "expected '{', got '~' at character 14"),
        ("{human:agent={~},}", "expected a role or a filler, got '}' at character 18"),
        ("{human:agent={~};{add}}", "expected ',' or '}', got ';' at character 17"),
        ('{human:belong="US}', "expected '\"', got '}' at character 18"),
        ('{human:belong=""}', "expected a name, got '\"' at character 16"),
        ("{human}}", "expected ';', 'RMK=' or the end, got '}' at character 8"),
        ("{human}{add}", "expected ';', 'RMK=' or the end, got '{' at character 8"),
        ("{human};", "expected '{', got the end at character 9"),
    ],
)
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
    nested = lambda depth: "{a:" * (depth - 1) + "{a}" + "}" * (depth - 1)
    roots = parse_definition(nested(DEEPEST))
    assert len(sememes(roots)) == len(draw(roots).split("\n")) == DEEPEST
    with pytest.raises(InputError, match=r"expected at most 100 braces inside each other, got '\{' at character 301"):
        parse_definition(nested(DEEPEST + 1))


@needs_real
def test_every_definition_of_hownet_is_the_tree_of_the_slow_reader(real):
    assert len(real) > 13_000
    for number, definition in enumerate(real):
        roots = parse_definition(definition)
        assert number % 10 or roots == slow_definition(definition), definition


@needs_real
def test_sememes_without_repetitions_are_those_hownet_lists_in_the_same_order(real):
    """The list keeps the last word alone of a name of several words; five English names stand for two sememes."""
    once = lambda names: list(dict.fromkeys(names))
    for definition, listed in real.items():
        roots = parse_definition(definition)
        names = [node.name.split(" ")[-1] for node in walk(roots) if node.name not in PLACEHOLDERS]
        assert once(names) == listed, definition
        english = [name.split(" ")[-1] for name, _ in sememes(roots)]
        assert once(english) == once(name.partition("|")[0] for name in listed), definition


def openhownet_sense(definition):
    """OpenHowNet's own reader, which finds names by their "|" in a list of sememes that it is given."""
    openhownet = pytest.importorskip("OpenHowNet")
    fields = dict.fromkeys(("en_word", "en_grammar", "ch_word", "ch_grammar"), "") | {"No": "1", "Def": definition}
    sense = openhownet.Sense(fields)
    sense.sememes = [openhownet.Sememe(name, 1) for name in full_names(parse_definition(definition))]
    return sense


def full_names(roots):
    return {node.name.replace(" ", "_") for node in walk(roots) if node.name not in PLACEHOLDERS}


@needs_real
def test_sememes_of_the_first_part_are_those_openhownet_reads(real):
    """OpenHowNet stops after the first of the parts between ";"."""
    several = [definition for definition in real if ";" in definition]
    for definition in [*list(real)[::40], *several]:
        read = {str(sememe) for sememe in openhownet_sense(definition).get_sememe_list()}
        assert read == full_names(parse_definition(definition)[:1]), definition


def compare_trees(node, other, late=False):
    """Yield (role here, role in OpenHowNet, does it share its role with an earlier filler that has children).

    Names and shape must agree, but OpenHowNet has no node for "~": the node above it carries its role instead.
    """
    assert node.name.replace(" ", "_") == str(other["name"])
    own = [child.role for child in node.children if child.name == "~"]
    yield own[-1] if own else node.role, other["role"].replace("None", ""), late
    children, others = [child for child in node.children if child.name != "~"], other.get("children", ())
    assert len(children) == len(others)
    for at, (child, its) in enumerate(zip(children, others)):
        late = any(before.children for before in children[:at] if before.role == child.role)
        yield from compare_trees(child, its, late)


@needs_real
def test_tree_differs_from_openhownet_only_in_roles_after_a_filler_with_children(real):
    """There OpenHowNet takes a role from inside the filler before: {a:x={b:y={c}}{d}} gives d the role y."""
    seen = set()
    shared = [definition for definition in real if "}}{" in definition]  # where a difference can be
    for definition in [*list(real)[::40], *shared]:
        roots = parse_definition(definition)
        (tree,) = openhownet_sense(definition).get_sememe_tree()["children"]
        for role, its, late in compare_trees(roots[0], tree):
            assert role == its or late, definition
            seen.add(role == its)
    assert seen == {True, False}
