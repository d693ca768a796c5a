"""The thin torch bridge: the core decides every shape, the bridge makes parameters of it."""

import importlib.util
import sys

from see_min.bridge.finetune import EmbeddingTask, stage1, stage2
from see_min.bridge.grow import add_words, train_rows
from see_min.bridge.layers import SememeEmbedding, TiedHead, cached_rows
from see_min.bridge.metric import measure_metric
from see_min.bridge.model import Compressed, compress, round_parameters
from see_min.bridge.swap import find_embeddings, swap_embedding, to_dense

__all__ = ["Compressed", "EmbeddingTask", "SememeEmbedding", "TiedHead", "add_words", "cached_rows"]
__all__ += ["compress", "find_embeddings", "measure_metric", "round_parameters", "stage1", "stage2"]
__all__ += ["swap_embedding", "to_dense", "train_rows"]


class _Register:
    """Has transformers know our folders as soon as it has models: to import it takes seconds."""

    WATCHED = "transformers.modeling_utils"

    def find_spec(self, name, path=None, target=None):
        if name != self.WATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            importlib.import_module("see_min.bridge.pretrained")

        spec.loader.exec_module = exec_module
        return spec


if _Register.WATCHED in sys.modules:
    importlib.import_module("see_min.bridge.pretrained")
else:
    sys.meta_path.insert(0, _Register())
