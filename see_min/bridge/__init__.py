"""The thin torch bridge: the core decides every shape, the bridge makes parameters of it."""

from see_min.bridge.finetune import EmbeddingTask, stage1, stage2
from see_min.bridge.hf import load_model, save_compressed
from see_min.bridge.layers import SememeEmbedding, TiedHead, cached_rows
from see_min.bridge.metric import measure_metric
from see_min.bridge.model import Compressed, compress, round_parameters
from see_min.bridge.swap import find_embeddings, swap_embedding, to_dense

__all__ = ["Compressed", "EmbeddingTask", "SememeEmbedding", "TiedHead", "cached_rows", "compress"]
__all__ += ["find_embeddings", "load_model", "measure_metric", "round_parameters"]
__all__ += ["save_compressed", "stage1", "stage2"]
__all__ += ["swap_embedding", "to_dense"]
