"""Which methods there are, and the one switch from a method's name to its result.

An embedding method is `fit(matrix, ratio, ...)` -> an object with rows(ids), parameters,
index_bytes and shape. It keeps at most 1/ratio of the parameters, or of the bytes where it has
`bytes`, and takes what `Method.needs` names; `plan(V, D, ratio)` beside it says what it keeps.
All raise an InputError for a matrix that is not (V, D) or not finite, and for a ratio out of reach.

A layer method is `compress(W, calibration, ratio)` -> a CompressedLayer, with W (out, in), y = x
W^T, and calibration X (N, in). Modules that are compressed together say their own signature.
"""

from dataclasses import dataclass
from importlib import import_module

from see_min.errors import InputError, require
from see_min.fitting.least_squares import frequency_weights
from see_min.recipe import FIT_POWER, MIX, PROJECTION_POWER, encode, plan_of

FAMILIES = ("pruning", "quantization", "distillation", "efficient architecture")  # arXiv 2402.05964


@dataclass(frozen=True)
class Method:
    """What a reader wants to know of a method before opening its file, which says what is ours.

    kind: "embedding", "layer", "module" (layers that belong together) or "loss".
    family: our choice; factorised forms have no family of their own there.
    source: arXiv id, or author and year.
    code: "file.function" in this folder, or in layers/ for all kinds but "embedding".
    needs: arguments beyond matrix and ratio (seed, weights, counts, metric and its mix, method, as
    several may share a file); "torch" where it trains, "faiss" where that searches codes.
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


def _quantizer(name, source, *more, encoding=True):
    needs = ("method", "weights", "counts", "metric", "mix", *more)
    return Method(name, "embedding", QUANTIZE, source, "quantizers.fit", needs, encoding)


PRUNE, QUANTIZE, DISTIL, FORM = FAMILIES
EMBEDDINGS = (
    Method("svd", "embedding", FORM, "Eckart, Young 1936", "svd.fit", (), True),
    Method("weighted-svd", "embedding", FORM, "Eckart, Young 1936", "svd.fit", ("weights",), True),
    _quantizer("pq", "Jegou et al. 2011", "seed"),
    _quantizer("opq", "Ge et al. 2013", "seed"),
    _quantizer("rq", "Chen et al. 2010", "seed", "faiss"),
    _quantizer("lsq", "Martinez et al. 2018", "seed", "faiss"),
    _quantizer("prq", "Babenko, Lempitsky 2015", "seed", "faiss"),
    _quantizer("svd-int8", "Eckart, Young 1936"),
    _quantizer("svd-int4", "Eckart, Young 1936"),
    _quantizer("int8", "2402.05964", encoding=False),
    _quantizer("int4", "2402.05964", encoding=False),
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
# What `see_min.recipe` is told. By bytes `see` has no knowledge unless its index can be derived, so
# controls of knowledge derive it too. "morphemes" is MorphTE's form (arXiv 2210.15379): a table per
# slot, hash buckets instead of one pad, fitted instead of trained.
ENCODE = {
    "see": {},
    "see-derived": {"derived": True},
    "shuffled": {"control": "shuffled", "derived": True},
    "random_units": {"control": "random_units", "derived": True},
    "no_knowledge": {"control": "no_knowledge", "derived": True},
    "fixed": {"control": "fixed"},
    "see-parameters": {"count": "parameters"},
    "see-shared": {"count": "parameters", "per_term": False},
    "paper": {"form": "paper"},
    "morphemes": {"form": "morphemes"},
}
KNOWN = (*ENCODE, *RELATED)
METHODS = ("see", "see-derived", "shuffled", "weighted-svd", "opq", "rq", "prq", "svd-int8")
ENCODINGS = (*ENCODE, *(method.name for method in EMBEDDINGS if method.encoding))
SEEDLESS = tuple(method.name for method in EMBEDDINGS if "seed" not in method.needs)


def check_methods(names):
    """The methods, each once, if all are known; "all" stands for every method.

    >>> check_methods(["see", "pq", "see"])
    ('see', 'pq')
    >>> check_methods(["lsa"])
    Traceback (most recent call last):
    ...
    see_min.errors.InputError: method: expected one of see, see-derived, ..., got 'lsa'
    """
    for name in names:
        if name not in (*KNOWN, "all"):
            raise InputError(f"method: expected one of {', '.join(KNOWN)}, all, got {name!r}")
    found = (one for name in names for one in (KNOWN if name == "all" else [name]))
    return tuple(dict.fromkeys(found))


def approximate(matrix, vocabulary, method, ratio, seed=0, metric=None, mix=MIX, **options):
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
    metric, mix
        Those of `see_min.recipe.encode`, for its form "see" and the methods that need them.
    **options
        sweeps, order, per_term, progress: those of `encode`, for its forms alone.
    """
    check_methods([method])
    if method in ENCODE:
        if "form" in ENCODE[method]:
            metric = None  # a sum of products alone has no projection to bring its rows back
        options = options | {"seed": seed, "metric": metric, "mix": mix} | ENCODE[method]
        return encode(matrix, vocabulary, ratio, **options)
    one, counts = RELATED[method], vocabulary.counts
    power = PROJECTION_POWER if method == "weighted-svd" else FIT_POWER
    offered = {"weights": frequency_weights(counts, power), "seed": seed, "method": method}
    offered |= {"counts": counts, "metric": metric, "mix": mix}
    return one.run(matrix, ratio, **{name: offered[name] for name in one.needs if name in offered})


def plan_method(shape, vocabulary, method, ratio, order=None, per_term=True, count="bytes", **_):
    """The plan of a method for a matrix (V, D): it refuses a ratio out of reach before any work."""
    check_methods([method])
    if method in ENCODE:
        options = {"order": order, "per_term": per_term, "count": count} | ENCODE[method]
        return plan_of(shape, vocabulary, ratio, **options)
    one = RELATED[method]
    for package, install in (("torch", None), ("faiss", "pip install faiss-cpu")):
        if package in one.needs:
            require(package, install)
    return one.module.plan(*shape, ratio, **({"method": method} if "method" in one.needs else {}))


def bits(kept):
    """Those of its bytes; else 32 per parameter, and those of indices, codes, signs and bitmaps.

    >>> from types import SimpleNamespace
    >>> bits(SimpleNamespace(parameters=3, index_bytes=2)), bits(SimpleNamespace(bytes=2))
    (112, 16)
    """
    if hasattr(kept, "bytes"):
        return 8 * kept.bytes
    return 32 * kept.parameters + 8 * kept.index_bytes
