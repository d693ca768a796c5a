"""The loop: micro-batches give the step of the whole, in one process or two; bf16; refusals."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from see_min.errors import InputError
from see_min.toy import training
from see_min.toy.data import IGNORE, Batch
from see_min.toy.models import GPTConfig, TinyGPT
from see_min.toy.training import (
    LossModule,
    TrainConfig,
    cosine,
    count_targets,
    cross_entropy,
    join_processes,
    micro_batches,
    pick_device,
    processes,
    train,
)

torch.set_num_threads(1)
V, D, T = 23, 8, 5


def some_batches(count, rows=4):
    windows = np.random.default_rng(1).integers(0, V, (count, rows, T + 1))
    return [Batch((window[:, :-1],), window[:, 1:]) for window in windows]


def trained(batches, config=None):
    """(result, model) of a small GPT."""
    torch.manual_seed(0)
    model = TinyGPT(GPTConfig(V, D, n_layer=2, n_head=2, block_size=T))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    module = LossModule(model, lambda model, b: cross_entropy(model(*b.inputs), b.targets))
    return train(module, optimizer, batches, len(batches), "test", config), model


def losses(steps=3, config=None):
    """The loss of the last step after 1, 2, ... steps, and the parameters in the end."""
    runs = [trained(some_batches(steps)[:last], config) for last in range(1, steps + 1)]
    return [result["loss"] for result, _ in runs], list(runs[-1][1].parameters())


def test_accumulated_parts_of_a_language_batch_make_the_step_of_the_whole():
    """D40: with four parts a batch."""
    whole, parameters = losses()
    parts, again = losses(config=TrainConfig(accumulate=4))
    assert parts == pytest.approx(whole, rel=1e-5)
    for one, other in zip(parameters, again, strict=True):  # Adam divides by small numbers
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_parts_with_unequal_numbers_of_targets_are_weighted_by_them(monkeypatch):
    """D40: the gradient is that of the mean over all targets."""
    monkeypatch.setattr(training, "MAX_NORM", 1e9)
    layer = torch.nn.Linear(1, 1, bias=False)
    inputs = np.array([[1.0], [2.0], [5.0]], np.float32)
    batch = Batch((inputs,), np.array([[3, 4], [5, IGNORE], [6, IGNORE]]))

    def mean_of_targets(model, part):  # stands for any mean over the targets
        values = model(part.inputs[0]) * torch.ones_like(part.targets)
        return values[part.targets != IGNORE].mean()

    gradients = []
    for accumulate in (1, 2, 3):
        one = copy.deepcopy(layer)
        optimizer = torch.optim.SGD(one.parameters(), lr=0.0)
        config = TrainConfig(accumulate=accumulate)
        train(LossModule(one, mean_of_targets), optimizer, [batch], 1, "", config)
        gradients.append(float(one.weight.grad))
    assert gradients == pytest.approx([(1 + 1 + 2 + 5) / 4] * 3)
    assert gradients[0] != pytest.approx((1 + 2 + 5) / 3)  # the mean of the parts' means


def test_positions_that_count_are_those_with_a_target_or_without_padding():
    ids = np.array([[4, 5, 0], [6, 0, 0]])
    targets = np.array([[1, IGNORE, IGNORE], [IGNORE] * 3])
    assert count_targets(Batch((ids,), targets)) == 1
    assert count_targets(Batch((ids,), None), pad=0) == 3


def test_micro_batches_keep_every_row_once_and_in_order():
    batch = some_batches(1, rows=7)[0]
    parts = micro_batches(batch, 3)
    assert np.array_equal(np.concatenate([part.inputs[0] for part in parts]), batch.inputs[0])
    assert np.array_equal(np.concatenate([part.targets for part in parts]), batch.targets)
    text = "batch: expected at least 8 rows, one for each part of each process, got 7"
    with pytest.raises(InputError, match=text):
        micro_batches(batch, 8)


def test_a_machine_without_cuda_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="device: expected a machine with CUDA, got none"):
        pick_device("cuda")


def test_bf16_is_near_float32_and_leaves_parameters_in_float32():
    (exact,), _ = losses(1)
    (rounded,), parameters = losses(1, TrainConfig(bf16=True))
    assert rounded != exact and rounded == pytest.approx(exact, rel=0.05)  # 8 bits of a mantissa
    assert {p.dtype for p in parameters} == {torch.float32}


def test_clipping_bounds_the_gradient_of_a_step(monkeypatch):
    monkeypatch.setattr(training, "MAX_NORM", 1e-3)
    _, model = trained(some_batches(1))
    assert sum(float((p.grad**2).sum()) for p in model.parameters()) ** 0.5 <= 1.001e-3


def test_every_step_has_the_rate_of_the_schedule_and_groups_keep_their_proportion():
    model = torch.nn.Linear(1, 1)
    groups = [{"params": [model.weight], "lr": 1.0}, {"params": [model.bias], "lr": 3.0}]
    optimizer = torch.optim.SGD(groups)
    seen = []

    def loss(model, batch):
        seen.append([group["lr"] for group in optimizer.param_groups])
        return model(batch.inputs[0]).mean()

    batches = [Batch((np.ones((2, 1), np.float32),), None)] * 9
    train(LossModule(model, loss), optimizer, batches, 9, "", TrainConfig(warmup=4))
    expected = [[peak * cosine(step, 9, 4) for peak in (1.0, 3.0)] for step in range(9)]
    np.testing.assert_allclose(seen, expected, rtol=1e-12)


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert processes() == (0, 1)
    assert join_processes(torch.device("cpu")) == torch.device("cpu")


SCRIPT = """
import json, sys
import torch
sys.path.insert(0, sys.argv[1])
import test_training as here
from see_min.toy.training import TrainConfig, join_processes, processes
join_processes(torch.device("cpu"))
whole, parameters = here.losses()
parts, _ = here.losses(config=TrainConfig(accumulate=2))
rank, world = processes()
weights = float(parameters[-1].double().sum())
found = {"world": world, "whole": whole, "parts": parts, "weights": weights}
open(f"{sys.argv[2]}/{rank}.json", "w").write(json.dumps(found))
torch.distributed.destroy_process_group()
"""


def test_two_processes_under_torchrun_have_the_losses_of_one(tmp_path):
    """D40: with processes instead of parts."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, str(script), str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert results[0] == results[1] and results[0]["world"] == 2
    expected = losses()[0]
    for name in ("whole", "parts"):
        assert results[0][name] == pytest.approx(expected, rel=1e-4), name
