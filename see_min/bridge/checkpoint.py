"""Save a model of the bridge, dense or compressed, with its vocabulary, and load it back to identical logits."""

import pickle
from dataclasses import asdict

import torch

from see_min.bridge.layers import SememeEmbedding
from see_min.bridge.models import BERTConfig, GPTConfig, TinyBERT, TinyGPT
from see_min.bridge.translator import TinyTranslator, TranslatorConfig
from see_min.checks import DataError
from see_min.encoding import SememeEncoding
from see_min.files import atomic_path

FORMAT = "see_min gpt 1"
KINDS = {FORMAT: (TinyGPT, GPTConfig), "see_min bert 1": (TinyBERT, BERTConfig),
         "see_min translator 1": (TinyTranslator, TranslatorConfig)}
READ_ERRORS = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError, pickle.UnpicklingError)


def save_checkpoint(model, path, words=()):
    """Write the model's sizes, state and vocabulary; tables are stored once and no code is stored.

    Parameters
    ----------
    model : TinyGPT, TinyBERT or TinyTranslator
    path : path
    words : list of str, or for a TinyTranslator (list of str, list of str)
    """
    format = next(name for name, (kind, _) in KINDS.items() if kind is type(model))
    stored = {"format": format, "config": asdict(model.config), "words": list(words), "state": model.state_dict()}
    with atomic_path(path) as temporary:
        torch.save(stored, temporary)


def load_checkpoint(path, device="cpu"):
    """(model, words) from a file that `save_checkpoint` wrote.

    Raises
    ------
    DataError
        If the file is missing, truncated, or something else.
    """
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(stored, dict):
            raise ValueError(type(stored).__name__)
        if stored["format"] not in KINDS:
            raise ValueError(f"format {stored['format']!r}")
        kind, config = KINDS[stored["format"]]
        model, state, made = kind(config(**stored["config"])).to(device), stored["state"], {}
        for name in model.embeddings:
            index = state.get(f"{name}.index")
            if index is not None:  # embeddings of one storage are one
                if index.data_ptr() not in made:
                    made[index.data_ptr()] = SememeEmbedding(encoding_of(state, f"{name}.")).to(device)
                setattr(model, name, made[index.data_ptr()])
        model.load_state_dict(state)
        return model.eval(), stored["words"]
    except READ_ERRORS as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DataError(f"{path}: expected a checkpoint of see_min, got {reason}") from None


def encoding_of(state, prefix):
    """The encoding whose tensors stand in a state dict under a prefix; tensors of one storage are one table."""
    arrays, once = {}, {}
    for key, tensor in state.items():
        if key.startswith(prefix):
            array = tensor.cpu().long().numpy() if key.endswith(("index", "bag")) else tensor.cpu().float().numpy()
            arrays[key.removeprefix(prefix)] = once.setdefault(tensor.data_ptr(), array)
    tables = [arrays[f"tables.{j}"] for j in range(arrays["index"].shape[-1])]
    return SememeEncoding(tables, *(arrays.get(name) for name in ("index", "amplitudes", "carrier", "bag", "bag_vectors")))
