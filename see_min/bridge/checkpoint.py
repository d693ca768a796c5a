"""Save a TinyGPT, dense or compressed, with its vocabulary, and load it back to identical logits."""

import pickle
from dataclasses import asdict

import torch

from see_min.bridge.layers import SememeEmbedding
from see_min.bridge.models import GPTConfig, TinyGPT
from see_min.checks import DataError
from see_min.encoding import SememeEncoding
from see_min.files import atomic_path

FORMAT = "see_min gpt 1"
EMBEDDING = "token_embedding."
READ_ERRORS = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError, pickle.UnpicklingError)


def save_checkpoint(model, path, words=()):
    """Write the model's sizes, state and vocabulary; tables are stored once and no code is stored."""
    stored = {"format": FORMAT, "config": asdict(model.config), "words": list(words), "state": model.state_dict()}
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
        if stored["format"] != FORMAT:
            raise ValueError(f"format {stored['format']!r}")
        model = TinyGPT(GPTConfig(**stored["config"])).to(device)
        state = stored["state"]
        if EMBEDDING + "index" in state:
            model.token_embedding = SememeEmbedding(encoding_of(state)).to(device)
        model.load_state_dict(state)
        return model.eval(), stored["words"]
    except READ_ERRORS as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DataError(f"{path}: expected a checkpoint of see_min, got {reason}") from None


def encoding_of(state, prefix=EMBEDDING):
    """The encoding whose tensors stand in a state dict under a prefix; tensors of one storage are one table."""
    arrays, once = {}, {}
    for key, tensor in state.items():
        if key.startswith(prefix):
            array = tensor.cpu().long().numpy() if key.endswith(("index", "bag")) else tensor.cpu().float().numpy()
            arrays[key.removeprefix(prefix)] = once.setdefault(tensor.data_ptr(), array)
    tables = [arrays[f"tables.{j}"] for j in range(arrays["index"].shape[-1])]
    return SememeEncoding(tables, *(arrays.get(name) for name in ("index", "amplitudes", "carrier", "bag", "bag_vectors")))
