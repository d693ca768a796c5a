"""What a user names: a matrix with the tokens of its rows, from a file, a folder or a checkpoint.

Rows stay in their order, and a matrix may stay in its file as a memory map.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from see_min.encoding import row_blocks
from see_min.errors import InputError, require
from see_min.experiments.similarity import read_pairs
from see_min.storage.files import read_lines
from see_min.words.tokens import read_vocabulary
from see_min.words.vocabulary import build_vocabulary, count_words, read_counts

BLOCK = 4096  # rows per step of the search for NaN and infinity
METRIC_SENTENCES, FEWEST_WORDS = 400, 6  # for the metric of an encoder


@dataclass(frozen=True)
class Source:
    """A matrix (V, D), the V tokens of its rows, and the Hugging Face model that it is of, if any.
    """

    name: str
    words: list
    matrix: np.ndarray  # E0 (V, D)
    model: object = None
    tokenizer: object = None

    def vocabulary(self, lexicon, text=None):
        """The Vocabulary of the rows; `text` is a text to count in, or lines token TAB count.

        Counts of a text are few beside a tokenizer's vocabulary: they are drawn to Zipf's law.
        """
        if text is None:
            return build_vocabulary(self.words, lexicon)
        if str(text).endswith(".tsv"):
            return build_vocabulary(self.words, lexicon, read_counts(text, self.words))
        if self.tokenizer is None:
            return build_vocabulary(self.words, lexicon, count_words(text, self.words))
        return build_vocabulary(self.words, lexicon, self.count_tokens(text), smooth=True)

    def count_tokens(self, text):
        """Counts (V,) of the tokenizer's tokens, each line a sequence with its special tokens."""
        from see_min.experiments.hf_models import count_ids, encode_lines

        lines = [line for line in read_lines(text) if line.strip()]
        return count_ids(encode_lines(self.tokenizer, lines, special=True), len(self.words))

    def metric(self, text):
        """What the model sees of the rows in sentences of a text; None without model or text."""
        if self.model is None or text is None or str(text).endswith(".tsv"):
            return None
        from see_min.experiments.hf_models import Pretrained, sentences_of

        model, tokenizer = self.model, self.tokenizer
        found = [one for one in sentences_of(read_lines(text)) if len(one.split()) >= FEWEST_WORDS]
        if not found:
            return None
        chosen = np.random.default_rng(0).permutation(len(found))[:METRIC_SENTENCES]
        return Pretrained(model, tokenizer, "encoder").sentence_metric([found[i] for i in chosen])

    def sts(self, pairs, matrix):
        """The STS of the model with `matrix` (V, D) as its embedding, which stays there."""
        torch = require("torch")
        from see_min.experiments.hf_models import Pretrained
        from see_min.experiments.measure import sts

        weight = self.model.get_input_embeddings().weight
        rows = torch.as_tensor(matrix, dtype=weight.dtype, device=weight.device)
        self.model.set_input_embeddings(torch.nn.Embedding.from_pretrained(rows))
        return sts(Pretrained(self.model, self.tokenizer, "encoder").vectors, pairs)


def find_source(matrix=None, vocabulary=None, model=None):
    """The Source a user named: exactly one of a matrix file (with a vocabulary) and a model folder.

    Raises InputError if both or neither are given, a file cannot be read, or there is not one token
    per row.
    """
    if (matrix is None) == (model is None):
        got = "neither" if matrix is None else "both"
        raise InputError(f"matrix: expected either --matrix FILE or --model FOLDER, got {got}")
    if model is not None and vocabulary is not None:
        raise InputError("vocabulary: expected --matrix with it, got a model")
    if model is not None or str(matrix).endswith(".pt"):
        layer, words, *its = open_model(model or matrix)
        return Source(str(model or matrix), words, dense_rows(layer), *its)
    E0 = load_matrix(matrix)
    words = read_vocabulary(Path(matrix).parent if vocabulary is None else vocabulary)
    if len(words) != len(E0):
        rule = f"{len(E0)} tokens, one per row of {matrix}"
        raise InputError(f"vocabulary: expected {rule}, got {len(words)}")
    return Source(str(matrix), list(words), E0)


