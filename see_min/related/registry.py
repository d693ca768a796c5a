"""The related methods as data: one table, two interfaces.

An embedding method is `fit(matrix, ratio, ...)` -> an object with rows(ids), floats, index_bytes and shape. It keeps at most
1/ratio of the floats where its file does not say otherwise, and takes further arguments by name: those of `Method.takes`.

A layer method is `compress(W, calibration, ratio, ...)`, W (out, in) with y = x W^T, calibration X (N, in) -> an object with
dense() (out, in), floats, and index_bytes or index_bits. Modules that are compressed together say their own signature.
"""

from dataclasses import dataclass
from importlib import import_module

from see_min.checks import DataError

FAMILIES = ("pruning", "quantization", "distillation", "efficient architecture")  # of the survey, arXiv 2402.05964
KINDS = ("embedding", "layer", "module", "loss")


@dataclass(frozen=True)
class Method:
    """What a reader wants to know of a method before opening its file.

    Attributes
    ----------
    name : str
        What `compare --methods` calls it.
    kind : str, of KINDS
    family : str, of FAMILIES
        Which of the survey's four families it is filed under is ours: factorised forms have none of their own there.
    source : str
        arXiv id, or author and year.
    ours : str
        What differs from the source.
    code : str
        "file.function" in this folder.
    takes : tuple of str
        Arguments beyond matrix and ratio that the function has a use for: seed, weights, names, annotations, sweeps.
    encoding : bool
        Whether the result is a SememeEncoding, which can stand in a model (`compress`).
    torch : bool
        Whether it trains in PyTorch.
    """

    name: str
    kind: str
    family: str
    source: str
    ours: str
    code: str
    takes: tuple = ()
    encoding: bool = False
    torch: bool = False

    @property
    def run(self):
        """The function itself, imported at this moment."""
        file, name = self.code.split(".")
        return getattr(import_module(f"see_min.related.{file}"), name)

    @property
    def plan(self):
        """What an embedding method keeps, `plan(V, D, ratio)`; it raises a DataError where the ratio is out of reach."""
        if self.torch:
            need_torch()
        return import_module(f"see_min.related.{self.code.split('.')[0]}").plan


def need_torch():
    """PyTorch, imported at this moment.

    Raises
    ------
    DataError
        If it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise DataError(f"torch: expected the package to be installed, got {error}: pip install -r requirements.txt") from None
    return torch


EMBEDDINGS = (
    Method("svd", "embedding", "efficient architecture", "Eckart and Young 1936", "-", "svd.fit", encoding=True),
    Method("weighted-svd", "embedding", "efficient architecture", "Eckart and Young 1936", "weights by frequency", "svd.fit",
           ("weights",), encoding=True),
    Method("pq", "embedding", "quantization", "Jegou et al. 2011", "row weights; bytes, not floats, meet the ratio",
           "product_quantization.fit", ("weights", "seed")),
    Method("word2ket", "embedding", "efficient architecture", "1911.04975", "closed form or ALS; no LayerNorm", "word2ket.fit",
           ("seed",), encoding=True),
    Method("word2ketxs", "embedding", "efficient architecture", "1911.04975", "closed form at order 2", "word2ketxs.fit"),
    Method("tt", "embedding", "efficient architecture", "1901.10787", "TT-SVD in place of training", "tt_embedding.fit"),
    Method("morphte", "embedding", "efficient architecture", "2210.15379", "ALS; a table a slot; back-off in place of a pad",
           "morphte.fit", ("weights", "seed", "names", "annotations", "sweeps"), encoding=True),
    Method("direction", "embedding", "efficient architecture", "2106.08181", "all: a closed form of the same aim",
           "direction.fit", encoding=True),
    Method("direction-ae", "embedding", "efficient architecture", "2106.08181", "no activation; steps of a",
           "direction_ae.fit", ("seed",), torch=True),
    Method("offline", "embedding", "efficient architecture", "2302.04045", "optimizer, step sizes, epochs", "offline.fit",
           ("seed",), torch=True),
)
LAYERS = (
    Method("rom", "layer", "efficient architecture", "2312.07046", "one ratio for all layers; centring", "rom.compress"),
    Method("quantization", "layer", "quantization", "2402.05964", "whole rows, no calibration", "quantization.compress"),
    Method("magnitude", "layer", "pruning", "2310.04573", "one step, one share for all layers", "magnitude.compress"),
    Method("numerical", "layer", "pruning", "2412.12441", "penalty, score of a head", "numerical_pruning.compress"),
    Method("micro-unify", "layer", "quantization", "2106.08301", "blocks, rho, best step", "micro_structured.unify"),
    Method("micro-prune", "layer", "pruning", "2106.08301", "blocks, rho, best step", "micro_structured.prune"),
    Method("csformer", "layer", "efficient architecture", "2112.15299", "a matrix read as an image; closed forms",
           "csformer.compress"),
    Method("modegpt", "module", "efficient architecture", "2408.09632", "one width in a block, temperature", "modegpt.mlp"),
    Method("mpo", "module", "efficient architecture", "2303.16753", "ALS on trained weights; three cores", "mpo.compress"),
    Method("acip", "module", "pruning", "2502.01717", "Adam; no adapters", "acip.compress", torch=True),
    Method("csformer-net", "module", "efficient architecture", "2112.15299", "sizes, training", "csformer_net.train", torch=True),
    Method("distillation", "loss", "distillation", "1503.02531", "scores alone", "distillation.distil"),
)
METHODS = {method.name: method for method in (*EMBEDDINGS, *LAYERS)}


def bits(kept):
    """32 a float, and those of indices, codes, signs and bitmaps.

    Parameters
    ----------
    kept : object with floats, and index_bits or index_bytes

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> bits(SimpleNamespace(floats=3, index_bytes=2)), bits(SimpleNamespace(floats=3, index_bits=5))
    (112, 101)

    Source: ours.
    """
    return 32 * kept.floats + (kept.index_bits if hasattr(kept, "index_bits") else 8 * kept.index_bytes)


def table(methods=METHODS):
    """The methods as a Markdown table, one line each.

    Examples
    --------
    >>> print(table({"pq": METHODS["pq"]}))
    | method | kind | family | source | ours or simplified |
    |---|---|---|---|---|
    | pq | embedding | quantization | Jegou et al. 2011 | row weights; bytes, not floats, meet the ratio |

    Source: ours.
    """
    lines = ["| method | kind | family | source | ours or simplified |", "|---|---|---|---|---|"]
    lines += [f"| {one.name} | {one.kind} | {one.family} | {one.source} | {one.ours} |" for one in methods.values()]
    return "\n".join(lines)
