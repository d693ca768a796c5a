"""Layer methods in models: what stands in the blocks, what it computes and counts, and the comparison as a command."""

import copy
import itertools
import json
import shutil

import numpy as np
import pytest
import torch

from see_min.__main__ import main
from see_min.bridge import compare_layers
from see_min.bridge.compare_layers import METHODS, LayerTask, check_task, held_out_loss
from see_min.bridge.finetune import stage2
from see_min.bridge.layer_forms import Blocks, Rebuilt, by_channels, by_modules, compress_blocks
from see_min.bridge.models import BERTConfig, GPTConfig, TinyBERT, TinyGPT
from see_min.checks import DataError
from see_min.layers_report import groups, table, write_layers
from see_min.related.layer import Kept, factors, masked
from see_min.sequences import Batch, language_batches

V, D, HEADS, T = 61, 48, 2, 12


def model(kind="gpt", seed=0):
    torch.manual_seed(seed)
    if kind == "gpt":
        one = TinyGPT(GPTConfig(V, D, 2, HEADS, T))
    else:
        one = TinyBERT(BERTConfig(V, D, 2, HEADS, T, pad=V - 1))
    for name, parameter in one.named_parameters():
        if name.startswith("blocks") and parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.3)
        elif name.startswith("blocks"):
            torch.nn.init.normal_(parameter, 0.0, 0.15)
    return one.eval()


def batches(steps=1, size=24, seed=0):
    ids = np.random.default_rng(7).integers(0, V - 1, 900)
    return list(language_batches(ids, T, size, steps, seed))


def output(one, batch):
    with torch.no_grad():
        return one.hidden_states(torch.as_tensor(batch.inputs[0]))[-1]


def blocks(method=None, ratio=2, kind="gpt"):
    found = Blocks(model(kind), batches()[0], batches(6, 8, seed=1))
    if method:
        compress_blocks(found, method, ratio)
    return found


@pytest.mark.parametrize("kind", ["gpt", "bert"])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "csformer"])
def test_every_method_keeps_to_the_budget_and_is_nearer_than_the_blocks_of_another_model(method, kind):
    """csformer needs blocks of 16 x 16 that are few beside the layer."""
    found, dense = blocks(method, kind=kind), blocks(kind=kind)
    budget = dense.floats() / 2
    assert found.floats() <= budget * 1.001 and (found.floats() > 0.6 * budget or method == "quantization")
    batch = batches()[0]
    exact, ours = output(dense.model, batch), output(found.model, batch)
    other = copy.deepcopy(dense.model)
    other.blocks = model(kind, seed=1).blocks
    error = lambda states: float((states - exact).square().sum())
    assert 0 < error(ours) < error(output(other, batch))


def test_layers_get_their_inputs_from_those_before_them_already_compressed():
    found, seen = Blocks(model(), batches()[0]), {}
    names = found.names
    for name in names:
        seen[name] = found.inputs(name)[0]
        found.put(name, masked(0.5 * found.weight(name), 1, 0))
    dense = Blocks(model(), batches()[0])
    assert np.array_equal(seen[names[0]], dense.inputs(names[0])[0])
    assert not np.allclose(seen[names[1]], dense.inputs(names[1])[0])
    finished = dict(zip(names, found.inputs(*names)))
    assert all(np.allclose(finished[name], seen[name], atol=1e-5) for name in names)


def test_a_rebuilt_layer_is_the_dense_one_with_other_weights_and_shares_arrays_that_are_shared():
    bias, x = torch.randn(5), torch.randn(3, 4)
    B, A = np.arange(10.0).reshape(5, 2), np.ones((2, 4))
    shared = {}
    one, other = (Rebuilt(factors(B, side, shift=np.ones(5)), bias, shared) for side in (A, 2 * A))
    assert torch.allclose(one(x), x @ torch.tensor(B @ A).float().T + bias + 1)
    assert one.parts[0] is other.parts[0] and one.parts[1] is not other.parts[1]
    codes = Rebuilt(Kept([B[:, :1]], lambda parts, fixed: parts[0] * fixed[0], [np.arange(4.0)[None]]), bias, {})
    assert [name for name, _ in codes.named_parameters()] == ["bias", "parts.0"] and "fixed0" in dict(codes.named_buffers())


