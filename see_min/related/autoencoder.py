"""Autoencoders of rows, for the methods that train one. The only file of the family's embedding methods that needs PyTorch.

    minimise  mean over batches of loss(x, decode(encode(x)), epoch)  by Adam
"""

import numpy as np

from see_min.related.registry import need_torch

SLOPE = 0.01  # of LeakyReLU below 0


def train(matrix, down, up, loss, seed=0, epochs=20, batch=32, rate=1e-3, halve=0):
    """Train, and keep codes and decoder; the encoder is thrown away.

    Parameters
    ----------
    matrix : array (V, D)
    down : tuple of int
        Widths of the encoder's layers, the last that of the codes.
    up : tuple of int
        Widths of the decoder's layers before the last, which has width D. LeakyReLU stands between layers.
    loss : callable(x, y, epoch) -> scalar tensor
    seed : int
    epochs, batch : int
    rate : float
    halve : int
        Epochs after which the rate is halved, again and again; 0: never.

    Returns
    -------
    (codes (V, k), list of (weight (in, out), bias (out,)))
        As numpy arrays; `decode` puts them together.

    Raises
    ------
    DataError
        If PyTorch is not installed.

    Source: ours; what is trained comes from the methods.
    """
    torch = need_torch()
    x = torch.tensor(np.asarray(matrix), dtype=torch.float32)  # (V, D)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay where they are
        torch.manual_seed(seed)
        encoder, decoder = _layers(torch, (x.shape[1], *down)), _layers(torch, (down[-1], *up, x.shape[1]))
        run = torch.nn.Sequential(encoder, decoder)
        steps = torch.optim.Adam(run.parameters(), rate)
        for epoch in range(epochs):
            if halve and epoch and epoch % halve == 0:
                steps.param_groups[0]["lr"] /= 2
            for rows in torch.randperm(len(x)).split(batch):
                steps.zero_grad()
                loss(x[rows], run(x[rows]), epoch).backward()
                steps.step()
    with torch.no_grad():
        codes = encoder(x).double().numpy()  # (V, k)
    linear = [layer for layer in decoder if hasattr(layer, "weight")]
    return codes, [tuple(array.detach().double().numpy() for array in (one.weight.T, one.bias)) for one in linear]


def _layers(torch, widths):
    pairs = [(torch.nn.Linear(a, b), torch.nn.LeakyReLU(SLOPE)) for a, b in zip(widths, widths[1:])]
    return torch.nn.Sequential(*[layer for pair in pairs for layer in pair][:-1])  # none behind the last


def decode(codes, layers):
    """The decoder in numpy: codes (W, k) -> (W, D), LeakyReLU between layers.

    Examples
    --------
    >>> one = (np.array([[1.0]]), np.array([-3.0]))
    >>> decode(np.array([[1.0], [5.0]]), [one, one])              # -3 + 0.01 (1 - 3), -3 + (5 - 3)
    array([[-3.02],
           [-1.  ]])

    Source: ours.
    """
    for i, (weight, bias) in enumerate(layers):
        codes = codes if i == 0 else np.where(codes > 0, codes, SLOPE * codes)
        codes = codes @ weight + bias  # (W, out)
    return codes
