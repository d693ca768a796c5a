"""CSformer, the whole in small: linear measurements, then a CNN and a transformer side by side.

    minimise  mean ||x - f(Phi x)||^2 over crops of images,
    f = R y + fuse(CNN(R y), transformer(R y))

Phi and R start as the principal components of `see_min.related.layers.csformer` and train with the
rest. The CNN sees neighbours, the transformer attends within windows of 16 x 16 between patches of
4 x 4, and a last convolution puts both on top of the linear image; it starts at 0, so that training
begins at the linear stem. n parameters per block of 256 are kept; the net serves all images.

Source: arXiv 2112.15299. Simplified: one scale, one block of each stem, crops of one photograph.
Ours: every size, and how it is trained.
"""

import numpy as np

from see_min.errors import require
from see_min.related.layers.csformer import SIDE, blocks, learned, measurements

torch = require("torch")
nn, F = torch.nn, torch.nn.functional

PATCH, WIDTH, HEADS = 4, 16, 2
INNER = WIDTH * PATCH  # of the transformer


class Windows(nn.Module):
    """The transformer: images (b, 1, H, W) -> (b, width, H, W), each window for itself."""

    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(PATCH**2, INNER), nn.Linear(INNER, WIDTH * PATCH**2)
        self.positions = nn.Parameter(torch.zeros((SIDE // PATCH) ** 2, INNER))
        form = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        self.mix = nn.TransformerEncoderLayer(INNER, HEADS, 2 * INNER, **form)

    def forward(self, image):
        windows = F.unfold(image, SIDE, stride=SIDE).transpose(1, 2)  # (b, H W / 256, 256)
        windows = windows.reshape(-1, 1, SIDE, SIDE)  # (b H W / 256, 1, 16, 16)
        patches = F.unfold(windows, PATCH, stride=PATCH).transpose(1, 2)  # (.., 16, 16)
        patches = self.out(self.mix(self.into(patches) + self.positions))  # (.., 16, 16 width)
        windows = F.fold(patches.transpose(1, 2), SIDE, PATCH, stride=PATCH)  # (.., width, 16, 16)
        windows = windows.reshape(len(image), -1, WIDTH * SIDE**2)  # (b, H W / 256, 256 width)
        return F.fold(windows.transpose(1, 2), image.shape[2:], SIDE, stride=SIDE)


class CSformer(nn.Module):
    """The net for Phi (n, 256): images (b, 1, H, W) -> rebuilt ones, H and W multiples of 16."""

    def __init__(self, Phi):
        super().__init__()
        self.Phi = nn.Parameter(torch.tensor(Phi, dtype=torch.float32))  # (n, 256)
        self.R = nn.Parameter(torch.tensor(Phi.T.copy(), dtype=torch.float32))  # (256, n)
        first, second = (nn.Conv2d(into, WIDTH, 3, padding=1) for into in (1, WIDTH))
        self.cnn = nn.Sequential(first, nn.GELU(), second, nn.GELU())
        self.transformer = Windows()
        self.fuse = nn.Conv2d(2 * WIDTH, 1, 3, padding=1)
        nn.init.zeros_(self.fuse.weight)
        nn.init.zeros_(self.fuse.bias)

    def forward(self, image):
        y = self.Phi @ F.unfold(image, SIDE, stride=SIDE)  # (b, n, H W / 256)
        linear = F.fold(self.R @ y, image.shape[2:], SIDE, stride=SIDE)  # (b, 1, H, W)
        both = [self.cnn(linear), self.transformer(linear)]  # (b, width, H, W) each
        return linear + self.fuse(torch.cat(both, dim=1))


def train(image, share, steps=100, seed=0, size=64, batch_size=8, lr=2e-3):
    """A net trained on random crops of an image (H, W); the caller's random numbers stay."""
    rows, rng = blocks(image), np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = CSformer(learned(rows.T @ rows, measurements(share)))
    whole = torch.tensor(image, dtype=torch.float32)[None]  # (1, H, W)
    adam = torch.optim.Adam(net.parameters(), lr)
    for step in range(steps):
        adam.param_groups[0]["lr"] = lr * (1 - step / steps)
        tops = [rng.integers(0, np.subtract(image.shape, size) + 1) for _ in range(batch_size)]
        crops = [whole[:, top : top + size, left : left + size] for top, left in tops]
        crops = torch.stack(crops)  # (b, 1, size, size)
        adam.zero_grad()
        (net(crops) - crops).square().mean().backward()
        adam.step()
    return net.eval()
