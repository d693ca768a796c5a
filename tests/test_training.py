"""The loop: parts of a batch give the step of the whole, in one process or in two; bf16; refusals."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from see_min.bridge import GPTConfig, TinyGPT, stage1, stage2, swap_embedding
from see_min.bridge.training import Loop, Objective, counted, join_processes, parts_of, processes, train
from see_min.checks import DataError
from see_min.encoding import SememeEncoding
from see_min.sequences import IGNORE, Batch

torch.set_num_threads(1)
V, D, T = 23, 8, 5


def pair():
    """A dense teacher and a student with a random encoding."""
    torch.manual_seed(0)
    teacher = TinyGPT(GPTConfig(vocabulary=V, dimension=D, blocks=2, heads=2, context=T)).eval()
    student, rng = copy.deepcopy(teacher), np.random.default_rng(0)
    tables = [0.3 * rng.standard_normal((7, 3, q)) for q in (4, 2)]
    swap_embedding(student, SememeEncoding(tables, rng.integers(0, 7, (V, 2))), "token_embedding")
    return student, teacher


def some_batches(count, rows=4):
    windows = np.random.default_rng(1).integers(0, V, (count, rows, T + 1))
    return [Batch((window[:, :-1],), window[:, 1:]) for window in windows]


def losses(stage, steps=3, loop=None):
    """The loss of the last step after 1, 2, ... steps, and the student's parameters in the end."""
    found = []
    for last in range(1, steps + 1):
        student, teacher = pair()
        found.append(stage(student, teacher, some_batches(steps)[:last], last, loop=loop)["loss"])
    return found, [p.detach().clone() for p in student.parameters()]


def test_accumulated_parts_of_a_language_batch_make_the_step_of_the_whole():
    """D40: with four parts a batch."""
    whole, parameters = losses(stage2)
    parts, again = losses(stage2, loop=Loop(accumulate=4))
    assert parts == pytest.approx(whole, rel=1e-5)
    for one, other in zip(parameters, again):  # Adam divides by small numbers: float32 shows
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_parts_with_unequal_numbers_of_targets_are_weighted_by_them():
    """D40: the gradient is that of the mean over all targets."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(1, 1, bias=False)
    batch = Batch((np.array([[1.0], [2.0], [5.0]], np.float32),), np.array([[3, 4], [5, IGNORE], [6, IGNORE]]))

    def mean_of_targets(model, part):  # stands for any mean over the targets
        values = (model(part.inputs[0]) * torch.ones_like(part.targets))[part.targets != IGNORE]
        return values.mean()

    gradients = []
    for accumulate in (1, 2, 3):
        one = copy.deepcopy(layer)
        optimizer = torch.optim.SGD(one.parameters(), lr=0.0)
        train(Objective(one, mean_of_targets), optimizer, [batch], 1, "", Loop(accumulate=accumulate, clip=1e9))
        gradients.append(float(one.weight.grad))
    assert gradients == pytest.approx([(1 + 1 + 2 + 5) / 4] * 3)


def test_positions_that_count_are_those_with_a_target_or_without_padding():
    ids = np.array([[4, 5, 0], [6, 0, 0]])
    assert counted(Batch((ids,), np.array([[1, IGNORE, IGNORE], [IGNORE] * 3]))) == 1
    assert counted(Batch((ids,), None), pad=0) == 3 and counted(Batch((ids, ids), None)) == 12


def test_parts_keep_every_row_once_and_in_order():
    batch = some_batches(1, rows=7)[0]
    parts = parts_of(batch, 3)
    assert np.array_equal(np.concatenate([part.inputs[0] for part in parts]), batch.inputs[0])
    assert np.array_equal(np.concatenate([part.targets for part in parts]), batch.targets)


def test_a_batch_with_fewer_rows_than_parts_is_refused():
    with pytest.raises(DataError, match="batch: expected at least 5 rows, one for each part of each process, got 4"):
        losses(stage2, 1, Loop(accumulate=5))


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"accumulate": 0}, "accumulate: expected at least 1, got 0"), ({"warmup": 0}, "warmup: expected at least 1, got 0"),
     ({"clip": 0.0}, "clip: expected a number above 0, got 0.0"), ({"clip": float("nan")}, "clip: expected a number above 0")],
)
def test_a_loop_that_cannot_run_is_refused(settings, text):
    with pytest.raises(DataError, match=text):
        Loop(**settings)


@pytest.mark.parametrize("stage", [stage1, stage2])
def test_bf16_is_near_float32_and_leaves_parameters_in_float32(stage):
    (exact,), _ = losses(stage, 1)
    (rounded,), parameters = losses(stage, 1, Loop(bf16=True))
    assert rounded != exact and rounded == pytest.approx(exact, rel=0.05)  # 8 bits of a mantissa
    assert {p.dtype for p in parameters} == {torch.float32}


def test_clipping_bounds_the_gradient_of_a_step():
    student, teacher = pair()
    stage2(student, teacher, some_batches(1), 1, loop=Loop(clip=1e-3))
    assert sum(float((p.grad**2).sum()) for p in student.parameters()) ** 0.5 <= 1.001e-3


def test_throughput_is_tokens_by_seconds():
    student, teacher = pair()
    result = stage1(student, teacher, some_batches(2), 2)
    assert result["tokens"] == 2 * 4 * T
    assert result["tokens_per_second"] == pytest.approx(result["tokens"] / result["seconds"])


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert processes() == (0, 1) and join_processes(torch.device("cpu")) == torch.device("cpu")


SCRIPT = """
import json, sys
import torch
sys.path.insert(0, sys.argv[1])
import test_training as here
from see_min.bridge import stage1, stage2
from see_min.bridge.training import Loop, join_processes, processes
join_processes(torch.device("cpu"))
found = {name: here.losses(stage, loop=Loop(accumulate=accumulate))[0]
         for name, stage, accumulate in (("stage1", stage1, 1), ("stage2", stage2, 1), ("accumulated", stage2, 2))}
rank, world = processes()
weights = float(here.losses(stage2)[1][-1].double().sum())
open(f"{sys.argv[2]}/{rank}.json", "w").write(json.dumps({"world": world, "losses": found, "weights": weights}))
torch.distributed.destroy_process_group()
"""


def test_two_processes_under_torchrun_have_the_losses_of_one(tmp_path):
    """D40: with processes in the place of parts."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    folder = str(Path(__file__).parent)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script), folder]
    command.append(str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert results[0] == results[1] and results[0]["world"] == 2
    one = {"stage2": losses(stage2)[0], "accumulated": losses(stage2)[0]}
    for name, expected in one.items():
        assert results[0]["losses"][name] == pytest.approx(expected, rel=1e-4), name
    # stage 1 divides by the variance of each part: near, not equal
    assert results[0]["losses"]["stage1"] == pytest.approx(losses(stage1)[0], rel=0.2)
