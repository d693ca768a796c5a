"""Tokenizer vocabularies: marks, GPT-2's bytes, files, and tokenizers that are trained here."""

import json
import random
import re

import pytest

from see_min.errors import InputError
from see_min.storage.files import write_atomic
from see_min.words.tokens import STYLES, Token, detect_style, normalise, read_vocabulary

SENTENCES = [
    "the player played the plays that players play",
    "a walker walked and walks where walkers walk",
    "the café walks and the café plays",
] * 3
UNSEEN = "walkers pays theys cays wheres aryed"  # other words, so that pieces are needed


def test_every_style_says_of_its_tokens_what_its_marks_say():
    plain = {"word": True, "wordpiece": True, "byte-bpe": False, "sentencepiece": False,
             "fairseq": None}
    for style, begins in plain.items():
        kind = "piece" if begins is False else "word"
        assert normalise(["play"], style) == [Token("play", kind, begins)], style
    assert normalise(["##ing"], "wordpiece") == [Token("ing", "piece", False)]
    assert normalise(["Ġplay"], "byte-bpe") == [Token("play", "word", True)]
    assert normalise(["▁play"], "sentencepiece") == [Token("play", "word", True)]
    assert normalise(["play@@"], "fairseq") == [Token("play", "piece", None)]


def test_special_tokens_are_special_in_every_style_and_brackets_and_signs_are_not():
    names = ("[CLS] [MASK] [unused12] <s> </s> <pad> <mask> <|endoftext|> <extra_id_0> "
             "madeupword0001").split()
    for style in STYLES:
        tokens = normalise(names, style)
        assert {(t.kind, t.word, t.morpheme) for t in tokens} == {("special", "", "")}, style
    signs = ["<", "<=>", "<3>", "[", "[]", "[i]", "a<b>", "<a b>"]
    assert {token.kind for token in normalise(signs, "word")} == {"word"}


def test_bytes_that_are_not_utf8_alone_are_bytes():
    tokens = normalise(["\u00c3", "Ġ\u00c3", "Ġcaf\u00c3\u00a9", "日本"], "byte-bpe")
    assert tokens == [
        Token("", "byte", False),
        Token("", "byte", True),
        Token("café", "word", True),
        Token("日本", "piece", False),  # added by hand: it stands as it is
    ]
    assert normalise(["<0xC3>"], "sentencepiece") == [Token("", "byte", False)]


@pytest.mark.parametrize(("style", "marked"), [
    ("wordpiece", "##b"), ("byte-bpe", "Ġb"), ("sentencepiece", "▁b"), ("fairseq", "b@@"),
    ("word", "b"),
])
def test_style_is_detected_from_one_marked_token_in_a_hundred(style, marked):
    assert detect_style([marked, *map(str, range(99))]) == style
    assert detect_style([marked, *map(str, range(100))]) == "word"
    assert detect_style(["Ġa", "Ġb", "##", "##a"]) == "byte-bpe"  # the more frequent mark
    assert detect_style([]) == "word" and normalise([]) == []


def test_byte_table_agrees_with_an_independent_byte_level_decoder():
    tokenizers = pytest.importorskip("tokenizers")
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    decoder, rng = tokenizers.decoders.ByteLevel(), random.Random(0)
    for token in letters + ["".join(rng.choices(letters, k=rng.randint(2, 4))) for _ in range(300)]:
        expected = decoder.decode([token])
        expected = "" if "\ufffd" in expected else expected.strip()
        assert normalise([token], "byte-bpe")[0].text == expected, token


def trained(kind):
    tokenizers = pytest.importorskip("tokenizers")
    models, trainers, pre = tokenizers.models, tokenizers.trainers, tokenizers.pre_tokenizers
    alphabet = pre.ByteLevel.alphabet()
    model, splitter, trainer, options = {
        "wordpiece": (models.WordPiece(unk_token="[UNK]"), pre.Whitespace(),
                      trainers.WordPieceTrainer,
                      {"vocab_size": 60, "special_tokens": ["[UNK]", "[CLS]"]}),
        "byte-bpe": (models.BPE(), pre.ByteLevel(add_prefix_space=True), trainers.BpeTrainer,
                     {"vocab_size": 310, "initial_alphabet": alphabet,
                      "special_tokens": ["<|endoftext|>"]}),
        "sentencepiece": (models.Unigram(), pre.Metaspace(), trainers.UnigramTrainer,
                          {"vocab_size": 50, "unk_token": "<unk>",
                           "special_tokens": ["<unk>", "<s>"]}),
    }[kind]
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = splitter
    tokenizer.train_from_iterator(SENTENCES, trainer(show_progress=False, **options))
    return tokenizer


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe", "sentencepiece"])
def test_tokens_of_a_trained_tokenizer_join_into_the_words(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    tokenizer = trained(kind)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    vocabulary = read_vocabulary(tmp_path)
    assert vocabulary == [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    assert detect_style(vocabulary) == kind
    tokens, pieces = normalise(vocabulary), 0
    for sentence in [*SENTENCES[:3], UNSEEN]:
        words = []
        for number in tokenizer.encode(sentence).ids:
            if tokens[number].begins:
                words.append("")
            words[-1] += tokens[number].text
            pieces += tokens[number].kind == "piece"
        assert words == sentence.split()
    assert pieces > 3
    assert sum(token.kind == "special" for token in tokens) == (1 if kind == "byte-bpe" else 2)


FULL = {"model": {"vocab": {"a": 0, "\u2028": 1}}}


def added(token, number):
    return {"id": number, "content": token, "special": True}


def write(path, data):
    return write_atomic(path, data if isinstance(data, str) else json.dumps(data))


@pytest.mark.parametrize(("name", "data"), [
    ("vocab.txt", "\ufeffa\r\n\u2028\r\nc"),
    ("vocab.json", {"c": 2, "a": 0, "\u2028": 1}),
    ("vocab.json", ["a", "\u2028", "c"]),
    ("tokenizer.json", {**FULL, "added_tokens": [added("c", 2), added("a", 0)]}),
    ("tokenizer.json", {"model": {"vocab": [["a", 0.5], ["\u2028", -1.0], ["c", -2.0]]},
                        "added_tokens": None}),
])
def test_every_form_of_a_vocabulary_gives_the_tokens_in_the_order_of_ids(tmp_path, name, data):
    path = write(tmp_path / name, data)
    assert read_vocabulary(path) == read_vocabulary(str(path.parent)) == ["a", "\u2028", "c"]


FORM = "token -> id, or model.vocab and added_tokens, got another form"


@pytest.mark.parametrize(("name", "data", "text"), [
    ("vocab.txt", "", "at least 1 token, got none"),
    ("vocab.txt", "a\nb\na\n", "every token once, got 'a' as ids 0 and 2"),
    ("vocab.json", {"a": 0, "b": 2}, "the ids 0 to 1, each once, got 2 instead of 1"),
    ("vocab.json", {"a": False}, "texts as tokens and whole numbers as ids, got"),
    ("vocab.json", "7", FORM),
    ("tokenizer.json", {"model": {"vocab": [[[], 1]]}}, FORM),
    ("tokenizer.json", {**FULL, "added_tokens": [7]}, FORM),
    ("tokenizer.json", {**FULL, "added_tokens": [added("a", 2)]}, "every token once"),
])
def test_a_bad_vocabulary_is_an_error_with_its_place(tmp_path, name, data, text):
    path = write(tmp_path / name, data)
    with pytest.raises(InputError, match="^" + re.escape(f"{path}: expected {text}")):
        read_vocabulary(path)
