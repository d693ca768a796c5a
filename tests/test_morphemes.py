"""Splitting words into morphemes: what the pieces are, determinism, silence."""

import json
import logging
import os
import random
import subprocess
import sys

import pytest

from see_min.words.formats import sample_lexicon
from see_min.words.morphemes import LONGEST, _train_and_split, segment

STEMS = ("play", "work", "talk", "jump", "call")
WORDS = [stem + ending for stem in STEMS for ending in ("", "s", "ed", "ing")]
MANY = list(sample_lexicon().entries)[::8]  # irregular: the order of training shows in the result
CODE = """import json, sys
from see_min.words.morphemes import segment
print(json.dumps(segment(json.loads(sys.argv[1]))))"""


@pytest.fixture(autouse=True)
def forgetful():
    """Every test trains for itself."""
    _train_and_split.cache_clear()


def test_pieces_put_together_are_the_word_and_only_letters_have_pieces():
    odd = ["x1", "don't", "<unk>", "", "new_york", "3"]
    assert ["".join(pieces) for pieces in segment([*odd, *WORDS])] == [""] * len(odd) + WORDS
    assert segment(odd) == [()] * len(odd) and segment([]) == []


def test_segmentation_depends_neither_on_word_order_nor_on_repeats():
    expected = dict(zip(MANY, segment(MANY)))
    mixed = random.Random(0).sample(MANY, len(MANY)) + MANY[:5]
    assert segment(mixed) == [expected[word] for word in mixed]


def test_segmentation_does_not_depend_on_pythonhashseed():
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", CODE, json.dumps(MANY)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert [tuple(pieces) for pieces in json.loads(run.stdout)] == segment(MANY)


def test_only_the_seed_given_decides_the_order_of_training():
    expected = segment(MANY)
    random.seed(1)
    state = random.getstate()
    _train_and_split.cache_clear()
    assert segment(MANY) == expected and random.getstate() == state
    assert any(segment(MANY, seed=seed) != expected for seed in range(1, 4))  # control


def test_training_is_silent(capfd, caplog):
    with caplog.at_level(logging.DEBUG):
        segment(WORDS)
    assert capfd.readouterr() == ("", "") and caplog.records == []


def test_a_word_that_is_too_long_stays_uncut():
    longest, line = "abcd" * (LONGEST // 4), "play" * 75_000  # the second would take hours to cut
    pieces = segment([*WORDS, longest, line])
    assert pieces[-1] == (line,) and "".join(pieces[-2]) == longest
    assert pieces[:-1] == segment([*WORDS, longest])
