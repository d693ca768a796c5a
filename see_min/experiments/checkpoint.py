"""Save a toy model, dense or compressed, with its words, and load it to identical logits."""

from dataclasses import asdict

import torch

from see_min.bridge.layers import SememeEmbedding
from see_min.bridge.packing import pack_layer, unpack_layer
from see_min.errors import InputError
from see_min.storage.files import atomic_path
from see_min.toy import models

KINDS = {
    "see_min gpt 3": (models.TinyGPT, models.GPTConfig),
    "see_min bert 3": (models.TinyBERT, models.BERTConfig),
    "see_min translator 3": (models.TinyTranslator, models.TranslatorConfig),
}


def save_checkpoint(model, path, words):
    """Write sizes, state and words (of a translator: of each language); no code.

    Of a compressed embedding what a file holds of it.
    """
    name = next(name for name, (kind, _) in KINDS.items() if kind is type(model))
    state, layers = model.state_dict(), {}
    for key in model.embeddings:
        part = model.get_submodule(key)
        if isinstance(part, SememeEmbedding):
            state = {name: one for name, one in state.items() if not name.startswith(f"{key}.")}
            layers[key] = pack_layer(part)
    stored = {"format": name, "config": asdict(model.config), "words": list(words)}
    with atomic_path(path) as temporary:
        torch.save(stored | {"layers": layers, "state": state}, temporary)


def load_checkpoint(path, device="cpu"):
    """(model, words) that `save_checkpoint` wrote; InputError for any other file. Runs no code."""
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
        kind, config = KINDS[stored["format"]]
        model, words = kind(config(**stored["config"])).to(device), stored["words"]
        state = dict(stored["state"])
        for name, packed in stored["layers"].items():
            layer = unpack_layer(*packed).to(device)
            setattr(model, name, layer)
            state |= {f"{name}.{key}": one for key, one in layer.state_dict().items()}
        model.load_state_dict(state)
        rows = [model.get_submodule(name).num_embeddings for name in model.embeddings]
        lengths = [len(words)] if len(rows) == 1 else list(map(len, words))
        if lengths != rows:
            raise ValueError(f"{lengths} words for {rows} rows")
    except Exception as error:  # of torch and pickle: no list would be complete
        reason = f"{type(error).__name__} {error}".split("\n")[0]
        raise InputError(f"{path}: expected a checkpoint of see_min, got {reason}") from None
    return model.eval(), words
