"""see_min: sememe entanglement encoding. Importing it loads numpy and scipy, nothing heavier.

    import see_min as see
    encoding = see.encode(E0, words, ratio=20, counts=counts)

Read in this order: pico (the method on one page), entangle (leaves -> rows), tensor_train (the
same as a train), units (words -> units), encoding (tables + index), recipe (`encode`). Then
storage/ (what it costs), fitting/ (how leaves are found), bridge/ (encodings in torch models).
"""

__version__ = "0.1.0"

from see_min.encoding import SememeEncoding
from see_min.entangle import entangled_rows, entanglement_entropy, kron_rows, schmidt_spectrum
from see_min.errors import InputError
from see_min.fitting.least_squares import fit, relative_error
from see_min.recipe import encode
from see_min.storage.budget import Plan, plan_paper, plan_see
from see_min.tensor_train import tt_svd, tt_to_tensor
from see_min.units import Annotation, Unit, Units, annotate, assign, random_units, shuffled
from see_min.words.formats import load_lexicon
from see_min.words.lexicon import Lexicon
from see_min.words.morphemes import segment
from see_min.words.new_words import new_rows, with_words
from see_min.words.vocabulary import Vocabulary, build_vocabulary
