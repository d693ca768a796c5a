"""The metric of a fit, measured on a text: what an error of an embedding's rows costs the model.

    as a tied head   an error e of a row changes its score by h e, so it costs e C e^T,
                     C = mean of h^T h over the states h that meet the head
    as an input      it changes an output y by g e, so it costs e G e^T,
                     G = mean of g^T g, g = d(y u)/d(row) for random directions u, Var u = 1

Where both are one matrix, both count: C / tr C + G / tr G. The bag, the codes and the projection of
`see_min.encode(..., metric=)` are then fitted to what the model sees of the rows.
"""

import torch

from see_min.errors import InputError


def measure_metric(layers, output, batches, head=None, seed=0):
    """C (D, D) of an embedding and the head that shares its rows, a numpy array of trace 1.

    Parameters
    ----------
    layers : nn.Module, the embedding: its results (..., D) are the rows that were read; or a list
        of modules that share its weight
    output : callable(batch) -> tensor, of any shape: what the model makes of a batch
    batches : iterable
    head : nn.Module, optional, whose input (..., D) meets the rows
    seed : int, of the random direction of each batch

    Raises
    ------
    InputError
        If the model does not read a row, or nothing depends on the rows.

    Examples
    --------
    >>> layer = torch.nn.Embedding(4, 2)
    >>> with torch.no_grad():
    ...     first = torch.tensor([1.0, 0.0])
    ...     C = measure_metric(layer, lambda ids: layer(ids) * first, [torch.arange(4)])
    >>> C.tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    read, met = [], []
    layers = [layers] if isinstance(layers, torch.nn.Module) else dict.fromkeys(layers)
    hooks = [layer.register_forward_hook(lambda _module, _inputs, rows: _leaf(read, rows))
             for layer in layers]
    if head is not None:
        hooks.append(head.register_forward_pre_hook(lambda _module, inputs: met.append(inputs[0])))
    draw = torch.Generator().manual_seed(seed)
    G = C = 0.0
    try:
        for batch in batches:
            read.clear(), met.clear()
            with torch.enable_grad():
                y = output(batch)
            if read and y.requires_grad:
                u = torch.randn(y.shape, generator=draw).to(y)
                for g in torch.autograd.grad(y, read, u, allow_unused=True):
                    G = G + (0.0 if g is None else _second_moment(g))  # (D, D)
            for h in met:
                C = C + _second_moment(h)  # (D, D)
    finally:
        for hook in hooks:
            hook.remove()
    parts = [part for part in (G, C) if not isinstance(part, float) and part.trace() > 0]
    if not parts:
        raise InputError("metric: expected a text whose rows the model reads, got none")
    return sum((part / part.trace()).cpu().numpy() for part in parts) / len(parts)


def _leaf(read, rows):
    """The rows as a new leaf of the graph: gradients end here."""
    read.append(rows.detach().requires_grad_())
    return read[-1]


def _second_moment(vectors):
    """sum v^T v (D, D) of vectors (..., D)."""
    flat = vectors.detach().flatten(0, -2).double()  # (N, D)
    return flat.T @ flat
