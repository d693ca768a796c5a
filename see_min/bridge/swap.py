"""Replace an embedding, and the output heads that share its weight, in any nn.Module; and put plain ones back."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from see_min.bridge.layers import SememeEmbedding, TiedHead
from see_min.checks import DataError, ShapeError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Place:
    """An embedding in a model, and whatever shares its weight.

    Attributes
    ----------
    name : str
        Dotted name of the first module that holds the weight.
    module : nn.Embedding
    shared : tuple of str
        Names of all embeddings with this weight, the first included.
    heads : dict of str to nn.Linear
        Output layers with this weight.
    """

    name: str
    module: nn.Embedding
    shared: tuple
    heads: dict

    @property
    def shape(self):
        """(V, D)."""
        return tuple(self.module.weight.shape)


def find_embeddings(model):
    """Every `nn.Embedding` of a model, one Place a weight, the largest first.

    Raises
    ------
    DataError
        If there is none.

    Examples
    --------
    >>> model = nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 5, bias=False))
    >>> model[1].weight = model[0].weight
    >>> [(place.name, place.shape, list(place.heads)) for place in find_embeddings(model)]
    [('0', (5, 2), ['1'])]

    Source: ours.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    found = {}
    for key, module in modules.items():
        if isinstance(module, nn.Embedding) and key:  # the model itself has no place in which it could be replaced
            found.setdefault(id(module.weight), []).append(key)
    if not found:
        raise DataError(f"model: expected an nn.Embedding to replace, got none in {type(model).__name__}")
    places = []
    for weight, keys in found.items():
        heads = {key: module for key, module in modules.items() if isinstance(module, nn.Linear) and id(module.weight) == weight}
        places.append(Place(keys[0], modules[keys[0]], tuple(keys), heads))
    return sorted(places, key=lambda place: -place.module.weight.numel())


def input_embedding(model, side="encoder"):
    """The module that a model of transformers says looks up ids, of one side where it has an encoder and a decoder; else None."""
    try:
        part = getattr(model, f"get_{side}")() if model.config.is_encoder_decoder else model
        return part.get_input_embeddings()
    except (AttributeError, NotImplementedError):  # not of transformers, or without words
        return None


def find_embedding(model, name=None):
    """The Place of a name; without a name that of `input_embedding`, or the largest where a model does not say which it is.

    Raises
    ------
    DataError
        If no embedding has that name, or it does more than look rows up, or its weight is not a plain parameter of floats, or
        those that share its weight scale it differently.
    """
    places = find_embeddings(model)
    first = input_embedding(model)
    if name is not None:
        place = next((place for place in places if name in place.shared), None)
    else:
        place = places[0] if first is None else next((p for p in places if getattr(first, "weight", 0) is p.module.weight), None)
    if place is None:
        names = ", ".join(key for p in places for key in p.shared)
        raise DataError(f"name: expected one of {names}, got {type(first).__name__ if name is None else repr(name)}")
    for key in place.shared:
        module = model.get_submodule(key)
        plain = type(module).forward is nn.Embedding.forward or hasattr(module, "embed_scale")
        if module.max_norm is not None or not plain:
            raise DataError(f"{key}: expected an embedding that only looks rows up, got {type(module).__name__}"
                            + (f" with max_norm {module.max_norm:g}" if module.max_norm is not None else ""))
        _check_weight(key, module)
        if _scale(module) != _scale(place.module):
            raise DataError(f"{key}: expected scale {_scale(place.module):g} as {place.name}, got {_scale(module):g}")
    return place


def _check_weight(name, module):
    """Refuse a weight that is computed from other parameters, or holds no numbers, or none that are floats."""
    weight = module.weight
    if "weight" not in module._parameters:
        raise DataError(f"{name}: expected a weight that is a parameter, got one that is computed: remove its parametrization")
    if weight.is_meta:
        raise DataError(f"{name}: expected numbers in its weight, got the device meta: load the model first")
    if type(weight.data) is not torch.Tensor or weight.dtype not in FLOATS:
        raise DataError(f"{name}: expected a weight of plain floats, got {type(weight.data).__name__} of {weight.dtype}")


def _scale(module):
    """What an embedding multiplies its rows by."""
    return float(getattr(module, "embed_scale", 1.0))


