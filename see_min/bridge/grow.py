"""New words for a model of transformers: tokenizer, embedding and head grow together."""

import re
from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import nn

from see_min.bridge.layers import SememeEmbedding
from see_min.encoding import private_units
from see_min.errors import InputError, require
from see_min.words.new_words import annotated, rows_of, with_words
from see_min.words.tokens import detect_style

SPACE = {"byte-bpe": "Ġ", "sentencepiece": "▁"}  # before a word, where it belongs to its token


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

    Words take rows that have no token, in vocabularies that are padded, then further ones.

    Returns the ids of the words. Raises InputError, and changes nothing, for words that are there,
    of which nothing is known, or that do not fit the model.
    """
    layer, heads, names = _parts(model, tokenizer)
    _check_new(words, tokenizer)
    spelled = {w: _pieces(w, tokenizer) for w in words} if pieces else None
    notes, own = annotated(names, words, lexicon, seed)
    rows = [rows_of(reader(part, names), words, notes, own, spelled) for part in (layer, *heads)]
    _add_tokens(tokenizer, list(words), SPACE.get(detect_style(names)))
    if len(tokenizer) > len(names):
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ids = tokenizer.convert_tokens_to_ids(list(words))
    head = model.get_output_embeddings()
    if isinstance(layer, SememeEmbedding):
        grown = with_words(reader(layer, names), list(words), rows[0], own)
        V, n, N = len(names), min(ids), len(ids)
        order = [*range(n), *range(V, V + N), *range(n + N, V)]
        grown = replace(grown, index=grown.index[order], bag=grown.bag[order],
                        words=[grown.words[row] for row in order])
        model.set_input_embeddings(layer.rebuilt(grown))
    else:
        _write(model.get_input_embeddings().weight, ids, rows[0])
    if heads:
        _write(head.weight, ids, rows[1])
    if getattr(head, "bias", None) is not None:
        _write(head.bias, ids, head.bias[: min(ids)].detach().mean())
    return ids


def train_rows(model, ids):
    """Freeze a model but for the rows of some words: of a compressed one private vectors alone.

    The gradients of other rows are 0, so an optimizer without weight decay leaves them as they are.

    Returns [(parameter, its rows)], of the embedding and of a head that is not tied. Raises
    InputError for a word of a compressed model that has no row of its own.
    """
    layer, head = model.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(layer, SememeEmbedding):
        own = dict(zip(*(part.tolist() for part in private_units(layer.to_encoding().bag))))
        if lost := [id for id in ids if id not in own]:
            raise InputError(f"ids: expected words with private vectors, got {lost[0]}")
        parts = {layer.bag_vectors: [own[id] for id in ids]}
    else:
        parts = {layer.weight: list(ids)}
    if isinstance(head, nn.Linear):
        parts[head.weight] = list(ids)  # that of the layer, where they are tied
    model.requires_grad_(False)
    for weight, rows in parts.items():
        mask = torch.zeros_like(weight[:, :1])  # (V, 1), or (U, 1)
        mask[rows] = 1
        weight.requires_grad_(True).register_hook(lambda grad, mask=mask: grad * mask)
    return list(parts.items())


def _parts(model, tokenizer):
    """The embedding, a list with a head that has rows of its own, and the names of the rows."""
    if getattr(model.config, "is_encoder_decoder", False):
        raise InputError("model: expected one with one embedding, got an encoder with a decoder")
    layer, head = model.get_input_embeddings(), model.get_output_embeddings()
    V, n = layer.num_embeddings, len(tokenizer)
    if n > V or max(tokenizer.get_vocab().values()) != n - 1:
        raise InputError(f"tokenizer: expected ids 0, 1, ... for at most {V} rows, got {n} tokens")
    names = tokenizer.convert_ids_to_tokens(list(range(n))) + [f"[ROW{id}]" for id in range(n, V)]
    tied = not isinstance(layer, SememeEmbedding) and head is not None
    tied = tied and head.weight is layer.weight
    return layer, [head] if isinstance(head, nn.Linear) and not tied else [], names


def _add_tokens(tokenizer, words, space):
    """Words as tokens, to whose text decoding adds the space before them if it is theirs."""
    token = require("transformers").AddedToken
    tokenizer.add_tokens([token(word, single_word=True, lstrip=bool(space)) for word in words])
    if space and hasattr(tokenizer, "backend_tokenizer"):
        from tokenizers import Regex, decoders

        start = Regex(f"^(?=(?:{'|'.join(map(re.escape, words))})$)")
        backend = tokenizer.backend_tokenizer
        backend.decoder = decoders.Sequence([decoders.Replace(start, space), backend.decoder])
        # classes such as GPT2Tokenizer make a decoder of their own as they load
        tokenizer.init_kwargs["padding_side"] = tokenizer.padding_side
        tokenizer.__class__ = require("transformers").PreTrainedTokenizerFast


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


def reader(part, names):
    """The encoding of an embedding, or the rows of a plain one or a head, with its words."""
    if isinstance(part, SememeEmbedding):
        return replace(part.to_encoding(), words=names)
    weight = part.weight.detach()
    return SimpleNamespace(
        words=names, rows=lambda ids: weight[torch.as_tensor(ids)].double().cpu().numpy())


@torch.no_grad()
def _write(weight, ids, rows):
    weight[ids] = torch.as_tensor(rows).to(weight)
