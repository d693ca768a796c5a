"""The thin torch bridge: the core decides every shape, the bridge makes parameters of it and trains them."""

from see_min.bridge.checkpoint import load_checkpoint, save_checkpoint
from see_min.bridge.finetune import perplexity, pretrain, stage1, stage2
from see_min.bridge.layers import SememeEmbedding, TiedHead
from see_min.bridge.models import GPTConfig, TinyGPT
from see_min.bridge.swap import swap_embedding

__all__ = ["GPTConfig", "SememeEmbedding", "TiedHead", "TinyGPT", "load_checkpoint", "perplexity", "pretrain",
           "save_checkpoint", "stage1", "stage2", "swap_embedding"]
