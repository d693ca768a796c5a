"""The training loop: schedule, gradient accumulation, bf16, clipping, and several processes.

One optimizer step takes one batch. Its rows are cut into micro-batches, `accumulate` per process.
The loss of a micro-batch is a mean over its targets, so its gradient is weighted by their number,
and the step is that of the whole batch (D40). Losses divided by a variance take the micro-batch's:
there the step is only near. Under torchrun every process makes the same batches and keeps its own
micro-batches; DistributedDataParallel averages the gradients.
"""

import math
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from see_min.errors import InputError
from see_min.toy.data import IGNORE, Batch

FLOOR = 0.05  # of the learning rate's factor
MAX_NORM = 1.0  # gradients are shortened to it


@dataclass(frozen=True)
class TrainConfig:
    """How steps are made."""

    accumulate: int = 1  # micro-batches per process, one after the other: less memory, same step
    bf16: bool = False  # compute in bfloat16 where autocast does; parameters stay as they are
    warmup: int = 10  # steps until the peak learning rate


class LossModule(nn.Module):
    """A model and ``loss(model, batch)``, a mean over `count_targets` positions, as one module."""

    def __init__(self, model, loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch):
        return self.loss(self.model, batch)


def cosine(step, steps, warmup=10):
    """Factor of the learning rate: linear warm-up, then half a cosine down to FLOOR.

    >>> [round(cosine(step, 100), 2) for step in (0, 9, 50, 100)]
    [0.1, 0.98, 0.53, 0.05]
    """
    wave = 0.5 * (1 + math.cos(math.pi * step / max(steps, 1)))
    return min(1.0, (step + 1) / warmup) * (FLOOR + (1 - FLOOR) * wave)


def pick_device(name):
    """torch.device for "auto", "cpu" or "cuda"; refuses a cuda that is absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: expected a machine with CUDA, got none: use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def processes():
    """(number of this process, how many there are): (0, 1) without torchrun."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def of_the_first(array, device):
    """An array of numpy as the first process has it: sums may differ by rounding errors."""
    if processes()[1] == 1:
        return array
    shared = torch.as_tensor(array).to(device)
    distributed.broadcast(shared, 0)
    return shared.cpu().numpy()


def join_processes(device):
    """Under torchrun, join the others and return this process's device; else return `device`."""
    if "LOCAL_RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if not distributed.is_initialized():
        try:
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"torchrun: expected the other processes, got {reason}") from None
    return device


def count_targets(batch, pad=None):
    """How many positions a loss is a mean over: those with a target, else those not padding."""
    if batch.targets is not None:
        return int((batch.targets != IGNORE).sum())
    return count_tokens(batch, pad)


def count_tokens(batch, pad=None):
    """How many positions a model reads, padding left out."""
    return sum(ids.size if pad is None else int((ids != pad).sum()) for ids in batch.inputs)


def micro_batches(batch, number):
    """The rows of a batch in `number` parts of nearly equal size; InputError for fewer rows.

    >>> batch = Batch((np.array([[1], [2], [3]]),), None)
    >>> [part.inputs[0].tolist() for part in micro_batches(batch, 2)]
    [[[1], [2]], [[3]]]
    """
    rows = len(batch.inputs[0])
    if rows < number:
        raise InputError(f"batch: expected at least {number} rows, "
                         f"one for each part of each process, got {rows}")
    none = [None] * number
    targets = none if batch.targets is None else np.array_split(batch.targets, number)
    inputs = zip(*(np.array_split(ids, number) for ids in batch.inputs), strict=True)
    return [Batch(*part) for part in zip(inputs, targets, strict=True)]


def on_device(batch, device):
    """The batch as tensors on a device."""
    inputs = tuple(torch.as_tensor(ids).to(device) for ids in batch.inputs)
    targets = None if batch.targets is None else torch.as_tensor(batch.targets).to(device)
    return Batch(inputs, targets)


def train(module, optimizer, batches, steps, label, config=None, pad=None):
    """One optimizer step per batch; a progress bar with its label on a terminal only.

    The optimizer's learning rates are the peaks of the schedule; `steps` is the number of batches,
    and `pad` fills up those without targets. `loss` is that of the last step, over all processes.
    """
    config = config or TrainConfig()
    rank, world = processes()
    parallel = DistributedDataParallel(module, find_unused_parameters=True) if world > 1 else module
    schedule = LambdaLR(optimizer, partial(cosine, steps=steps, warmup=config.warmup))
    moving = [p for group in optimizer.param_groups for p in group["params"]]
    start, tokens, loss = time.perf_counter(), 0, torch.tensor(math.nan)
    hidden = True if rank else None  # None: shown on a terminal only
    for batch in tqdm(batches, total=steps, desc=label, disable=hidden, leave=False):
        optimizer.zero_grad()
        loss = accumulate_gradients(parallel, batch, config, pad)
        nn.utils.clip_grad_norm_(moving, MAX_NORM)
        optimizer.step()
        schedule.step()
        tokens += count_tokens(batch, pad)
    if world > 1 and steps:
        distributed.all_reduce(loss)
    seconds = time.perf_counter() - start
    rate = tokens / seconds
    return {"loss": float(loss), "tokens": tokens, "seconds": seconds, "tokens_per_second": rate}


def accumulate_gradients(module, batch, config, pad=None):
    """Add this process's share of the gradient of a batch; return its share of the loss."""
    rank, world = processes()
    device = next(module.parameters()).device
    total = max(count_targets(batch, pad), 1)
    loss = torch.zeros((), device=device)
    own = micro_batches(batch, world * config.accumulate)[rank::world]
    for i, part in enumerate(own):
        share = count_targets(part, pad) / total
        waits = world > 1 and i < len(own) - 1  # processes meet once per batch
        with module.no_sync() if waits else nullcontext():
            with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
                value = module(on_device(part, device))
            (value * (share * world)).backward()  # gradients of the processes are averaged
        loss += value.detach() * share
    return loss


def split_parameters(model, names):
    """(parameters of the modules of these dotted names, the others), each once."""
    own = dict.fromkeys(p for name in names for p in model.get_submodule(name).parameters())
    return list(own), [p for p in model.parameters() if p not in own]


def cross_entropy(logits, targets):
    """Mean of -ln p(target) over positions with a target: logits (..., V), targets (...)."""
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORE)


def pretrain(model, batches, steps, lr=2e-3, weight_decay=2.0, config=None, label="teacher"):
    """Cross-entropy training of a toy model with AdamW; the result is that of `train`.

    The embeddings alone have a strong weight decay: it takes the noise of the initial values off
    the rows of rare words, which a compression would otherwise spend its parameters on.
    """
    embeddings, others = split_parameters(model, model.embeddings)
    groups = [{"params": embeddings, "weight_decay": weight_decay}, {"params": others}]
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=0.05, betas=(0.9, 0.99))

    def loss(model, batch):
        return cross_entropy(model(*batch.inputs), batch.targets)

    model.train()
    try:
        return train(LossModule(model, loss), optimizer, batches, steps, label, config)
    finally:
        model.eval()
