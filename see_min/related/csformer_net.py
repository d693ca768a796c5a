"""CSformer, the whole in small: linear measurements and a first image, then a CNN and a transformer side by side.

    minimise  mean ||x - f(Phi x)||^2 over crops of images,  f = R y + fuse(CNN(R y), transformer(R y))

Phi and R start as the principal components of `see_min.related.csformer` and train with the rest. The CNN sees neighbours, the
transformer attends within windows of 16 x 16 between patches of 4 x 4, and a last convolution puts both on top of the linear
image; it starts at 0, so that training begins at the linear stem. n floats a block of 256 are kept; the net serves all images.

Source: arXiv 2112.15299. Simplified: one scale, one block of each stem, crops of one photograph. Ours: every size, and
how it is trained.
"""

import numpy as np

from see_min.related.csformer import SIDE, blocks, learned, measurements
from see_min.related.registry import need_torch

PATCH = 4


def network(Phi, width=16, heads=2):
    """The net for Phi (n, 256): images (b, 1, H, W) -> rebuilt ones, H and W multiples of 16; `linear_only=True` stops early.

    Raises
    ------
    DataError
        If PyTorch is not installed.

    Source: arXiv 2112.15299.
    """
    torch = need_torch()
    nn, F = torch.nn, torch.nn.functional

    class CSformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.Phi, self.R = (nn.Parameter(torch.tensor(array, dtype=torch.float32)) for array in (Phi, Phi.T.copy()))
            near = lambda into, out: nn.Conv2d(into, out, 3, padding=1)
            self.cnn = nn.Sequential(near(1, width), nn.GELU(), near(width, width), nn.GELU())
            inner = width * PATCH
            self.into, self.out = nn.Linear(PATCH**2, inner), nn.Linear(inner, width * PATCH**2)
            self.place = nn.Parameter(torch.zeros((SIDE // PATCH) ** 2, inner))
            self.mix = nn.TransformerEncoderLayer(inner, heads, 2 * inner, dropout=0.0, activation="gelu", batch_first=True,
                                                  norm_first=True)
            self.fuse = near(2 * width, 1)
            for parameter in self.fuse.parameters():
                nn.init.zeros_(parameter)

        def windows(self, image):
            """(b, 1, H, W) -> (b H W / 256, 16, 16), a patch a row."""
            cells = F.unfold(image, SIDE, stride=SIDE).transpose(1, 2).reshape(-1, 1, SIDE, SIDE)
            return F.unfold(cells, PATCH, stride=PATCH).transpose(1, 2)

        def images(self, rows, shape):
            """(b H W / 256, 16, width 16) -> (b, width, H, W), the way back."""
            cells = F.fold(rows.transpose(1, 2), SIDE, PATCH, stride=PATCH)  # (b H W / 256, width, 16, 16)
            rows = cells.reshape(shape[0], -1, cells.shape[1] * SIDE**2).transpose(1, 2)
            return F.fold(rows, shape[2:], SIDE, stride=SIDE)

        def forward(self, image, linear_only=False):
            y = self.Phi @ F.unfold(image, SIDE, stride=SIDE)  # (b, n, H W / 256)
            first = F.fold(self.R @ y, image.shape[2:], SIDE, stride=SIDE)  # (b, 1, H, W)
            if linear_only:
                return first
            seen = self.out(self.mix(self.into(self.windows(first)) + self.place))
            return first + self.fuse(torch.cat([self.cnn(first), self.images(seen, image.shape)], dim=1))

    return CSformer()


def train(image, share, steps=100, seed=0, size=64, batch=8, rate=2e-3):
    """A net trained on random crops of an image (H, W): the module; the caller's random numbers stay where they are.

    Raises
    ------
    ShapeError, DataError
        If the image is not in whole blocks, the share is out of range, or PyTorch is not installed.

    Source: arXiv 2112.15299 for the aim.
    """
    torch, rows = need_torch(), blocks(image)
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network(learned(rows.T @ rows, measurements(share)))
    whole, adam = torch.tensor(image, dtype=torch.float32), torch.optim.Adam(net.parameters(), rate)
    for step in range(steps):
        adam.param_groups[0]["lr"] = rate * (1 - step / steps)
        corners = [rng.integers(0, np.subtract(image.shape, size) + 1) for _ in range(batch)]
        crops = torch.stack([whole[None, top : top + size, left : left + size] for top, left in corners])  # (b, 1, size, size)
        adam.zero_grad()
        (net(crops) - crops).square().mean().backward()
        adam.step()
    return net.eval()
