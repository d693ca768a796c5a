"""Compress the blocks of a TinyGPT or TinyBERT by a layer method, in place and in order.

    for each layer, from the first block to the last:
        X = what the layers before, already compressed, hand to it;  W' = method(W, X, ratio);
        a RebuiltLinear computes y = x W'^T + b

and trains the parameters that are kept. Methods that look at all layers at once (numerical pruning,
ACIP, shared trains) score the dense model first. The order of layers is LLM-ROM's, arXiv
2312.07046.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from see_min.errors import InputError
from see_min.related.layers import acip, modegpt, mpo, numerical_pruning, rom
from see_min.related.layers.layer import masked
from see_min.related.primitives import refit
from see_min.related.registry import LAYERS
from see_min.toy.training import on_device

# of a block, in the order in which they are computed
NAMES = ("attention.qkv", "attention.project", "mlp.0", "mlp.2")


class RebuiltLinear(nn.Module):
    """A linear layer whose weight is reconstruct(parameters, buffers) of a CompressedLayer.

    `shared` holds parameters by the identity of arrays: layers of one array share its parameter.
    """

    def __init__(self, compressed, bias, shared):
        super().__init__()

        def tensor(array):
            return torch.tensor(np.asarray(array), dtype=bias.dtype, device=bias.device)

        shift = 0 if compressed.shift is None else tensor(compressed.shift)
        self.reconstruct, self.bias = compressed.reconstruct, nn.Parameter(bias.detach() + shift)
        self.arrays = nn.ParameterList()
        for array in compressed.parameters:
            if id(array) not in shared:
                shared[id(array)] = nn.Parameter(tensor(array))
            self.arrays.append(shared[id(array)])
        for i, array in enumerate(compressed.buffers):
            self.register_buffer(f"buffer{i}", tensor(array))

    @property
    def weight(self):
        """W (out, in), recomputed at every call."""
        return self.reconstruct(list(self.arrays), list(self._buffers.values()))

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class Blocks:
    """The linear layers of a model's blocks, and what was kept of each; the model is changed.

    Inputs are those of a calibration batch. ACIP learns its masks from one of `mask_batches` per
    step; `cache` keeps scores that serve every ratio of the same model and batches.
    """

    def __init__(self, model, batch, mask_batches=(), cache=None):
        self.model, self.device = model, next(model.parameters()).device
        self.batch, self.mask_batches = on_device(batch, self.device), mask_batches
        self.cache = {} if cache is None else cache
        self.compressed, self.shared = {}, {}

    @property
    def names(self):
        """Dotted names, in the order in which they are computed."""
        return [f"blocks.{i}.{name}" for i in range(len(self.model.blocks)) for name in NAMES]

    def weight(self, name):
        """W (out, in) as it is now."""
        return _numbers(self.model.get_submodule(name).weight)

    @torch.no_grad()
    def inputs(self, name):
        """What the model hands to this layer on the calibration batch, (N, in)."""
        layer, found = self.model.get_submodule(name), []
        hook = layer.register_forward_pre_hook(lambda _, given: found.append(given[0]))
        try:
            self.model.hidden_states(*self.batch.inputs)
        finally:
            hook.remove()
        return _numbers(found[0].flatten(0, -2))  # (N, in)

    def replace(self, name, compressed):
        """Put a compressed layer instead of a layer."""
        bias = self.model.get_submodule(name).bias
        self.model.set_submodule(name, RebuiltLinear(compressed, bias, self.shared))
        self.compressed[name] = compressed

    def parameters(self):
        """Weights that are kept, all of a layer that is not compressed; biases are not counted."""
        kept = {name: layer.n_parameters for name, layer in self.compressed.items()}
        return sum(kept[name] if name in kept else self.weight(name).size for name in self.names)

    def index_bits(self):
        """Codes, signs and bitmaps."""
        return sum(layer.index_bits for layer in self.compressed.values())


def _numbers(tensor):
    return tensor.detach().cpu().double().numpy()


def plain_svd(W, calibration, ratio):
    """LLM-ROM without calibration: the control of what inputs are worth."""
    return rom.compress(W, np.eye(W.shape[1]), ratio)


def influences(blocks):
    """1 - cos(x_in, x_out) of each block, the mean over positions: (L,)."""
    with torch.no_grad():
        states = blocks.model.hidden_states(*blocks.batch.inputs)
    pairs = zip(states, states[1:])
    return np.array([float(1 - F.cosine_similarity(a, b, dim=-1).mean()) for a, b in pairs])


def by_modules(blocks, ratio):
    """MoDeGPT: attention, then MLP of each block; each block's share by its influence."""
    heads = blocks.model.config.n_head
    for i, share in enumerate(modegpt.sparsities(influences(blocks), 1 - 1 / ratio)):
        qkv, project, up, down = (f"blocks.{i}.{name}" for name in NAMES)
        widths = [len(blocks.weight(project)) // heads, len(blocks.weight(up))]
        narrow, thin = (max(1, int(width * (1 - share) + 1e-9)) for width in widths)
        X, bias = blocks.inputs(qkv), _numbers(blocks.model.get_submodule(qkv).bias)  # (N, D)
        pair = modegpt.attention(blocks.weight(qkv), bias, blocks.weight(project), X, heads, narrow)
        blocks.replace(qkv, pair[0])
        blocks.replace(project, pair[1])
        pair = modegpt.mlp(blocks.weight(up), blocks.weight(down), blocks.inputs(down), thin)
        blocks.replace(up, pair[0])
        blocks.replace(down, pair[1])


def by_channels(blocks, ratio):
    """Numerical pruning: whole heads and MLP channels by one sort, then least squares, in order."""
    config, scores = blocks.model.config, []
    readers = [name for name in blocks.names if name.endswith(("project", "mlp.2"))]
    for name in readers:
        X = blocks.inputs(name)  # (N, in)
        A = numerical_pruning.quadratic(blocks.weight(name), X.T @ X)  # (in, in)
        z = numerical_pruning.newton(A, int(len(A) / ratio))  # (in,)
        if name.endswith("project"):
            z = z.reshape(config.n_head, -1).mean(axis=1)  # (heads,)
        scores.append(z)
    stays = affordable(scores, config.n_embd, config.n_head, ratio)
    for name, stay in zip(readers, stays):
        _cut_channels(blocks, name, stay)


def affordable(scores, width, heads, ratio):
    """Which stay: the best within budget, where a head costs 4 D D / heads, a channel 2 D."""
    head, channel = 4 * width * width / heads, 2 * width
    costs = np.concatenate([np.full(len(z), head if len(z) == heads else channel) for z in scores])
    left, mask = costs.sum() / ratio, np.zeros(len(costs), dtype=bool)
    for i in np.argsort(-np.concatenate(scores), kind="stable"):
        if costs[i] <= left:  # a head may be too much where a channel is not
            mask[i], left = True, left - costs[i]
    return np.split(mask, np.cumsum([len(z) for z in scores])[:-1])


def _cut_channels(blocks, name, stays):
    """Keep some heads or channels that a layer reads, and what made them in the layer before."""
    W, X = blocks.weight(name), blocks.inputs(name)  # (out, in), (N, in)
    before = name.replace("project", "qkv").replace("mlp.2", "mlp.0")
    stays = np.repeat(stays, W.shape[1] // len(stays))  # (in,): a head's channels stay together
    new = np.zeros(W.shape)
    new[:, stays] = refit(W, X.T @ X, np.flatnonzero(stays))
    made = blocks.weight(before)  # (in, D), or (3 in, D): queries, keys and values
    rows = np.tile(stays, len(made) // len(stays))  # (in,) or (3 in,)
    blocks.replace(before, masked(made, rows[:, None], 0))
    blocks.replace(name, masked(new, stays, 0))


def by_shared_trains(blocks, ratio):
    """MPO: the same layer of all blocks together."""
    for layer in NAMES:
        names = [name for name in blocks.names if name.endswith(layer)]
        layers = mpo.compress([blocks.weight(name) for name in names], ratio)
        for name, compressed in zip(names, layers):
            blocks.replace(name, compressed)


def by_masks(blocks, ratio):
    """ACIP: masks of all singular values by the task's loss, then one threshold."""
    batches, steps = iter(blocks.mask_batches), len(blocks.mask_batches)
    weights = [blocks.weight(name) for name in blocks.names]

    def loss(tensors):
        batch = on_device(next(batches), blocks.device)
        named = {f"{name}.weight": tensor for name, tensor in zip(blocks.names, tensors)}
        scores = torch.func.functional_call(blocks.model, named, batch.inputs)  # (b, t, V)
        return F.cross_entropy(scores.flatten(0, -2), batch.targets.flatten())

    if "acip" not in blocks.cache:
        lr = 3 * acip.START / max(steps, 1)  # consistent gradients go three times their way to 0
        blocks.cache["acip"] = acip.learn(weights, loss, steps, lr)
    for name, layer in zip(blocks.names, acip.compress(weights, blocks.cache["acip"], ratio)):
        blocks.replace(name, layer)


ONE_BY_ONE = {"svd": plain_svd} | {one.name: one.run for one in LAYERS if one.kind == "layer"}
TOGETHER = {
    "numerical": by_channels,
    "modegpt": by_modules,
    "mpo": by_shared_trains,
    "acip": by_masks,
}
FORMS = tuple(ONE_BY_ONE | TOGETHER)


def check_forms(methods):
    """Refuse a method that is none of FORMS."""
    for method in methods:
        if method not in FORMS:
            raise InputError(f"method: expected one of {', '.join(FORMS)}, got {method!r}")


def compress_blocks(blocks, method, ratio):
    """Compress all layers by a method of FORMS; InputError for another, or a ratio out of reach."""
    check_forms([method])
    if method in TOGETHER:
        TOGETHER[method](blocks, ratio)
        return
    for name in blocks.names:
        W, X = blocks.weight(name), blocks.inputs(name)  # (out, in), (N, in)
        blocks.replace(name, ONE_BY_ONE[method](W, X, ratio))
