"""A compressed embedding and its tied head in models whose parameters are shared by processes."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from see_min.bridge import compress


class Small(nn.Module):
    """An embedding, a layer, and a head that is tied to the embedding."""

    def __init__(self, V=61, D=12):
        super().__init__()
        self.embedding, self.layer = nn.Embedding(V, D), nn.Linear(D, D)
        self.head = nn.Linear(D, V, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids):
        return self.head(self.layer(self.embedding(ids)))  # (B, L) -> (B, L, V)


def work(rank, kind, meeting):
    """One of two processes: the loss and all gradients are those of the model as a whole."""
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = Small()
    compress(model, [f"word{i}" for i in range(61)], ratio=3, lexicon="none")
    whole, ids = copy.deepcopy(model), torch.randint(0, 61, (2, 7))
    loss = whole(ids).logsumexp(-1).mean()
    loss.backward()
    wanted = {name: p.grad for name, p in whole.named_parameters()}
    if kind == "FSDP1":
        cpu = torch.device("cpu")
        sharded = FullyShardedDataParallel(model, use_orig_params=True, device_id=cpu)
    else:
        sharded = fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    found = sharded(ids).logsumexp(-1).mean()
    found.backward()
    torch.testing.assert_close(found, loss)
    if kind == "FSDP1":
        with FullyShardedDataParallel.summon_full_params(sharded, with_grads=True):
            grads = {name.rpartition("_fsdp_wrapped_module.")[2]: p.grad
                     for name, p in sharded.named_parameters()}
    else:
        grads = {name: p.grad.full_tensor() for name, p in model.named_parameters()}
    assert grads.keys() == wanted.keys() and any(g.abs().max() > 0 for g in wanted.values())
    for name, grad in grads.items():
        torch.testing.assert_close(grad, wanted[name])
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", ["FSDP1", "FSDP2"])
def test_loss_and_gradients_of_a_sharded_model_are_those_of_the_whole(kind, tmp_path):
    torch.multiprocessing.spawn(work, args=(kind, tmp_path / "meeting"), nprocs=2)
