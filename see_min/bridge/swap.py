"""Replace an embedding and the output heads that share its weight, in any model; and back."""

import sys
from dataclasses import dataclass

import torch
from torch import nn

from see_min.bridge.layers import SememeEmbedding, TiedHead
from see_min.errors import InputError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# what a layer may have that would be lost with it
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
MORE = ("max_norm", "sparse", "scale_grad_by_freq", *HOOKS)


@dataclass(frozen=True)
class TiedEmbedding:
    """An embedding in a model, and whatever shares its weight."""

    name: str  # dotted name of the first module that holds the weight
    module: nn.Embedding
    shared: tuple  # names of all embeddings with this weight, the first included
    heads: dict  # name -> nn.Linear, the output layers with this weight

    @property
    def shape(self):
        """(V, D)."""
        return tuple(self.module.weight.shape)


def find_embeddings(model):
    """Every `nn.Embedding` of a model, one TiedEmbedding per weight, the largest first.

    Raises InputError if there is none.

    Examples
    --------
    >>> model = nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 5, bias=False))
    >>> model[1].weight = model[0].weight
    >>> [(found.name, found.shape, list(found.heads)) for found in find_embeddings(model)]
    [('0', (5, 2), ['1'])]
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    names = {}  # weight -> names of the embeddings that hold it
    for key, module in modules.items():
        if isinstance(module, nn.Embedding) and key:  # a model that is one cannot be replaced
            names.setdefault(module.weight, []).append(key)
    if not names:
        rule = "expected an nn.Embedding to replace"
        raise InputError(f"model: {rule}, got none in {type(model).__name__}")
    linear = {key: module for key, module in modules.items() if isinstance(module, nn.Linear)}
    found = []
    for weight, keys in names.items():
        heads = {key: head for key, head in linear.items() if head.weight is weight}
        found.append(TiedEmbedding(keys[0], modules[keys[0]], tuple(keys), heads))
    return sorted(found, key=lambda tied: -tied.module.weight.numel())


def input_embedding(model, side="encoder"):
    """The module that a transformers model says looks up ids (of that side); else None."""
    try:
        part = getattr(model, f"get_{side}")() if model.config.is_encoder_decoder else model
        return part.get_input_embeddings()
    except (AttributeError, NotImplementedError):  # not of transformers, or without words
        return None


def find_embedding(model, name=None):
    """The TiedEmbedding of a name; without one that of `input_embedding`, else the largest.

    Raises InputError if there is none, or replacing it would change what the model computes.
    """
    found, first = find_embeddings(model), input_embedding(model)
    if name is not None:
        fits = [tied for tied in found if name in tied.shared]
    elif first is not None:
        fits = [tied for tied in found if tied.module.weight is getattr(first, "weight", None)]
    else:
        fits = found
    if not fits:
        names = ", ".join(key for tied in found for key in tied.shared)
        got = type(first).__name__ if name is None else repr(name)
        raise InputError(f"name: expected one of {names}, got {got}")
    quantizer = getattr(model, "hf_quantizer", None)
    method = getattr(quantizer, "quantization_config", None)
    if quantizer is not None and method.quant_method != "see_min":
        rule = "expected one that nothing else has quantized"
        raise InputError(f"model: {rule}, got {method.quant_method}")
    _check_modules(model, fits[0])
    _check_holders(model, fits[0])
    return fits[0]


def _check_modules(model, tied):
    """Refuse modules that do more than look rows up, or than multiply by the weight where they are
    heads, and a weight that is not plain floats, or has hooks."""
    for key in tied.shared:
        module = model.get_submodule(key)
        plain = type(module).forward is nn.Embedding.forward or hasattr(module, "embed_scale")
        _check_plain(key, module, plain, MORE, "an embedding that only looks rows up")
        expected, scale = (getattr(one, "embed_scale", 1.0) for one in (tied.module, module))
        if scale != expected:
            raise InputError(f"{key}: expected scale {expected:g} as {tied.name}, got {scale:g}")
    for key, head in tied.heads.items():
        plain = type(head).forward is nn.Linear.forward
        _check_plain(key, head, plain, HOOKS, "a linear layer that only multiplies")
    weight = tied.module.weight
    if weight._backward_hooks or getattr(weight, "_post_accumulate_grad_hooks", None):
        raise InputError(f"{tied.name}: expected a weight without hooks, got one with hooks")
    if type(weight) is not nn.Parameter or weight.dtype not in FLOATS or weight.is_meta:
        rule = "expected a weight that is a parameter of plain floats"
        got = f"{type(weight).__name__} of {weight.dtype} on {weight.device}"
        raise InputError(f"{tied.name}: {rule}, got {got}")


def _check_plain(key, module, plain, names, rule):
    """Refuse a module with a forward of its own, or with what `names` says."""
    more = [name for name in names if getattr(module, name)]
    more += ["a forward of its own"] * ("forward" in vars(module))  # so do hooks of accelerate
    if more or not plain:
        got = " with ".join([type(module).__name__, *more])
        raise InputError(f"{key}: expected {rule}, got {got}")


def _check_holders(model, tied):
    """Refuse a weight of which something else than the embeddings and their heads holds a part."""
    weight, own = tied.module.weight, {f"{key}.weight" for key in (*tied.shared, *tied.heads)}
    for key, module in model.named_modules(remove_duplicate=False):
        for name, value in (vars(module) | module._parameters | module._buffers).items():
            held = f"{key}.{name}".lstrip(".")
            parts = value if isinstance(value, list | tuple) else [value]
            if held not in own and any(_overlap(part, weight) for part in parts):
                rule = "expected a weight that only embeddings and linear layers share"
                raise InputError(f"{tied.name}: {rule}, got {held}")


def _overlap(value, weight):
    """Whether a value is a tensor with numbers in the memory of a weight: views have other shapes.

    The storage does not tell: that of a file has many weights.
    """
    if not torch.is_tensor(value) or value.layout != torch.strided or value.device != weight.device:
        return False
    spans = []
    for one in (value, weight):
        last = sum((n - 1) * step for n, step in zip(one.shape, one.stride()))
        start = one.data_ptr()  # 0 where there is no memory
        spans.append((start, start + (last + 1) * one.itemsize if start else start))
    (a, b), (c, d) = spans
    return max(a, c) < min(b, d)


def swap_embedding(model, encoding, name=None):
    """Replace an `nn.Embedding` by a SememeEmbedding, and each tied `nn.Linear` by a TiedHead.

    Padding, scale, biases of heads, data type, device and freezing are kept. The model is changed
    in place, but only if everything fits: otherwise InputError. Returns the dotted names of the
    modules that were replaced, the embedding first.
    """
    tied = find_embedding(model, name)
    return replace_embedding(model, tied, make_replacement(tied, encoding))


def make_replacement(tied, encoding):
    """The SememeEmbedding for a TiedEmbedding of its shape, else InputError; no model changes."""
    if encoding.shape != tied.shape:
        got = encoding.shape
        raise InputError(f"encoding: expected shape {tied.shape} as {tied.name}, got {got}")
    return SememeEmbedding.like(tied.module, encoding)


def replace_embedding(model, tied, new):
    """Put in a SememeEmbedding and its heads: their dotted names, the embedding first."""
    for key in tied.shared:
        model.set_submodule(key, new)
    parent, _, name = tied.name.rpartition(".")
    for key, head in tied.heads.items():
        new_head = TiedHead(model.get_submodule(parent), name, head.bias)
        model.set_submodule(key, new_head.train(head.training))
    attach(model)
    return [*tied.shared, *tied.heads]


def attach(model, weights=None):
    """Teach the models of transformers in a model how to save compressed embeddings."""
    if "transformers.modeling_utils" in sys.modules:  # it takes seconds to import
        from see_min.bridge.pretrained import attach

        attach(model, weights)


def to_dense(model):
    """Undo `swap_embedding` in place: plain `nn.Embedding` and `nn.Linear` with the rows of the
    encoding, tied as before. Scaled embeddings become `ScaledEmbedding`.
    """
    parts = list(model.modules())
    dense = {one: _dense_embedding(one) for one in parts if isinstance(one, SememeEmbedding)}
    for head in (one for one in parts if isinstance(one, TiedHead)):
        weight = dense.get(head.embedding, head.embedding).weight  # (V, D)
        dense[head] = nn.Linear(*weight.T.shape, bias=False, device="meta").train(head.training)
        dense[head].weight, dense[head].bias = weight, head.bias
    for key, module in list(model.named_modules(remove_duplicate=False)):
        if module in dense:
            model.set_submodule(key, dense[module])
    for module in model.modules():
        if getattr(module, "hf_quantizer", None) is not None:
            module.hf_quantizer.detach(module)
    return model


class ScaledEmbedding(nn.Embedding):
    """Multiplies looked-up rows, but not those of its head, by `embed_scale`: as Bart's."""

    embed_scale = 1.0

    def forward(self, ids):
        return super().forward(ids) * self.embed_scale


def _dense_embedding(module):
    """The nn.Embedding with the rows of a SememeEmbedding."""
    kind = nn.Embedding if module.scale == 1.0 else ScaledEmbedding
    frozen = not module.table_0.requires_grad
    embedding = kind.from_pretrained(module.weight.detach(), frozen, module.padding_idx)
    if module.scale != 1.0:
        embedding.embed_scale = module.scale
    return embedding.train(module.training)
