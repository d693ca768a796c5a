"""The thin torch bridge: the core decides every shape, the bridge makes parameters of it and trains them."""

from see_min.bridge.checkpoint import load_checkpoint, save_checkpoint
from see_min.bridge.compress import Compressed, compress
from see_min.bridge.finetune import Task, perplexity, pretrain, stage1, stage2
from see_min.bridge.layers import SememeEmbedding, TiedHead, kept_rows
from see_min.bridge.models import BERTConfig, GPTConfig, TinyBERT, TinyGPT
from see_min.bridge.swap import find_embeddings, swap_embedding, to_dense
from see_min.bridge.training import Loop, join_processes
from see_min.bridge.translator import TinyTranslator, TranslatorConfig

__all__ = ["BERTConfig", "Compressed", "GPTConfig", "Loop", "SememeEmbedding", "Task", "TiedHead", "TinyBERT", "TinyGPT",
           "TinyTranslator", "TranslatorConfig", "compress", "find_embeddings", "join_processes", "kept_rows", "load_checkpoint",
           "perplexity", "pretrain", "save_checkpoint", "stage1", "stage2", "swap_embedding", "to_dense"]