@pytest.mark.parametrize("method", ["magnitude", "modegpt", "numerical", "micro-prune", "micro-unify", "quantization", "mpo"])
def test_finetuning_moves_the_floats_that_are_kept_and_no_mask(method):
    """Zeros stay zeros; unified blocks keep one absolute value; codes stay; the shared core stays shared."""
    found, teacher = blocks(method), model()
    before = {name: found.model.get_submodule(name).weight.detach().clone() for name in found.names}
    fine = batches(6, 8, seed=2)
    stage2(found.model, teacher, fine, len(fine), rate=1e-2)
    for name, old in before.items():
        layer, new = found.model.get_submodule(name), found.model.get_submodule(name).weight.detach()
        assert (new != old).any() == bool(old.any())  # numerical pruning may leave no head at all
        if method in ("magnitude", "modegpt", "numerical", "micro-prune"):
            assert (new[old == 0] == 0).all() and (old == 0).any()
        if method == "micro-unify":
            unified = np.array([np.ptp(abs(block)) < 1e-6 for block in old.numpy().reshape(-1, 8)])
            assert unified.any() and all(np.ptp(abs(block)) < 1e-6 for block in new.numpy().reshape(-1, 8)[unified])
        if method == "quantization":
            assert (layer.fixed0 == torch.tensor(found.kept[name].fixed[0]).float()).all()
    if method == "mpo":
        first, second = (found.model.get_submodule(f"blocks.{i}.mlp.0").parts[1] for i in range(2))
        assert first is second


def test_modules_at_full_width_compute_what_the_model_computes():
    """MoDeGPT at ratio 1 only turns the basis of values: the function is the same, of both models."""
    for kind in ("gpt", "bert"):
        found = blocks(kind=kind)
        by_modules(found, 1, "modegpt")
        exact = output(model(kind), batches()[0])
        assert torch.allclose(output(found.model, batches()[0]), exact, atol=2e-3)
        assert found.floats() == blocks().floats() and not np.allclose(found.weight("blocks.0.attention.qkv"),
                                                                        blocks(kind=kind).weight("blocks.0.attention.qkv"))


def test_numerical_pruning_cuts_whole_heads_and_channels_and_the_rows_that_made_them():
    found = blocks()
    by_channels(found, 2, "numerical")
    d = D // HEADS
    for i in range(2):
        qkv, project, up, down = (found.weight(f"blocks.{i}.{name}") for name in ("attention.qkv", "attention.project", "mlp.0",
                                                                                 "mlp.2"))
        heads = [project[:, h * d : (h + 1) * d].any() for h in range(HEADS)]
        rows = [[qkv[p * D + h * d : p * D + (h + 1) * d].any() for h in range(HEADS)] for p in range(3)]
        assert rows == [heads] * 3
        assert (up.any(axis=1) == down.any(axis=0)).all()
    assert found.index_bits() == 0


def test_held_out_loss_is_the_mean_over_all_targets():
    one, some = model(), [Batch(batch.inputs, batch.targets.copy()) for batch in batches(3, 5)]
    some[1].targets[:, 3:] = -100
    with torch.no_grad():
        slow = [-torch.log_softmax(one(torch.as_tensor(b.inputs[0]))[i, j], -1)[b.targets[i, j]] for b in some
                for i, j in itertools.product(range(5), range(T)) if b.targets[i, j] >= 0]
    assert held_out_loss(one, some) == pytest.approx(float(torch.stack(slow).mean()), rel=1e-5)


@pytest.mark.parametrize(("change", "text"), [
    ({"methods": ("pq",)}, "method: expected one of svd, rom, "), ({"ratios": (1,)}, "ratio: expected above 1 and at most 8"),
    ({"ratios": (9,)}, "ratio: expected above 1 and at most 8 for layers, got 9"), ({"seed": -1}, "seed: expected at least 0")])
def test_tasks_that_cannot_be_compared_are_refused(change, text):
    with pytest.raises(DataError, match=f"^{text}"):
        check_task(LayerTask(**change))


# the command

TINY = {"vocabulary": 150, "dimension": 32, "context": 12, "heads": 2, "batch": 8, "teacher_steps": 30, "stage1_steps": 1,
        "stage2_steps": 1, "sweeps": 2, "windows": 4}
