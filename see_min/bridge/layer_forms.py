"""Compress the blocks of a TinyGPT or TinyBERT by a layer method of `see_min.related`, in place and in order.

    for each layer, from the first block to the last:  X = what the layers before, already compressed, hand to it;
    W' = method(W, X, ratio);  a `Rebuilt` layer computes y = x W'^T + b and trains the floats that are kept

Methods that look at all layers at once (numerical pruning, ACIP, shared trains) score the dense model first.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from see_min.bridge.finetune import cross_entropy
from see_min.bridge.training import on_device
from see_min.related import acip, modegpt, mpo, numerical_pruning, rom
from see_min.related.layer import masked
from see_min.related.primitives import refit
from see_min.related.registry import METHODS

LAYERS = ("attention.qkv", "attention.project", "mlp.0", "mlp.2")  # of a block, in the order in which they are computed


class Rebuilt(nn.Module):
    """A linear layer whose weight is build(parts, fixed): the parts are parameters, masks and codes are not.

    Parameters
    ----------
    kept : see_min.related.layer.Kept
    bias : tensor (out,)
    shared : dict of int to Parameter
        By the identity of arrays: layers that share one array share its parameter.
    """

    def __init__(self, kept, bias, shared):
        super().__init__()
        tensor = lambda array: torch.tensor(np.asarray(array), dtype=bias.dtype, device=bias.device)
        shift = 0 if kept.shift is None else tensor(kept.shift)
        self.build, self.bias = kept.build, nn.Parameter(bias.detach() + shift)
        self.parts = nn.ParameterList([shared.setdefault(id(part), nn.Parameter(tensor(part))) for part in kept.parts])
        for i, array in enumerate(kept.fixed):
            self.register_buffer(f"fixed{i}", tensor(array))

    @property
    def weight(self):
        """W (out, in), made anew at every call."""
        return self.build(list(self.parts), [getattr(self, f"fixed{i}") for i in range(len(self._buffers))])

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class Blocks:
    """The linear layers of a model's blocks, and what was kept of each.

    Parameters
    ----------
    model : TinyGPT or TinyBERT
        Changed in place.
    batch : see_min.sequences.Batch
        Of calibration.
    more : list of Batch, optional
        What ACIP learns its masks from, one batch a step.
    memory : dict, optional
        Scores that serve every ratio, of the same model and batches.
    """

    def __init__(self, model, batch, more=(), memory=None):
        self.model, self.batch, self.more = model, on_device(batch, next(model.parameters()).device), more
        self.memory = {} if memory is None else memory
        self.kept, self.shared = {}, {}

    @property
    def names(self):
        """Dotted names, in the order in which they are computed."""
        return [f"blocks.{i}.{layer}" for i in range(len(self.model.blocks)) for layer in LAYERS]

    def weight(self, name):
        """W (out, in) as it is now."""
        return self.model.get_submodule(name).weight.detach().cpu().double().numpy()

    def bias(self, name):
        """b (out,) as it is now."""
        return self.model.get_submodule(name).bias.detach().cpu().double().numpy()

    @torch.no_grad()
    def inputs(self, *names):
        """What the model hands to each of these layers on the calibration batch: arrays (N, in)."""
        found, hooks = {}, []
        for name in names:
            keep = lambda module, given, name=name: found.update({name: given[0].flatten(0, -2).cpu().double().numpy()})
            hooks.append(self.model.get_submodule(name).register_forward_pre_hook(keep))
        try:
            self.model.hidden_states(*self.batch.inputs)
        finally:
            for hook in hooks:
                hook.remove()
        return [found[name] for name in names]

    def put(self, name, kept):
        """Replace a layer."""
        parent, _, child = name.rpartition(".")
        new = Rebuilt(kept, self.model.get_submodule(name).bias, self.shared)
        setattr(self.model.get_submodule(parent), child, new)
        self.kept[name] = kept

    def floats(self):
        """Weights of the layers that are kept, of all where nothing is compressed; biases are not counted."""
        return sum(self.kept[name].floats if name in self.kept else self.weight(name).size for name in self.names)

    def index_bits(self):
        """Codes, signs and bitmaps."""
        return sum(kept.index_bits for kept in self.kept.values())


def one_by_one(blocks, ratio, method):
    """Every layer for itself, in order."""
    for name in blocks.names:
        blocks.put(name, METHODS[method].run(blocks.weight(name), blocks.inputs(name)[0], ratio))


def plain_svd(blocks, ratio, method):
    """LLM-ROM without calibration: the control of what inputs are worth."""
    for name in blocks.names:
        W = blocks.weight(name)
        blocks.put(name, rom.compress(W, np.eye(W.shape[1]), ratio))


def influences(blocks):
    """1 - cos(x_in, x_out) of each block, the mean over positions: (L,)."""
    with torch.no_grad():
        states = blocks.model.hidden_states(*blocks.batch.inputs)
    return np.array([float(1 - F.cosine_similarity(a, b, dim=-1).mean()) for a, b in zip(states, states[1:])])


def by_modules(blocks, ratio, method):
    """MoDeGPT: attention, then MLP of each block; each block's share by its influence."""
    heads = blocks.model.config.heads
    for i, share in enumerate(modegpt.sparsities(influences(blocks), 1 - 1 / ratio)):
        qkv, project, up, down = (f"blocks.{i}.{layer}" for layer in LAYERS)
        widths = [len(blocks.weight(project)) // heads, len(blocks.weight(up))]
        narrow, thin = (max(1, int(width * (1 - share) + 1e-9)) for width in widths)
        X = blocks.inputs(qkv)[0]  # (N, D)
        pair = modegpt.attention(blocks.weight(qkv), blocks.bias(qkv), blocks.weight(project), X, heads, narrow)
        blocks.put(qkv, pair[0])
        blocks.put(project, pair[1])
        pair = modegpt.mlp(blocks.weight(up), blocks.weight(down), blocks.inputs(down)[0], thin)
        blocks.put(up, pair[0])
        blocks.put(down, pair[1])


def by_channels(blocks, ratio, method):
    """Numerical pruning: whole heads and channels of the MLP by one sort, then least squares on what stays, in order."""
    heads, readers, scores = blocks.model.config.heads, [name for name in blocks.names if name.endswith(("project", "mlp.2"))], {}
    for name, X in zip(readers, blocks.inputs(*readers)):
        W = blocks.weight(name)
        A = numerical_pruning.quadratic(W, X.T @ X)
        z = numerical_pruning.newton(A, int(len(A) / ratio))  # (in,)
        scores[name] = z.reshape(heads, -1).mean(axis=1) if name.endswith("project") else z  # (heads,) or (4 D,)
    for name, stays in zip(readers, _affordable(list(scores.values()), blocks.model.config.dimension, heads, ratio)):
        _cut_channels(blocks, name, stays)


def _affordable(scores, width, heads, ratio):
    """Which stay: as many of the highest scores as the floats allow; a head has 4 D D / heads, a channel 2 D."""
    costs = [np.full(len(one), 4 * width * width / heads if len(one) == heads else 2 * width) for one in scores]
    flat, left = np.concatenate(costs), sum(map(np.sum, costs)) / ratio
    mask = np.zeros(len(flat), dtype=bool)
    for i in np.argsort(-np.concatenate(scores), kind="stable"):
        if flat[i] <= left:  # a head may be too much where a channel is not
            mask[i], left = True, left - flat[i]
    return np.split(mask, np.cumsum([len(one) for one in scores])[:-1])


def _cut_channels(blocks, name, stays):
    """Keep some heads or channels that a layer reads; the layer before loses the rows that made the others."""
    W, before = blocks.weight(name), name.replace("project", "qkv").replace("mlp.2", "mlp.0")
    X, new = blocks.inputs(name)[0], np.zeros(W.shape)
    stays = np.repeat(stays, W.shape[1] // len(stays))  # (in,): the channels of a head stay together
    new[:, stays] = refit(W, X.T @ X, np.flatnonzero(stays))
    rows = np.tile(stays, len(blocks.weight(before)) // len(stays))  # queries, keys and values of a head
    blocks.put(before, masked(blocks.weight(before), rows[:, None], 0))
    blocks.put(name, masked(new, stays, 0))


def by_shared_trains(blocks, ratio, method):
    """MPO: the same layer of all blocks together."""
    for layer in LAYERS:
        names = [name for name in blocks.names if name.endswith(layer)]
        for name, kept in zip(names, mpo.compress([blocks.weight(name) for name in names], ratio)):
            blocks.put(name, kept)


def by_masks(blocks, ratio, method):
    """ACIP: masks of all singular values by the task's loss, then one threshold."""
    batches, weights = iter(blocks.more), [blocks.weight(name) for name in blocks.names]

    def loss(tensors):
        batch = on_device(next(batches), next(blocks.model.parameters()).device)
        weights = {f"{name}.weight": tensor for name, tensor in zip(blocks.names, tensors)}
        return cross_entropy(torch.func.functional_call(blocks.model, weights, batch.inputs), batch.targets)

    if "acip" not in blocks.memory:  # masks of consistent gradients travel three times their way to 0
        blocks.memory["acip"] = acip.learn(weights, loss, len(blocks.more), 3 * acip.START / len(blocks.more))
    for name, kept in zip(blocks.names, acip.compress(weights, blocks.memory["acip"], ratio)):
        blocks.put(name, kept)


FORMS = {"svd": plain_svd, "modegpt": by_modules, "numerical": by_channels, "mpo": by_shared_trains, "acip": by_masks}
FAMILY_OF = {"svd": "efficient architecture"} | {name: method.family for name, method in METHODS.items()}


def compress_blocks(blocks, method, ratio):
    """Compress all layers by a method of `see_min.related`, or by "svd".

    Raises
    ------
    DataError
        If the ratio is out of the method's reach for one of the layers.

    Source: the methods; the order of layers is LLM-ROM's, arXiv 2312.07046.
    """
    FORMS.get(method, one_by_one)(blocks, ratio, method)
