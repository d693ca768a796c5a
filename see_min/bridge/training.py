"""The training loop of every stage: schedule, gradient accumulation, bf16, clipping, and several processes.

One optimizer step takes one batch. Its rows are cut into equal parts, `accumulate` for each process; a part's loss is a mean
over what it counts, so parts are weighted by their counts and the step is that of the whole batch, whoever computes it. (Losses
divided by a variance take that of the part: there the step is only near.) Under torchrun the same command runs in every process:
all make the same batches, each keeps its own parts, and DistributedDataParallel averages the gradients.
"""

import math
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from see_min.checks import DataError, check_at_least
from see_min.sequences import IGNORE, Batch


@dataclass(frozen=True)
class Loop:
    """How steps are made.

    Attributes
    ----------
    accumulate : int
        Parts of a batch that one process takes one after the other; less memory, the same step.
    bf16 : bool
        Compute in bfloat16 where torch's autocast does; parameters and their gradients stay as they are.
    clip : float
        The norm that gradients are shortened to.
    warmup : int
        Steps until the peak learning rate.

    Raises
    ------
    DataError
        If a number is out of range.
    """

    accumulate: int = 1
    bf16: bool = False
    clip: float = 1.0
    warmup: int = 10

    def __post_init__(self):
        check_at_least("accumulate", self.accumulate, 1)
        check_at_least("warmup", self.warmup, 1)
        if not self.clip > 0:
            raise DataError(f"clip: expected a number above 0, got {self.clip}")


def cosine(step, steps, warmup=10, floor=0.05):
    """Learning-rate factor: linear warm-up, then half a cosine down to `floor`.

    Examples
    --------
    >>> [round(cosine(step, 100), 2) for step in (0, 9, 50, 100)]
    [0.1, 0.98, 0.53, 0.05]
    """
    return min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * step / steps)))


class Objective(nn.Module):
    """A model and its loss as one module, which is what DistributedDataParallel wants to see.

    Parameters
    ----------
    model : nn.Module
    loss : callable(model, batch) -> scalar tensor
        A mean over what `counted` counts.
    """

    def __init__(self, model, loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch):
        return self.loss(self.model, batch)


def pick_device(name):
    """torch.device for auto, cpu or cuda.

    Raises
    ------
    DataError
        If cuda is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise DataError("device: expected a machine with CUDA, got none: use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def processes():
    """(number of this process, how many there are): (0, 1) without torchrun."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def join_processes(device):
    """Under torchrun, join the others and return this process's device; else return `device`.

    Raises
    ------
    DataError
        If the others cannot be reached.
    """
    if "LOCAL_RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if not distributed.is_initialized():
        try:
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except (RuntimeError, ValueError) as error:
            raise DataError(f"torchrun: expected to reach the other processes, got {str(error).splitlines()[0]}") from None
    return device


def counted(batch, pad=None):
    """How many positions of a batch a loss is a mean over: those with a target, else those that are not padding."""
    if batch.targets is not None:
        return int((batch.targets != IGNORE).sum())
    return sum(ids.size if pad is None else int((ids != pad).sum()) for ids in batch.inputs)


def parts_of(batch, number):
    """The rows of a batch in `number` parts of nearly equal size.

    Raises
    ------
    DataError
        If there are fewer rows than parts.

    Examples
    --------
    >>> [part.inputs[0].tolist() for part in parts_of(Batch((np.array([[1], [2], [3]]),), None), 2)]
    [[[1], [2]], [[3]]]

    Source: ours.
    """
    rows = len(batch.inputs[0])
    if rows < number:
        raise DataError(f"batch: expected at least {number} rows, one for each part of each process, got {rows}")
    targets = [None] * number if batch.targets is None else np.array_split(batch.targets, number)
    columns = [np.array_split(ids, number) for ids in batch.inputs]
    return [Batch(tuple(inputs), target) for inputs, target in zip(zip(*columns), targets)]


def on_device(batch, device):
    """The batch as tensors on a device."""
    move = lambda array: None if array is None else torch.as_tensor(array).to(device)
    return Batch(tuple(map(move, batch.inputs)), move(batch.targets))


def train(objective, optimizer, batches, steps, label, loop=None, pad=None):
    """One optimizer step a batch; a progress bar on a terminal only.

    Parameters
    ----------
    objective : Objective
    optimizer : torch.optim.Optimizer
        Its learning rates are the peaks of the schedule.
    batches : iterable of Batch
    steps : int
        How many batches there are.
    loop : Loop, optional
    pad : int, optional
        Of batches without targets.

    Returns
    -------
    dict
        `loss` of the last step (over all processes), `tokens` read, `seconds`, `tokens_per_second`.

    Raises
    ------
    DataError
        If a batch has fewer rows than there are parts.

    Source: ours.
    """
    loop = loop or Loop()
    device = next(objective.parameters()).device
    rank, world = processes()
    run = objective if world == 1 else DistributedDataParallel(objective, find_unused_parameters=True)
    peak = [group["lr"] for group in optimizer.param_groups]
    moving = [p for group in optimizer.param_groups for p in group["params"]]
    start, tokens, loss = time.perf_counter(), 0, float("nan")
    for number, batch in enumerate(tqdm(batches, total=steps, desc=label, disable=True if rank else None, leave=False)):
        for group, rate in zip(optimizer.param_groups, peak):
            group["lr"] = rate * cosine(number, steps, loop.warmup)
        optimizer.zero_grad()
        total, last = counted(batch, pad), loop.accumulate - 1
        loss = torch.zeros((), device=device)
        for i, part in enumerate(parts_of(batch, world * loop.accumulate)[rank::world]):
            share = counted(part, pad) / max(total, 1)
            with run.no_sync() if world > 1 and i < last else nullcontext():
                with torch.autocast(device.type, torch.bfloat16, enabled=loop.bf16):
                    value = run(on_device(part, device))
                (value * (share * world)).backward()  # gradients of the processes are averaged
            loss += value.detach() * share
        nn.utils.clip_grad_norm_(moving, loop.clip)
        optimizer.step()
        tokens += counted(Batch(batch.inputs, None), pad)
    if world > 1 and steps:
        distributed.all_reduce(loss)
    seconds = time.perf_counter() - start
    return {"loss": float(loss), "tokens": tokens, "seconds": seconds, "tokens_per_second": tokens / seconds}
