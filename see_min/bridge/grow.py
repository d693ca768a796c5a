"""New words for a model of transformers: tokenizer, embedding and head grow together."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from see_min.bridge.layers import SememeEmbedding
from see_min.errors import InputError, require
from see_min.new_words import annotated, new_rows, with_words
from see_min.words.tokens import detect_style

UNKNOWN = ("refuse", "pieces")
SPACED = ("byte-bpe", "sentencepiece")  # the space before a word belongs to its token


def add_words(model, tokenizer, words, lexicon="sample", unknown="refuse", seed=0):
    """Give words a token and a row made of what is known of them (`see_min.new_rows`), in place.

    Parameters
    ----------
    model : model of transformers with one embedding, plain or compressed
        A compressed one keeps the rows as private vectors. A head that is not tied gets rows from
        its own.
    tokenizer : its tokenizer
        Knows each word as one token, but not inside of longer ones, and with the space before it.
    words, lexicon, seed : as in `see_min.new_rows`
    unknown : "refuse" or "pieces"
        What becomes of a word of which nothing is known: "pieces" is the mean of their rows.

    Returns the ids of the words. Raises InputError, and changes nothing, for words that are there,
    of which nothing is known, or that do not fit the model.
    """
    if unknown not in UNKNOWN:
        raise InputError(f"unknown: expected one of {', '.join(UNKNOWN)}, got {unknown!r}")
    layer, head, names = _parts(model, tokenizer)
    _check_new(words, tokenizer)
    pieces = None
    if unknown == "pieces":
        pieces = {w: tokenizer(f" {w}", add_special_tokens=False)["input_ids"] for w in words}
    found = []
    for part in (layer, head) if head is not None else (layer,):
        source = SimpleNamespace(words=names, rows=_reader(part))
        if isinstance(part, SememeEmbedding):
            source = part.to_encoding()
            source.words = names
        found.append((source, new_rows(source, words, lexicon, pieces, seed)))
    notes = annotated(found[0][0], words, lexicon, seed)[1]
    _add_tokens(tokenizer, words, names)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ids = tokenizer.convert_tokens_to_ids(list(words))
    if isinstance(layer, SememeEmbedding):
        new = layer.rebuilt(with_words(found[0][0], list(words), found[0][1], notes))
        model.get_input_embeddings().load_state_dict(new.state_dict())
        model.get_input_embeddings().notes = new.notes
    else:
        _write(model.get_input_embeddings(), ids, found[0][1])
    if head is not None:
        _write(model.get_output_embeddings(), ids, found[1][1])
    return ids


def _parts(model, tokenizer):
    """The embedding, a head with rows of its own or None, and the names of the rows."""
    if getattr(model.config, "is_encoder_decoder", False):
        raise InputError("model: expected one with one embedding, got an encoder with a decoder")
    layer, head = model.get_input_embeddings(), model.get_output_embeddings()
    rows = layer.num_embeddings
    if rows != len(tokenizer):
        rule = f"a token for each of {rows} rows"
        raise InputError(f"tokenizer: expected {rule}, got {len(tokenizer)}")
    names = tokenizer.convert_ids_to_tokens(list(range(rows)))
    own = isinstance(head, nn.Linear) and head.weight is not getattr(layer, "weight", None)
    return layer, head if own else None, names


def _check_new(words, tokenizer):
    known = tokenizer.get_vocab()
    for word in words:
        if word != "".join(word.split()) or not word:
            raise InputError(f"words: expected texts without spaces, got {word!r}")
        spelled = [tokenizer.tokenize(text) for text in (word, f" {word}")]
        if word in known or any(len(s) == 1 and s != [tokenizer.unk_token] for s in spelled):
            raise InputError(f"words: expected new ones, got {word!r}, which is one token")
    if not words or len(set(words)) < len(words):
        raise InputError(f"words: expected at least 1, each once, got {len(words)}")


def _reader(part):
    weight = part.weight.detach()
    return lambda ids: weight[torch.as_tensor(ids)].double().cpu().numpy()


def _add_tokens(tokenizer, words, names):
    token = require("transformers").AddedToken
    before = detect_style(names) in SPACED
    tokenizer.add_tokens([token(word, single_word=True, lstrip=before) for word in words])


@torch.no_grad()
def _write(part, ids, rows):
    part.weight[ids] = torch.as_tensor(np.asarray(rows)).to(part.weight)
    if getattr(part, "bias", None) is not None:
        part.bias[ids] = part.bias[: min(ids)].mean()
