"""Which methods there are, and the one switch from a method's name to its result.

An embedding method is `fit(matrix, ratio, ...)` -> an object with rows(ids), parameters,
index_bytes and shape. It keeps at most 1/ratio of the parameters where its file does not say
otherwise, and takes what `Method.needs` names; `plan(V, D, ratio)` beside it says what it keeps.
All raise an InputError for a matrix that is not (V, D) or not finite, and for a ratio out of reach.

A layer method is `compress(W, calibration, ratio)` -> a CompressedLayer, with W (out, in), y = x
W^T, and calibration X (N, in). Modules that are compressed together say their own signature.
"""

from dataclasses import dataclass
from importlib import import_module

from see_min.errors import InputError, require
from see_min.fitting import frequency_weights
from see_min.recipe import CONTROLS, FIT_POWER, PROJECTION_POWER, encode, plan_of

FAMILIES = ("pruning", "quantization", "distillation", "efficient architecture")  # arXiv 2402.05964


@dataclass(frozen=True)
class Method:
    """What a reader wants to know of a method before opening its file, which says what is ours.

    kind: "embedding", "layer", "module" (layers that belong together) or "loss".
    family: our choice; factorised forms have no family of their own there.
    source: arXiv id, or author and year.
    code: "file.function" in this folder, or in layers/ for all kinds but "embedding".
    needs: arguments beyond matrix and ratio (seed, weights); "torch" where it trains.
    encoding: whether the result is a SememeEncoding, which can stand in a model.
    """

    name: str
    kind: str
    family: str
    source: str
    code: str
    needs: tuple = ()
    encoding: bool = False

    @property
    def module(self):
        """The file, imported at this moment."""
        folder = "related" if self.kind == "embedding" else "related.layers"
        return import_module(f"see_min.{folder}.{self.code.split('.')[0]}")

    @property
    def run(self):
        """The function itself."""
        return getattr(self.module, self.code.split(".")[1])


PRUNE, QUANTIZE, DISTIL, FORM = FAMILIES
EMBEDDINGS = (
    Method("svd", "embedding", FORM, "Eckart, Young 1936", "svd.fit", (), True),
    Method("weighted-svd", "embedding", FORM, "Eckart, Young 1936", "svd.fit", ("weights",), True),
    Method("pq", "embedding", QUANTIZE, "Jegou et al. 2011", "pq.fit", ("weights", "seed")),
    Method("word2ket", "embedding", FORM, "1911.04975", "word2ket.fit", ("seed",), True),
    Method("word2ketxs", "embedding", FORM, "1911.04975", "word2ketxs.fit"),
    Method("tt", "embedding", FORM, "1901.10787", "tt_embedding.fit"),
    Method("direction", "embedding", FORM, "2106.08181", "direction.fit", (), True),
    Method("direction-ae", "embedding", FORM, "2106.08181", "direction_ae.fit", ("seed", "torch")),
    Method("offline", "embedding", FORM, "2302.04045", "offline.fit", ("seed", "torch")),
)
LAYERS = (
    Method("rom", "layer", FORM, "2312.07046", "rom.compress"),
    Method("quantization", "layer", QUANTIZE, "2402.05964", "quantization.compress"),
    Method("magnitude", "layer", PRUNE, "2310.04573", "magnitude.compress"),
    Method("numerical", "layer", PRUNE, "2412.12441", "numerical_pruning.compress"),
    Method("micro-unify", "layer", QUANTIZE, "2106.08301", "micro_structured.unify"),
    Method("micro-prune", "layer", PRUNE, "2106.08301", "micro_structured.prune"),
    Method("csformer", "layer", FORM, "2112.15299", "csformer.compress"),
    Method("modegpt", "module", FORM, "2408.09632", "modegpt.mlp"),
    Method("mpo", "module", FORM, "2303.16753", "mpo.compress"),
    Method("acip", "module", PRUNE, "2502.01717", "acip.compress", ("torch",)),
    Method("csformer-net", "module", FORM, "2112.15299", "csformer_net.train", ("torch",)),
    Method("distillation", "loss", DISTIL, "1503.02531", "distillation.distil"),
)
RELATED = {method.name: method for method in EMBEDDINGS}
FAMILY = {method.name: method.family for method in (*EMBEDDINGS, *LAYERS)}
# What `see_min.recipe` is told. "morphemes" is MorphTE's form (arXiv 2210.15379): a table per slot,
# hash buckets instead of one pad, fitted instead of trained.
ENCODE = {
    "see": {},
    "see-shared": {"per_term": False},
    **{control: {"control": control} for control in CONTROLS},
    "paper": {"form": "paper"},
    "morphemes": {"form": "morphemes"},
}
KNOWN = (*ENCODE, *RELATED)
METHODS = ("see", "no_knowledge", "shuffled", "random_units", "svd", "weighted-svd", "pq")
ENCODINGS = (*ENCODE, *(method.name for method in EMBEDDINGS if method.encoding))
# No random numbers; in pq, whose start matters little, one seed is enough.
SEEDLESS = ("pq", *(method.name for method in EMBEDDINGS if "seed" not in method.needs))


def check_methods(names):
    """The methods, each once, if all are known; "all" stands for every method.

    Examples
    --------
    >>> check_methods(["see", "pq", "see"])
    ('see', 'pq')
    >>> check_methods(["lsa"])
    Traceback (most recent call last):
    ...
    see_min.errors.InputError: method: expected one of see, see-shared, ..., got 'lsa'
    """
    for name in names:
        if name not in (*KNOWN, "all"):
            raise InputError(f"method: expected one of {', '.join(KNOWN)}, all, got {name!r}")
    found = (one for name in names for one in (KNOWN if name == "all" else [name]))
    return tuple(dict.fromkeys(found))


def approximate(matrix, vocabulary, method, ratio, seed=0, **options):
    """A matrix by one method at one ratio.

    Parameters
    ----------
    matrix : array (V, D)
        Rows in any order; it may be a memory map.
    vocabulary : Vocabulary
        Of the same rows.
    method : str, of KNOWN
    ratio : float
    seed : int
    **options
        sweeps, order, per_term, progress: those of `see_min.recipe.encode`, for its forms alone.
    """
    check_methods([method])
    if method in ENCODE:
        options = options | ENCODE[method]
        return encode(matrix, vocabulary, ratio, seed=seed, **options)
    one = RELATED[method]
    power = PROJECTION_POWER if method == "weighted-svd" else FIT_POWER
    offered = {"weights": frequency_weights(vocabulary.counts, power), "seed": seed}
    return one.run(matrix, ratio, **{name: offered[name] for name in one.needs if name in offered})


def plan_method(shape, vocabulary, method, ratio, order=None, per_term=True, **_):
    """The plan of a method for a matrix (V, D): it refuses a ratio out of reach before any work."""
    check_methods([method])
    if method in ENCODE:
        options = {"order": order, "per_term": per_term} | ENCODE[method]
        return plan_of(shape, vocabulary, ratio, **options)
    if "torch" in RELATED[method].needs:
        need_torch()
    return RELATED[method].module.plan(*shape, ratio)


def need_torch():
    """PyTorch, imported at this moment."""
    return require("torch", "pip install -r requirements.txt")


def bits(kept):
    """32 per parameter, and those of indices, codes, signs and bitmaps.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> bits(SimpleNamespace(parameters=3, index_bytes=2))
    112
    """
    return 32 * kept.parameters + 8 * kept.index_bytes
