"""Replace an embedding, and the output head that shares its weight, in any nn.Module."""

from torch import nn

from see_min.bridge.layers import SememeEmbedding, TiedHead
from see_min.checks import DataError, ShapeError


def swap_embedding(model, encoding, name=None):
    """Put a SememeEmbedding in the place of an `nn.Embedding`, and a TiedHead in the place of every tied `nn.Linear`.

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
        If the model has no nn.Embedding, none of that name, or a tied head with a bias.
    ShapeError
        If the encoding does not have the embedding's V and D.

    Source: ours.
    """
    found = {key: module for key, module in model.named_modules(remove_duplicate=False) if isinstance(module, nn.Embedding)}
    if not found:
        raise DataError(f"model: expected an nn.Embedding to replace, got none in {type(model).__name__}")
    if name is not None and name not in found:
        raise DataError(f"name: expected one of {', '.join(found)}, got {name!r}")
    name = name or max(found, key=lambda key: found[key].weight.numel())
    old = found[name].weight
    if encoding.shape != tuple(old.shape):
        raise ShapeError(f"encoding: expected shape {tuple(old.shape)} as {name}, got {encoding.shape}")
    heads = {key: module for key, module in model.named_modules(remove_duplicate=False)
             if isinstance(module, nn.Linear) and module.weight is old}
    for key, head in heads.items():
        if head.bias is not None:
            raise DataError(f"{key}: expected a tied head without bias, got one with bias")
    new = SememeEmbedding(encoding, dtype=old.dtype).to(old.device)
    for key in [key for key, module in found.items() if module.weight is old]:
        _set(model, key, new)
    for key in heads:
        _set(model, key, TiedHead(new))
    return [name, *heads]


def _set(model, key, module):
    parent, _, child = key.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
