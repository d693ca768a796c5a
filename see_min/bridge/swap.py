"""Replace an embedding and the output heads that share its weight, in any model; and back."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from see_min.bridge.layers import SememeEmbedding, TiedHead
from see_min.errors import InputError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
HOOKS = [f"_forward_{name}" for name in ("hooks", "hooks_with_kwargs", "hooks_always_called")]
HOOKS += ["_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"]


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
    names = {}  # identity of a weight -> names of the embeddings that hold it
    for key, module in modules.items():
        if isinstance(module, nn.Embedding) and key:  # a model that is one cannot be replaced
            names.setdefault(id(module.weight), []).append(key)
    if not names:
        rule = "expected an nn.Embedding to replace"
        raise InputError(f"model: {rule}, got none in {type(model).__name__}")
    linear = {key: module for key, module in modules.items() if isinstance(module, nn.Linear)}
    found = []
    for weight, keys in names.items():
        heads = {key: head for key, head in linear.items() if id(head.weight) == weight}
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
        tied = next((one for one in found if name in one.shared), None)
    elif first is None:
        tied = found[0]
    else:
        weight = getattr(first, "weight", None)
        tied = next((one for one in found if one.module.weight is weight), None)
    if tied is None:
        names = ", ".join(key for one in found for key in one.shared)
        got = type(first).__name__ if name is None else repr(name)
        raise InputError(f"name: expected one of {names}, got {got}")
    for key in tied.shared:
        _check_module(key, model.get_submodule(key))
        pair = tied.module, model.get_submodule(key)
        expected, scale = (float(getattr(module, "embed_scale", 1.0)) for module in pair)
        if scale != expected:
            raise InputError(f"{key}: expected scale {expected:g} as {tied.name}, got {scale:g}")
    _check_holders(model, tied)
    return tied


def _check_module(key, module):
    """Refuse what does more than look rows up, and weights that are not plain floats."""
    kind, weight = type(module).__name__, module.weight
    plain = type(module).forward is nn.Embedding.forward or hasattr(module, "embed_scale")
    options = [f"{name} {getattr(module, name)}" for name in ("max_norm",) if module.max_norm]
    options += [name for name in ("sparse", "scale_grad_by_freq") if getattr(module, name)]
    if options or not plain:
        got = " ".join([kind, *(["with", *options] if options else [])])
        raise InputError(f"{key}: expected an embedding that only looks rows up, got {got}")
    plain = type(weight.data) is torch.Tensor and weight.dtype in FLOATS
    if "weight" not in module._parameters or weight.is_meta or not plain:
        computed = "" if "weight" in module._parameters else "a computed "
        got = f"{computed}{type(weight).__name__} of {weight.dtype} on {weight.device}"
        raise InputError(f"{key}: expected a weight that is a parameter of plain floats, got {got}")


def _check_holders(model, tied):
    """Refuse a weight that something else than the embeddings and their heads holds, too."""
    weight, own = tied.module.weight, {f"{key}.weight" for key in (*tied.shared, *tied.heads)}
    for key, module in model.named_modules(remove_duplicate=False):
        for name, value in (vars(module) | module._parameters).items():
            held = f"{key}.{name}".lstrip(".")
            if held in own or not torch.is_tensor(value) or value.shape != weight.shape:
                continue
            if value is weight or value.data_ptr() == weight.data_ptr() != 0:
                rule = "expected a weight that only embeddings and linear layers share"
                raise InputError(f"{tied.name}: {rule}, got {held}")


def swap_embedding(model, encoding, name=None):
    """Replace an `nn.Embedding` by a SememeEmbedding, and each tied `nn.Linear` by a TiedHead.

    Padding, scale, biases of heads, data type, device, freezing and forward hooks are kept. The
    model is changed in place, but only if everything fits. Returns the dotted names of the modules
    that were replaced, the embedding first.
    """
    tied = find_embedding(model, name)
    return replace_embedding(model, tied, make_replacement(tied, encoding))


def make_replacement(tied, encoding):
    """The SememeEmbedding for a TiedEmbedding; the model is not changed."""
    if encoding.shape != tied.shape:
        got = encoding.shape
        raise InputError(f"encoding: expected shape {tied.shape} as {tied.name}, got {got}")
    return SememeEmbedding.like(tied.module, encoding)


def replace_embedding(model, tied, new):
    """Put in a SememeEmbedding and its heads: their dotted names, the embedding first."""
    for key in tied.shared:
        _replace(model, key, new)
    for key, head in tied.heads.items():
        _replace(model, key, TiedHead(new, head.bias).train(head.training))
    for module in model.modules():
        if any(isinstance(part, SememeEmbedding) for part in module.modules()):
            own = (name for name in GUARDS if hasattr(type(module), name))
            vars(module).update({name: GUARDS[name] for name in own})
    return [tied.name, *(key for key in tied.shared if key != tied.name), *tied.heads]


def to_dense(model):
    """Undo `swap_embedding` in place: plain `nn.Embedding` and `nn.Linear` with the rows of the
    encoding, tied as before. Scaled embeddings become `ScaledEmbedding`.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    own = [module for module in model.modules() if isinstance(module, SememeEmbedding)]
    dense = {module: _dense_embedding(module) for module in own}
    for key, module in modules.items():
        if isinstance(module, TiedHead):
            weight = dense[module.embedding].weight  # (V, D)
            head = nn.Linear(*weight.T.shape, bias=False, device="meta")
            head.weight, head.bias = weight, module.bias
            _replace(model, key, head.train(module.training))
        elif module in dense and not isinstance(modules[key.rpartition(".")[0]], TiedHead):
            _replace(model, key, dense[module])
    for module in model.modules():
        for name in GUARDS:
            vars(module).pop(name, None)
    return model


class ScaledEmbedding(nn.Embedding):
    """Multiplies looked-up rows, but not those of its head, by `embed_scale`: as Bart's."""

    embed_scale = 1.0

    def forward(self, ids):
        return super().forward(ids) * self.embed_scale


def _dense_embedding(module):
    """The nn.Embedding with the rows of a SememeEmbedding."""
    kind, weight = nn.Embedding if module.scale == 1.0 else ScaledEmbedding, module.weight.detach()
    embedding = kind(*weight.shape, padding_idx=module.padding_idx, device="meta")
    embedding.weight = nn.Parameter(weight.clone(), module.table_0.requires_grad)
    if module.scale != 1.0:
        embedding.embed_scale = module.scale
    return embedding.train(module.training)


def _replace(model, key, new):
    """Set a submodule; forward hooks go over, and their handles can still remove them."""
    old = model.get_submodule(key)
    for name in HOOKS:
        vars(old)[name].update(vars(new)[name])  # of other names of the same weight
        vars(new)[name] = vars(old)[name]
    model.set_submodule(key, new)


def _refuse(instead, *_, **__):
    raise InputError(f"model: expected plain embeddings, got compressed ones: {instead}")


def _stay_tied(*_, **__):
    """A TiedHead has no weight that could be tied: it is."""


GUARDS = {  # methods of transformers that would set or lose a weight; `to_dense` takes this back
    "tie_weights": _stay_tied,
    "save_pretrained": partial(_refuse, "use see_min.bridge.save_compressed, or to_dense first"),
    "resize_token_embeddings": partial(_refuse, "use to_dense first"),
}