STEPS = {"quick": True, "steps": 3, "mask_steps": 4, "bert_steps": 20, "rows": 24, "windows": 16, "embedding_ratio": 3,
         "total_ratio": 2.5}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """(folder, exit code) of a command with tiny sizes."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("layers")
        text = "\n\n".join(value.__doc__ for value in vars(np).values() if getattr(value, "__doc__", None))
        (folder / "text.txt").write_text(text[:150_000])
        patch.setattr(compare_layers, "QUICK_JOB", TINY | {"corpus": str(folder / "text.txt")})
        patch.setattr(compare_layers, "QUICK", STEPS)
        words = ["compare", "--layers", "--quick", "--methods", "rom", "magnitude", "acip", "--ratios", "2", "--out", str(folder)]
        return folder, words, main(words), (folder / "layers.json").read_text(), main(words), (folder / "layers.json").read_text()


def test_the_command_writes_a_row_for_every_method_and_all_combinations(compared):
    folder, _, code, text, *_ = compared
    report = json.loads(text)
    assert code == 0 and all((folder / f"layers.{end}").stat().st_size > 500 for end in ("json", "md", "png"))
    found = groups(report["rows"])
    names = [(row["embedding"], row["method"], row["leaf_bits"]) for row in found["gpt"]]
    own = [("dense", name, 32) for name in ("dense", "rom", "magnitude", "acip")]
    see = [("see", method, leaf) for method in ("dense", "rom", "modegpt") for leaf in (32, 8)]
    assert names == own + see + [("svd", "rom", 32)] and [row["method"] for row in found["bert"]] == [name for _, name, _ in own]
    for row in report["rows"]:
        dense = found[row["model"]][0]
        assert 0 < row["after"] < 2 * dense["before"] and row["model_bits"] <= dense["model_bits"]
        assert row["block_bits"] - 32 * row["block_floats"] in (0, row["block_floats"] * 2 if row["method"] == "magnitude" else 0)
        if row["embedding"] != "dense" and row["method"] != "dense":
            both = dense["block_bits"] + dense["embedding_bits"]
            assert row["block_bits"] + row["embedding_bits"] < 1.2 * both / STEPS["total_ratio"]
    by = {(row["embedding"], row["method"], row["leaf_bits"]): row for row in found["gpt"]}
    assert by["see", "rom", 8]["embedding_bits"] < 0.7 * by["see", "rom", 32]["embedding_bits"]
    assert abs(by["see", "rom", 8]["after"] - by["see", "rom", 32]["after"]) < 0.05
    assert by["dense", "dense", 32]["output_error"] == 0 < by["dense", "rom", 32]["output_error"]


def test_the_command_repeats_to_the_last_number(compared):
    """But for seconds and the date."""
    *_, first, code, again = compared
    strip = lambda text: [{k: v for k, v in row.items() if "seconds" not in k} for row in json.loads(text)["rows"]]
    assert code == 0 and strip(first) == strip(again)


def test_table_and_figure_need_the_dense_row_first_and_say_both_models(compared, tmp_path):
    report = json.loads(compared[3])
    text = table(report)
    assert "TinyGPT, next words:" in text and "TinyBERT, masked words:" in text and text.count("| rom, 2x | dense |") == 2
    lines = [line for line in text.split("\n") if line.startswith("|")]
    assert {line.count(" | ") for line in lines} == {9}
    report["rows"] = report["rows"][1:]
    with pytest.raises(DataError, match="^rows: expected the dense gpt first, got rom$"):
        write_layers(report, tmp_path)


@pytest.mark.parametrize(("more", "text"), [
    (["--methods", "see"], "method: expected one of svd, rom, "), (["--ratios", "20"], "ratio: expected above 1 and at most 8"),
    (["--matrix", "x.npy"], "matrix: expected no --layers with it, got one"),
    (["--seeds", "-1"], "seed: expected at least 0, got -1")])
def test_wrong_options_are_one_line(more, text, capsys, tmp_path):
    assert main(["compare", "--layers", "--out", str(tmp_path / "new"), *more]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and text in error and not (tmp_path / "new").exists()


def test_quick_without_layers_and_broken_jobs_are_one_line(capsys, tmp_path):
    assert main(["compare", "--quick"]) == 2 and "quick: expected --layers with it" in capsys.readouterr().err
    phases = tmp_path / "job" / "phases"
    phases.mkdir(parents=True)
    for name in ("teacher.pt", "teacher.json"):
        (phases / name).write_text("{}")
    (phases / "job.json").write_text('{"other": 1}')
    assert main(["compare", "--layers", "--job", str(tmp_path / "job"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "job: expected the settings of a main job in " in error
    assert (phases / "job.json").read_text() == '{"other": 1}'


def test_the_model_of_a_finished_job_is_taken_as_it_is_and_only_with_its_corpus(compared, tmp_path):
    folder = compared[0] / "layers"
    state = {path: path.read_bytes() for path in (folder / "phases").iterdir()}
    task = LayerTask(job=str(folder), embedding_ratio=3)
    run = compare_layers.gpt_run(task, tmp_path, lambda line: None)
    stored = torch.load(folder / "phases" / "teacher.pt", weights_only=True)["state"]
    assert all(torch.equal(tensor, stored[name]) for name, tensor in run.teacher.state_dict().items())
    assert {path: path.read_bytes() for path in (folder / "phases").iterdir()} == state
    other = tmp_path / "job"
    shutil.copytree(folder, other)
    settings = json.loads((other / "phases" / "job.json").read_text())
    (other / "phases" / "job.json").write_text(json.dumps(settings | {"vocabulary": 140}))
    with pytest.raises(DataError, match="^teacher: expected a model of this job's sizes and words, got another in "):
        compare_layers.gpt_run(LayerTask(job=str(other), embedding_ratio=3), tmp_path / "b", lambda line: None)
