"""Save a toy model, dense or compressed, with its words, and load it to identical logits."""

from dataclasses import asdict

import torch

from see_min.bridge.layers import SememeEmbedding, encoding_of
from see_min.errors import InputError
from see_min.files import atomic_path
from see_min.toy import models

KINDS = {
    "see_min gpt 2": (models.TinyGPT, models.GPTConfig),
    "see_min bert 2": (models.TinyBERT, models.BERTConfig),
    "see_min translator 2": (models.TinyTranslator, models.TranslatorConfig),
}


def save_checkpoint(model, path, words):
    """Write sizes, state, words (of a translator: of each language) and names of units; no code."""
    name = next(name for name, (kind, _) in KINDS.items() if kind is type(model))
    parts = {key: model.get_submodule(key) for key in model.embeddings}
    names = {key: getattr(part, "description", None) for key, part in parts.items()}
    stored = {"format": name, "config": asdict(model.config), "words": list(words), "names": names}
    with atomic_path(path) as temporary:
        torch.save(stored | {"state": model.state_dict()}, temporary)


def load_checkpoint(path, device="cpu"):
    """(model, words) that `save_checkpoint` wrote; InputError for any other file. Runs no code."""
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
        kind, config = KINDS[stored["format"]]
        model, words = kind(config(**stored["config"])).to(device), stored["words"]
        _put_embeddings(model, stored["state"], stored.get("names", {}), device)
        model.load_state_dict(stored["state"])
        rows = [model.get_submodule(name).num_embeddings for name in model.embeddings]
        lengths = [len(words)] if len(rows) == 1 else list(map(len, words))
        if lengths != rows:
            raise ValueError(f"{lengths} words for {rows} rows")
    except Exception as error:  # of torch and pickle: no list would be complete
        reason = f"{type(error).__name__} {error}".split("\n")[0]
        raise InputError(f"{path}: expected a checkpoint of see_min, got {reason}") from None
    return model.eval(), words


def _put_embeddings(model, state, names, device):
    """A SememeEmbedding where the state has one; embeddings of one storage are one."""
    made = {}
    for name in model.embeddings:
        table = state.get(f"{name}.table_0")
        if table is None:
            continue
        if table.data_ptr() not in made:
            new = SememeEmbedding(encoding_of(state, f"{name}.")).to(device)
            new.describe(names.get(name) or {})  # its bits, names of words and units
            made[table.data_ptr()] = new
        setattr(model, name, made[table.data_ptr()])
