"""New words for a model of transformers: tokenizer, embedding and head grow together."""

from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import nn

from see_min.bridge.layers import SememeEmbedding
from see_min.errors import InputError, require
from see_min.new_words import annotated, rows_of, with_words
from see_min.words.tokens import detect_style

SPACED = ("byte-bpe", "sentencepiece")  # the space before a word belongs to its token


def add_words(model, tokenizer, words, lexicon="sample", pieces=True, seed=0):
    """Give words a token and a row made of what is known of them (`see_min.new_rows`), in place.

    Parameters
    ----------
    model : model of transformers with one embedding, plain or compressed
        A compressed one keeps the rows as private vectors. A head that is not tied gets rows from
        its own.
    tokenizer : its tokenizer
        Knows each word as one token, but not inside of longer ones, and with the space before it.
    words, lexicon, seed : as in `see_min.new_rows`
    pieces : bool
        Whether rows stand halfway to the mean of the tokens that spell the word so far: better in
        sentences, worse for words alone. A word of which nothing is known is then that mean.

    Returns the ids of the words. Raises InputError, and changes nothing, for words that are there,
    of which nothing is known, or that do not fit the model.
    """
    layer, heads, names = _parts(model, tokenizer)
    _check_new(words, tokenizer)
    spelled = {w: _pieces(w, tokenizer) for w in words} if pieces else None
    notes, own = annotated(names, words, lexicon, seed)
    rows = [rows_of(_reader(part, names), words, notes, own, spelled) for part in (layer, *heads)]
    before = detect_style(names) in SPACED
    token = require("transformers").AddedToken
    tokenizer.add_tokens([token(word, single_word=True, lstrip=before) for word in words])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ids = tokenizer.convert_tokens_to_ids(list(words))
    grown, head = model.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(layer, SememeEmbedding):
        new = layer.rebuilt(with_words(_reader(layer, names), list(words), rows[0], own))
        grown.load_state_dict(new.state_dict())
        grown.notes = new.notes
    else:
        _write(grown.weight, ids, rows[0])
    if heads:
        _write(head.weight, ids, rows[1])
    if getattr(head, "bias", None) is not None:
        _write(head.bias, ids, head.bias[: min(ids)].detach().mean())
    return ids


def _parts(model, tokenizer):
    """The embedding, a list with a head that has rows of its own, and the names of the rows."""
    if getattr(model.config, "is_encoder_decoder", False):
        raise InputError("model: expected one with one embedding, got an encoder with a decoder")
    layer, head = model.get_input_embeddings(), model.get_output_embeddings()
    rows = layer.num_embeddings
    if rows != len(tokenizer):
        rule = f"a token for each of {rows} rows"
        raise InputError(f"tokenizer: expected {rule}, got {len(tokenizer)}")
    names = tokenizer.convert_ids_to_tokens(list(range(rows)))
    tied = not isinstance(layer, SememeEmbedding) and head is not None
    tied = tied and head.weight is layer.weight
    return layer, [head] if isinstance(head, nn.Linear) and not tied else [], names


def _pieces(word, tokenizer):
    """Ids of the tokens that spell a word; those of unknown letters say nothing."""
    ids = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    return [id for id in ids if id != tokenizer.unk_token_id]


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


def _reader(part, names):
    """The encoding of an embedding, or the rows of a plain one or a head, with its words."""
    if isinstance(part, SememeEmbedding):
        return replace(part.to_encoding(), words=names)
    weight = part.weight.detach()
    return SimpleNamespace(
        words=names, rows=lambda ids: weight[torch.as_tensor(ids)].double().cpu().numpy())


@torch.no_grad()
def _write(weight, ids, rows):
    weight[ids] = torch.as_tensor(rows).to(weight)
