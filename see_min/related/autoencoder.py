"""Autoencoders of rows, for the methods that train one; only they need PyTorch.

    minimise  mean over batches of loss(x, decode(encode(x)), epoch)  by Adam
"""

import numpy as np

from see_min.related.registry import need_torch

SLOPE = 0.01  # of LeakyReLU below 0


def train(matrix, down, up, loss, seed=0, epochs=20, batch_size=32, halve=0):
    """Train, and keep codes and decoder; the encoder is thrown away.

    Parameters
    ----------
    matrix : array (V, D)
    down : tuple of int
        Widths of the encoder's layers, the last that of the codes.
    up : tuple of int
        Widths of the decoder's layers before the last, which has width D. LeakyReLU stands between.
    loss : callable(x, y, epoch) -> scalar tensor
    seed, epochs, batch_size : int
    halve : int
        Epochs after which the learning rate is halved, again and again; 0: never.

    Returns
    -------
    (codes (V, k), list of (weight (in, out), bias (out,)))
        As numpy arrays; `decode` puts them together.
    """
    torch = need_torch()
    x = torch.tensor(np.asarray(matrix), dtype=torch.float32)  # (V, D)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay where they are
        torch.manual_seed(seed)
        encoder = _layers(torch, (x.shape[1], *down))
        decoder = _layers(torch, (down[-1], *up, x.shape[1]))
        both = torch.nn.Sequential(encoder, decoder)
        adam = torch.optim.Adam(both.parameters(), 1e-3)
        for epoch in range(epochs):
            if halve and epoch and epoch % halve == 0:
                adam.param_groups[0]["lr"] /= 2
            for rows in torch.randperm(len(x)).split(batch_size):
                adam.zero_grad()
                loss(x[rows], both(x[rows]), epoch).backward()
                adam.step()
    with torch.no_grad():
        codes = encoder(x).double().numpy()  # (V, k)
    linear = [layer for layer in decoder if hasattr(layer, "weight")]
    pairs = [(layer.weight.detach().T, layer.bias.detach()) for layer in linear]
    return codes, [(weight.double().numpy(), bias.double().numpy()) for weight, bias in pairs]


def _layers(torch, widths):
    layers = []
    for a, b in zip(widths, widths[1:]):
        layers += [torch.nn.Linear(a, b), torch.nn.LeakyReLU(SLOPE)]
    return torch.nn.Sequential(*layers[:-1])  # none behind the last


def decode(codes, layers):
    """The decoder in numpy: codes (W, k) -> (W, D), LeakyReLU between layers.

    Examples
    --------
    >>> one = (np.array([[1.0]]), np.array([-3.0]))
    >>> decode(np.array([[1.0], [5.0]]), [one, one])           # -3 + 0.01 (1 - 3), -3 + (5 - 3)
    array([[-3.02],
           [-1.  ]])
    """
    for i, (weight, bias) in enumerate(layers):
        codes = codes if i == 0 else np.where(codes > 0, codes, SLOPE * codes)
        codes = codes @ weight + bias  # (W, out)
    return codes
