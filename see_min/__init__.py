"""see_min: sememe entanglement encoding, small and explicit. Importing this package imports numpy and scipy, nothing heavier.

Read in this order: entangle (leaves -> rows), tensor_train (the same as a train), encoding (leaf tables + index),
units (words -> index), fit (alternating least squares), budget (what it costs). The torch side is `see_min.bridge`.
The fit itself is `see_min.fit.fit`: it keeps its module's name, so it is not repeated here.
"""

from see_min.budget import Plan, leaf_sizes, low_rank, plan_general, plan_product
from see_min.checks import DataError, ShapeError
from see_min.controls import hashed, shuffled
from see_min.encoding import SememeEncoding
from see_min.entangle import entangled_rows, entanglement_entropy, inner_products, kron_rows, schmidt_spectrum
from see_min.fit import carrier, frequency_weights, low_rank_encoding, random_encoding, relative_error
from see_min.lexicon import Lexicon, Sense
from see_min.lexicon_files import load_lexicon, read_lexicon, sample_lexicon
from see_min.morphemes import segment
from see_min.tensor_train import core_rows, cp_as_tt, tt_dense, tt_round, tt_svd, unit_cores
from see_min.units import POLICIES, Annotation, Units, annotate, assign, shared_units

__all__ = [
    "POLICIES", "Annotation", "DataError", "Lexicon", "Plan", "SememeEncoding", "Sense", "ShapeError", "Units", "annotate",
    "assign",
    "carrier", "core_rows", "cp_as_tt", "entangled_rows", "entanglement_entropy", "frequency_weights", "hashed",
    "inner_products", "kron_rows", "leaf_sizes", "load_lexicon", "low_rank", "low_rank_encoding", "plan_general",
    "plan_product", "random_encoding", "read_lexicon", "relative_error", "sample_lexicon", "schmidt_spectrum", "segment",
    "shared_units", "shuffled", "tt_dense", "tt_round", "tt_svd", "unit_cores",
]
