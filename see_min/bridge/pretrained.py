"""Folders of models of Hugging Face, plain ones and compressed ones.

A folder that `save_compressed` writes holds config and tokenizer as transformers write them, and see_min.pt: the state, and which
modules are compressed. No code is stored.
"""

from pathlib import Path

import torch

from see_min.bridge.checkpoint import READ_ERRORS, encoding_of
from see_min.bridge.encoder import model_folder
from see_min.bridge.layers import SememeEmbedding, TiedHead
from see_min.bridge.pretrained_models import CLASSES, Pretrained, PretrainedTranslator, check_task
from see_min.bridge.swap import find_embedding, swap_embedding
from see_min.checks import DataError
from see_min.files import atomic_path, write_atomic

FORMAT, FILE, GENERATION = "see_min transformer 1", "see_min.pt", "generation_config.json"
INSTALL = "transformers: expected the package to be installed, got none: pip install transformers"


def load_pretrained(name, task, context=64, device="cpu"):
    """A Pretrained from a folder, plain or written by `save_compressed`; nothing is downloaded.

    Raises
    ------
    DataError
        If transformers is not installed, or the folder holds no whole model and tokenizer for the task.
    """
    check_task(task)
    folder = model_folder(name)
    try:
        import transformers
    except ImportError:
        raise DataError(INSTALL) from None
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    kind = getattr(transformers, CLASSES[task])
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # transformers makes one of special tokens where files lack
            raise ValueError("no words in the tokenizer: are its files there?")
        if (folder / FILE).is_file():
            model = _compressed(folder, kind, transformers.AutoConfig)
            if (folder / GENERATION).is_file():
                model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
        else:
            model, report = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True)
            missing = [key for key in report["missing_keys"] if "pooler" not in key and "position_ids" not in key]
            if missing:
                raise ValueError(f"no weights for {', '.join(sorted(missing)):.120}: is it trained for {task}?")
    except Exception as error:  # of json, safetensors, tokenizers: no list of them would be complete
        text = " ".join(str(error).split())
        raise DataError(f"{folder}: expected a model and a tokenizer that transformers reads, got {text:.200}") from error
    protocol = PretrainedTranslator if task == "translation" else Pretrained
    return protocol(model.eval().to(device), tokenizer, task, context)


def save_compressed(pretrained, folder):
    """Write a compressed model: config and tokenizer, then see_min.pt, each whole or not at all.

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    folder = Path(folder)
    write_atomic(folder / "config.json", pretrained.model.config.to_json_string(use_diff=False))
    if pretrained.model.can_generate():
        write_atomic(folder / GENERATION, pretrained.model.generation_config.to_json_string(use_diff=False))
    stored = {"format": FORMAT, "names": _names(pretrained.model), "state": pretrained.model.state_dict(),
              "dtype": str(pretrained.model.dtype)}
    try:
        pretrained.tokenizer.save_pretrained(folder)
        with atomic_path(folder / FILE) as temporary:
            torch.save(stored, temporary)
    except DataError:
        raise
    except Exception as error:  # a full disk has another name in torch, in tokenizers and in Python
        raise DataError(f"out: expected a folder with room, got {folder}: {' '.join(str(error).split()):.200}") from error


def _names(model):
    """The name of each compressed embedding, the first of those that it has; a head holds its embedding, too."""
    modules = dict(model.named_modules(remove_duplicate=False))
    own = {key: module for key, module in modules.items() if isinstance(module, SememeEmbedding)
           and not isinstance(modules[key.rpartition(".")[0]], TiedHead)}
    return list({module: key for key, module in reversed(own.items())}.values())


def _compressed(folder, kind, configuration):
    """The model whose state see_min.pt holds."""
    try:
        stored = torch.load(folder / FILE, map_location="cpu", weights_only=True)
        if stored["format"] != FORMAT:
            raise ValueError(f"format {stored['format']!r}")
        dtype = getattr(torch, stored["dtype"].removeprefix("torch."))
        model = kind.from_config(configuration.from_pretrained(folder), dtype=dtype)  # not .to: buffers keep their precision
        for name in stored["names"]:
            swap_embedding(model, encoding_of(stored["state"], name + "."), find_embedding(model, name).name)
        model.load_state_dict(stored["state"])
        return model
    except READ_ERRORS as error:
        raise ValueError(f"{FILE}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from None