def swap_embedding(model, encoding, name=None):
    """Put a SememeEmbedding in the place of an `nn.Embedding`, and a TiedHead in the place of every tied `nn.Linear`.

    Padding, the scale of scaled embeddings, biases of heads, data type, device, and whether the weight was frozen are kept.

    Parameters
    ----------
    model : nn.Module
        Changed in place, but only if everything fits.
    encoding : SememeEncoding
    name : str, optional
        Dotted name of the embedding; that of `find_embedding` when left out.

    Returns
    -------
    list of str
        The dotted names of the modules that were replaced, the embedding first.

    Raises
    ------
    DataError
        If the model has no nn.Embedding, or none of that name.
    ShapeError
        If the encoding does not have the embedding's V and D.

    Source: ours.
    """
    place = find_embedding(model, name)
    return put(model, place, stand_in(place, encoding))


def stand_in(place, encoding):
    """The SememeEmbedding for a Place; the model is not changed.

    Raises
    ------
    ShapeError
        If the encoding does not have the embedding's V and D.
    """
    if encoding.shape != place.shape:
        raise ShapeError(f"encoding: expected shape {place.shape} as {place.name}, got {encoding.shape}")
    old, weight = place.module, place.module.weight
    zero = old.padding_idx is not None and not weight[old.padding_idx].any()
    new = SememeEmbedding(encoding, dtype=weight.dtype, padding_idx=old.padding_idx, padding=0.0 if zero else 1.0,
                          scale=_scale(old)).to(weight.device)
    return new.requires_grad_(weight.requires_grad).train(old.training)


def put(model, place, new):
    """Put a SememeEmbedding in a Place, and a TiedHead in that of every head: their dotted names, the embedding first."""
    for key in place.shared:
        _set(model, key, new)
    for key, head in place.heads.items():
        _set(model, key, TiedHead(new, head.bias).train(head.training))
    _guard(model)
    return [place.name, *(key for key in place.shared if key != place.name), *place.heads]


def to_dense(model):
    """Put plain `nn.Embedding` and `nn.Linear` in the place of what `swap_embedding` put in; the rows are those of the encoding.

    Returns
    -------
    nn.Module
        The model, changed in place. Scaled embeddings become `ScaledEmbedding`; heads share the weight as before.

    Source: ours.
    """
    modules = dict(model.named_modules(remove_duplicate=False))  # of heads, too, each holds its embedding
    weights = {module: nn.Parameter(module.weight.detach().clone(), any(p.requires_grad for p in module.parameters()))
               for module in model.modules() if isinstance(module, SememeEmbedding)}
    dense = {module: _dense_embedding(module, weight) for module, weight in weights.items()}
    for key, module in modules.items():
        if isinstance(module, TiedHead):
            V, D = weights[module.embedding].shape
            head = nn.Linear(D, V, bias=False, device="meta")
            head.weight, head.bias = weights[module.embedding], module.bias
            _set(model, key, head.train(module.training))
        elif module in dense and not isinstance(modules[key.rpartition(".")[0]], TiedHead):
            _set(model, key, dense[module])
    for module in model.modules():
        for name in GUARDS:
            vars(module).pop(name, None)
    return model


class ScaledEmbedding(nn.Embedding):
    """An embedding that multiplies the rows it looks up, but not those of its head, by `embed_scale`: as Bart's and Gemma's."""

    embed_scale = 1.0

    def forward(self, ids):
        return super().forward(ids) * self.embed_scale


def _dense_embedding(module, weight):
    """The nn.Embedding with the rows of a SememeEmbedding; it shares `weight`."""
    kind = nn.Embedding if module.scale == 1.0 else ScaledEmbedding
    embedding = kind(*weight.shape, padding_idx=module.padding_idx, device="meta")
    embedding.weight = weight
    if module.scale != 1.0:
        embedding.embed_scale = module.scale
    return embedding.train(module.training)


def _set(model, key, module):
    parent, _, child = key.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _refuse(name, instead, *_, **__):
    raise DataError(f"{name}: expected a model with plain embeddings, got a compressed one: {instead}")


def _stay_tied(*_, **__):
    """A TiedHead has no weight that could be tied: it is."""


GUARDS = {
    "tie_weights": _stay_tied,
    "save_pretrained": partial(_refuse, "save_pretrained", "use see_min.bridge.pretrained.save_compressed, or to_dense first"),
    "resize_token_embeddings": partial(_refuse, "resize_token_embeddings", "use to_dense first"),
}


def _guard(model):
    """Let methods of transformers that would set or lose a weight know of compressed embeddings; `to_dense` takes this back."""
    for module in model.modules():
        if any(isinstance(part, SememeEmbedding) for part in module.modules()):
            vars(module).update({name: guard for name, guard in GUARDS.items() if hasattr(type(module), name)})
