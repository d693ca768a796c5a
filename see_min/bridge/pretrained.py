"""Models of Hugging Face with the protocol of the bridge, and folders of compressed ones.

A folder that `save_compressed` writes holds config and tokenizer as transformers write them, and see_min.pt: the state, and which
modules are compressed. No code is stored.
"""

import copy
from pathlib import Path

import numpy as np
import torch
from torch import nn

from see_min.bridge.checkpoint import READ_ERRORS, encoding_of
from see_min.bridge.encoder import BATCH, model_folder
from see_min.bridge.finetune import Task
from see_min.bridge.layers import SememeEmbedding
from see_min.bridge.swap import find_embedding, swap_embedding
from see_min.checks import DataError, check_at_least
from see_min.files import atomic_path, write_atomic
from see_min.similarity import cosines, rank_correlation

FORMAT, FILE = "see_min transformer 1", "see_min.pt"
CLASSES = {"lm": "AutoModelForCausalLM", "mlm": "AutoModelForMaskedLM", "encoder": "AutoModel"}
INSTALL = "transformers: expected the package to be installed, got none: pip install transformers"


def check_task(task):
    """Return the task if a folder's model can be finetuned for it.

    Raises
    ------
    DataError
    """
    if task not in CLASSES:
        raise DataError(f"task: expected one of {', '.join(CLASSES)} for a model in a folder, got {task!r}")
    return task


class Pretrained(nn.Module):
    """A model and its tokenizer, with `hidden_states(ids)`, `logits(state)` and `forward(ids)` as the models of the bridge have.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    tokenizer : transformers.PreTrainedTokenizerBase
    task : str
        "lm", "mlm" or "encoder".
    context : int
        Positions of a window or a sentence, at most.

    Raises
    ------
    DataError
        If the context is longer than the model's, the tokenizer has no token that the task needs, or the head is not a function
        of the last state alone.
    """

    def __init__(self, model, tokenizer, task, context=64):
        super().__init__()
        self.model, self.tokenizer, self.kind, self.context = model, tokenizer, check_task(task), context
        self.embedding = next(name for name, module in model.named_modules() if module is model.get_input_embeddings())
        if len(tokenizer) > self.rows:
            raise DataError(f"tokenizer: expected at most {self.rows} tokens, one a row of the embedding, got {len(tokenizer)}")
        check_at_least("context", context, 1)
        longest = getattr(model.config, "max_position_embeddings", None)
        if longest and context > longest:
            raise DataError(f"context: expected at most {longest}, the positions of the model, got {context}")
        needed = {"mlm": "mask_token_id", "encoder": "pad_token_id"}.get(task)
        if needed and getattr(tokenizer, needed) is None:
            raise DataError(f"tokenizer: expected a {needed.removesuffix('_id')} for {task}, got none")
        self._find_head()

    def _find_head(self):
        """The module that makes logits of the last state; a probe shows that nothing comes after it."""
        self.head_name = None
        if self.kind == "encoder":
            return
        self.head_name = next((name for name in ("cls", "lm_head", "embed_out") if hasattr(self.model, name)), None)
        if self.head_name is not None:
            ids = torch.arange(min(7, self.rows), device=self.device)[None]  # (1, 7)
            with torch.no_grad():
                whole, ours = self.model(input_ids=ids).logits, self(ids)
            if whole.shape == ours.shape and torch.allclose(whole, ours, rtol=1e-2, atol=1e-3):
                return
        raise DataError(f"model: expected logits that are a head's of the last state, got {type(self.model).__name__}")

    @property
    def rows(self):
        """V."""
        return self.model.get_input_embeddings().num_embeddings

    @property
    def device(self):
        return next(self.model.parameters()).device

    @property
    def pad(self):
        """The id that fills sentences up; windows of lm and mlm are never filled up."""
        return self.tokenizer.pad_token_id if self.kind == "encoder" else None

    @property
    def task(self):
        """What the stages have to know."""
        return Task((f"model.{self.embedding}",), self.pad)

    @property
    def names(self):
        """The V tokens in the order of the rows; rows that no token has are called special tokens, [ROW7]."""
        named = {number: token for token, number in self.tokenizer.get_vocab().items()}
        return [named.get(row, f"[ROW{row}]") for row in range(self.rows)]

    def hidden_states(self, ids):
        mask = torch.ones_like(ids) if self.pad is None else (ids != self.pad).long()  # (b, t)
        out = self.model.base_model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return list(out.hidden_states)

    def logits(self, state):
        return getattr(self.model, self.head_name)(state)

    def forward(self, ids):
        return self.logits(self.hidden_states(ids)[-1])

    def student(self):
        """A copy whose embedding can be compressed."""
        twin = copy.copy(self)
        twin._modules = {**self._modules, "model": copy.deepcopy(self.model)}
        return twin

    def encode(self, lines, special=False):
        """Ids of each line."""
        ids = []
        for start in range(0, len(lines), BATCH):
            ids += self.tokenizer(lines[start : start + BATCH], add_special_tokens=special, truncation=special,
                                  max_length=self.context if special else None, verbose=False)["input_ids"]
        return ids

    @torch.no_grad()
    def vectors(self, sentences):
        """Mean of the last hidden states over the tokens of each sentence, (N, H); in batches of similar length."""
        ids = self.encode(sentences, special=True)
        order, out = sorted(range(len(ids)), key=lambda i: len(ids[i])), [None] * len(ids)
        for start in range(0, len(ids), BATCH):
            batch = order[start : start + BATCH]
            rows = nn.utils.rnn.pad_sequence([torch.tensor(ids[i]) for i in batch], True, self.pad).to(self.device)  # (b, t)
            real = (rows != self.pad)[..., None]  # (b, t, 1)
            means = (self.hidden_states(rows)[-1] * real).sum(1) / real.sum(1)  # (b, H)
            for i, mean in zip(batch, means.float().cpu()):
                out[i] = mean
        return torch.stack(out)

    def sts(self, pairs):
        """Spearman's correlation of cosines with scores of (sentence, sentence, score)."""
        one, other = (self.vectors([pair[side] for pair in pairs]) for side in (0, 1))  # (N, H)
        return rank_correlation(cosines(one.numpy(), other.numpy()), np.array([score for _, _, score in pairs]))


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
        else:
            model, report = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True)
            missing = [key for key in report["missing_keys"] if "pooler" not in key and "position_ids" not in key]
            if missing:
                raise ValueError(f"no weights for {', '.join(sorted(missing)):.120}: is it trained for {task}?")
    except Exception as error:  # of json, safetensors, tokenizers: no list of them would be complete
        text = " ".join(str(error).split())
        raise DataError(f"{folder}: expected a model and a tokenizer that transformers reads, got {text:.200}") from error
    return Pretrained(model.eval().to(device), tokenizer, task, context)


def save_compressed(pretrained, folder):
    """Write a compressed model: config and tokenizer, then see_min.pt, each whole or not at all.

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    folder = Path(folder)
    names = [name for name, module in pretrained.model.named_modules() if isinstance(module, SememeEmbedding)]
    names = [name for name in names if not name.endswith(".embedding")]  # a head holds its embedding, too
    write_atomic(folder / "config.json", pretrained.model.config.to_json_string(use_diff=False))
    pretrained.tokenizer.save_pretrained(folder)
    stored = {"format": FORMAT, "names": names, "state": pretrained.model.state_dict(), "dtype": str(pretrained.model.dtype)}
    with atomic_path(folder / FILE) as temporary:
        torch.save(stored, temporary)


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