def open_model(path):
    """(embedding, words, model, tokenizer) of a toy checkpoint or of a Hugging Face model in a
    folder, plain or compressed. Of a toy translator it is the target's; model and tokenizer of a
    toy model are None.
    """
    require("torch")
    if str(path).endswith(".pt"):
        from see_min.experiments.checkpoint import load_checkpoint

        model, words = load_checkpoint(path)
        *_, name = model.embeddings
        words = words if len(model.embeddings) == 1 else words[-1]
        return model.get_submodule(name), list(words), None, None
    from see_min.experiments.hf_models import load_model, read_record, token_names

    model, tokenizer = load_model(path, read_record(path).get("task", "encoder"))
    layer = model.get_input_embeddings()
    return layer, token_names(tokenizer.get_vocab(), layer.num_embeddings), model, tokenizer


def dense_rows(layer):
    """The rows (V, D) of an embedding of torch."""
    return layer.weight.detach().double().cpu().numpy()


def named_matrix(path):
    """The matrix (V, D) of a matrix file, a toy checkpoint or a model in a folder."""
    if Path(path).suffix in READERS:
        return load_matrix(path)
    return dense_rows(open_model(path)[0])


def load_matrix(path):
    """The embedding matrix (V, D), float64 or float32, in an .npy or .safetensors file.

    In safetensors it is the largest one with "embed" in its name; an .npy file is a memory map.

    Raises InputError if the file cannot be read, or holds no matrix of finite floats.
    """
    path = Path(path)
    if path.suffix not in READERS:
        got = path.suffix or "no ending"
        raise InputError(f"{path}: expected one of {', '.join(READERS)}, got {got}")
    try:
        array = READERS[path.suffix](path)
    except InputError:
        raise
    except Exception as error:  # of numpy, zipfile, safetensors: no list would be complete
        text = getattr(error, "strerror", None) or f"{type(error).__name__}: {error!s:.200}"
        raise InputError(f"{path}: expected a whole file of arrays, got {text}") from None
    return _checked(array, path)


def _from_safetensors(path):
    """Only shapes are read but for the matrix itself; numpy has no bfloat16, torch does."""
    open_file = require("safetensors").safe_open
    with open_file(path, framework="numpy") as file:
        parts = {name: file.get_slice(name) for name in file.keys() if "embed" in name.lower()}
        shapes = {name: part.get_shape() for name, part in parts.items()}
        sizes = {name: np.prod(shape) for name, shape in shapes.items() if len(shape) == 2}
        if not sizes:
            raise InputError(f"{path}: expected a matrix with 'embed' in its name, got none")
        name = max(sizes, key=sizes.get)
        if parts[name].get_dtype() != "BF16":
            return file.get_tensor(name)
    require("torch")
    with open_file(path, framework="pt") as file:
        return file.get_tensor(name).float().numpy()


READERS = {".npy": partial(np.load, mmap_mode="r"), ".safetensors": _from_safetensors}


def _checked(array, path):
    """(V, D) in float32 or float64, finite; copied only where its type is another."""
    if array.dtype.kind != "f" or array.itemsize > 8:
        raise InputError(f"{path}: expected floats of at most 64 bits, got {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"{path}: expected rows and columns, got shape {array.shape}")
    dtype = np.dtype(np.float64 if array.itemsize == 8 else np.float32)  # native byte order
    array = array if array.dtype == dtype else np.array(array, dtype=dtype)  # (V, D)
    for rows in row_blocks(len(array), BLOCK):
        finite = np.isfinite(array[rows]).all(1)  # (W,)
        if not finite.all():
            row = rows.start + finite.argmin()
            raise InputError(f"{path}: expected finite numbers, got NaN or infinity in row {row}")
    return array


def named_benchmarks(paths):
    """{name of the file without its ending: pairs}; InputError if two have one name."""
    benchmarks = {}
    for path in map(Path, paths):
        name = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
        if name in benchmarks:
            raise InputError(f"similarity: expected files of different names, got {name} twice")
        benchmarks[name] = read_pairs(path)
    return benchmarks


def coverage_line(lexicon, vocabulary):
    """Which share of the whole words of a vocabulary the lexicon knows, by types and by tokens."""
    rows = [row for row, token in enumerate(vocabulary.tokens) if token.word.isalpha()]
    if not rows:
        return "the vocabulary has no whole words"
    words = [vocabulary.tokens[row].word for row in rows]
    types, tokens = lexicon.coverage(words, vocabulary.counts[rows])
    return (f"the lexicon covers {types:.0%} of the {len(rows):,} tokens that can be whole words, "
            f"{tokens:.0%} of their occurrences")
