"""Replace an embedding, and the output heads that share its weight, in any nn.Module; and put plain ones back."""

from dataclasses import dataclass

from torch import nn

from see_min.bridge.layers import SememeEmbedding, TiedHead
from see_min.checks import DataError, ShapeError


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


def find_embedding(model, name=None):
    """The Place of a name, or of the largest embedding.

    Raises
    ------
    DataError
        If no embedding has that name, or it does more than look rows up, or those that share its weight scale it differently.
    """
    places = find_embeddings(model)
    if name is None:
        place = places[0]
    else:
        place = next((place for place in places if name in place.shared), None)
        if place is None:
            raise DataError(f"name: expected one of {', '.join(key for p in places for key in p.shared)}, got {name!r}")
    for key in place.shared:
        module = model.get_submodule(key)
        plain = type(module).forward is nn.Embedding.forward or hasattr(module, "embed_scale")
        if module.max_norm is not None or not plain:
            raise DataError(f"{key}: expected an embedding that only looks rows up, got {type(module).__name__}"
                            + (f" with max_norm {module.max_norm:g}" if module.max_norm is not None else ""))
        if _scale(module) != _scale(place.module):
            raise DataError(f"{key}: expected scale {_scale(place.module):g} as {place.name}, got {_scale(module):g}")
    return place


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
        Dotted name of the embedding; the largest one when left out.

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
    if encoding.shape != place.shape:
        raise ShapeError(f"encoding: expected shape {place.shape} as {place.name}, got {encoding.shape}")
    old, weight = place.module, place.module.weight
    zero = old.padding_idx is not None and not weight[old.padding_idx].any()
    new = SememeEmbedding(encoding, dtype=weight.dtype, padding_idx=old.padding_idx, padding=0.0 if zero else 1.0,
                          scale=_scale(old)).to(weight.device)
    new.requires_grad_(weight.requires_grad).train(old.training)
    for key in place.shared:
        _set(model, key, new)
    for key, head in place.heads.items():
        _set(model, key, TiedHead(new, head.bias).train(head.training))
    return [place.name, *(key for key in place.shared if key != place.name), *place.heads]


def to_dense(model):
    """Put plain `nn.Embedding` and `nn.Linear` in the place of what `swap_embedding` put in; the rows are those of the encoding.

    Returns
    -------
    nn.Module
        The model, changed in place. Scaled embeddings become plain ones whose rows are scaled, their heads keep theirs unscaled.

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
    return model


def _dense_embedding(module, weight):
    """The nn.Embedding with the rows of a SememeEmbedding; it shares `weight` unless rows are scaled."""
    rows = weight
    if module.scale != 1.0:
        rows = nn.Parameter(weight.detach() * module.scale, weight.requires_grad)
    embedding = nn.Embedding(*rows.shape, padding_idx=module.padding_idx, device="meta")
    embedding.weight = rows
    return embedding.train(module.training)


def _set(model, key, module):
    parent, _, child = key.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
