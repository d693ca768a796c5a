"""Save a toy model, dense or compressed, with its words, and load it to identical logits."""

import pickle
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

READ_ERRORS = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError,
               pickle.UnpicklingError)


def save_checkpoint(model, path, words=()):
    """Write sizes, state and words (of a translator: those of each language); no code is stored."""
    name = next(name for name, (kind, _) in KINDS.items() if kind is type(model))
    stored = {"format": name, "config": asdict(model.config), "words": list(words)}
    with atomic_path(path) as temporary:
        torch.save(stored | {"state": model.state_dict()}, temporary)


def load_checkpoint(path, device="cpu"):
    """(model, words) that `save_checkpoint` wrote; InputError for any other file. Runs no code."""
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(stored, dict):
            raise ValueError(type(stored).__name__)
        if stored["format"] not in KINDS:
            raise ValueError(f"format {stored['format']!r}")
        kind, config = KINDS[stored["format"]]
        model = kind(config(**stored["config"])).to(device)
        _put_embeddings(model, stored["state"], device)
        model.load_state_dict(stored["state"])
        return model.eval(), stored["words"]
    except READ_ERRORS as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise InputError(f"{path}: expected a checkpoint of see_min, got {reason}") from None


def _put_embeddings(model, state, device):
    """A SememeEmbedding where the state has one; embeddings of one storage are one."""
    made = {}
    for name in model.embeddings:
        table = state.get(f"{name}.table_0")
        if table is not None:
            if table.data_ptr() not in made:
                encoding = encoding_of(state, f"{name}.")
                made[table.data_ptr()] = SememeEmbedding(encoding).to(device)
            setattr(model, name, made[table.data_ptr()])
