"""A SememeEmbedding as few bytes: the arrays of `storage.encodings.pack` as tensors, and back.

What is no array (shapes, bits, scale) stands beside them and is JSON. Words are left out: who keeps
a model keeps them, too. A derived bag is stored, as a model is loaded without a lexicon.
"""

import zlib
from dataclasses import replace

import numpy as np
import torch

from see_min.bridge.layers import SememeEmbedding
from see_min.storage.encodings import pack, unpack


def pack_layer(layer):
    """(tensors by name, the rest as JSON) of a SememeEmbedding; its words are the tokenizer's."""
    encoding = replace(layer.to_encoding(), words=None, bag_derived=False)
    tensors, entry = {"weight": torch.zeros(1, dtype=torch.uint8)}, {"scale": layer.scale}
    entry["padding"] = 1.0 if layer.padding is None else float(layer.padding)
    entry["derived"] = layer.notes["bag_derived"]
    for name, array in pack(encoding).items():
        if array.ndim == 0 or array.size == 0 or name == "slots" or name.endswith(".shape"):
            entry[name] = array.tolist()
            continue
        if ".names" in name:
            array = np.frombuffer(zlib.compress(array.tobytes(), 9), dtype=np.uint8)
        tensor = torch.from_numpy(array.copy())
        exact = tensor.is_floating_point() and not name.endswith(".step")
        tensors[name.replace(".", "-")] = tensor.to(layer.table_0.dtype) if exact else tensor
    return tensors, entry


def unpack_layer(tensors, entry, dtype=torch.float32, padding_idx=None):
    """The SememeEmbedding of `pack_layer`."""
    arrays = {name: np.zeros(0, dtype=np.uint8) if value == [] else value
              for name, value in entry.items()}
    for name, tensor in tensors.items():
        tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        array, name = tensor.cpu().numpy(), name.replace("-", ".")
        if ".names" in name:
            array = np.frombuffer(zlib.decompress(array.tobytes()), dtype=np.uint8)
        arrays[name] = array
    encoding = replace(unpack(arrays), bag_derived=entry["derived"])
    return SememeEmbedding(encoding, dtype, padding_idx, entry["padding"], entry["scale"])
