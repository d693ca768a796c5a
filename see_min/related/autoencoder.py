"""Autoencoders of rows, for the methods that train one; only they need PyTorch.

    minimise  mean over batches of loss(x, decode(encode(x)), epoch)  by Adam
"""

from dataclasses import dataclass

import numpy as np

from see_min.errors import check_ids, require

SLOPE = 0.01  # of LeakyReLU below 0


@dataclass
class Decoded:
    """E (V, D) as codes (V, k) and a decoder, a list of (weight (in, out), bias (out,))."""

    codes: np.ndarray
    decoder: list
    index_bytes = 0

    @property
    def shape(self):
        """(V, D)."""
        return len(self.codes), len(self.decoder[-1][1])

    @property
    def parameters(self):
        """Those of codes, weights and biases."""
        return self.codes.size + sum(array.size for layer in self.decoder for array in layer)

    def rows(self, ids):
        """Embeddings of words, ids (...) -> (..., D)."""
        return decode(self.codes[check_ids("ids", ids, len(self.codes))], self.decoder)


def decode(codes, decoder):
    """The decoder in numpy: codes (..., k) -> (..., D), LeakyReLU between layers.

    >>> one = (np.array([[1.0]]), np.array([-3.0]))
    >>> decode(np.array([[1.0], [5.0]]), [one, one])           # -3 + 0.01 (1 - 3), -3 + (5 - 3)
    array([[-3.02],
           [-1.  ]])
    """
    for i, (weight, bias) in enumerate(decoder):
        codes = codes if i == 0 else np.where(codes > 0, codes, SLOPE * codes)
        codes = codes @ weight + bias  # (..., out)
    return codes


def train(matrix, down, up, loss, seed=0, epochs=20, batch_size=32, halve=0):
    """Train on rows (V, D): codes (V, k) and decoder, as in `Decoded`; the encoder is thrown away.

    Widths are those of the encoder's layers, `down`, the last that of the codes, and of the
    decoder's layers before the last, `up`. `loss(x, y, epoch)` is a scalar tensor. After every
    `halve` epochs the learning rate is halved; 0: never.
    """
    torch = require("torch")
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
        arrays = [array.double().numpy() for array in decoder.parameters()]
    weights, biases = arrays[::2], arrays[1::2]
    return codes, [(weight.T, bias) for weight, bias in zip(weights, biases)]


def _layers(torch, widths):
    layers = []
    for a, b in zip(widths, widths[1:]):
        layers += [torch.nn.Linear(a, b), torch.nn.LeakyReLU(SLOPE)]
    return torch.nn.Sequential(*layers[:-1])  # none behind the last
