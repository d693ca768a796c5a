"""Layer methods of the family, a layer at a time, against slow sums and all choices there are."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

from see_min.checks import DataError, ShapeError
from see_min.related import magnitude, micro_structured, numerical_pruning, quantization, rom
from see_min.related.layer import factors, masked
from see_min.related.registry import LAYERS, METHODS, bits

OUT, IN, N = 7, 5, 31
LAYER = [method for method in LAYERS if method.kind == "layer"]


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def layer(seed=0, out=OUT, into=IN):
    """(W, X) with inputs that depend on each other and do not have mean 0."""
    return numbers(out, into, seed=seed), numbers(N, into, seed=seed + 1) @ numbers(into, into, seed=seed + 2) + 0.7


def squares(array):
    return float((np.asarray(array) ** 2).sum())


def output_error(X, W, kept):
    """sum over inputs and outputs, one by one."""
    shift = np.zeros(len(W)) if kept.shift is None else kept.shift
    new = kept.dense()
    return sum((x @ W[o] - x @ new[o] - shift[o]) ** 2 for x in X for o in range(len(W)))


# one interface

@pytest.mark.parametrize("method", LAYER, ids=lambda method: method.name)
@pytest.mark.parametrize("ratio", [2, 4])
def test_layer_methods_keep_to_the_budget_and_the_shape_and_leave_their_inputs_alone(method, ratio):
    W, X = numbers(64, 96), numbers(128, 96, seed=1)
    before, state = (W.copy(), X.copy()), np.random.get_state()[1].copy()
    kept, again = (method.run(W, X, ratio) for _ in range(2))
    used = kept.index_bits / 32 if method.name == "quantization" else kept.floats
    assert kept.dense().shape == W.shape and 0.7 * W.size / max(ratio, 4 * (method.name == "quantization")) <= used
    assert used <= W.size / ratio
    assert (kept.dense() == again.dense()).all() and (W == before[0]).all() and (X == before[1]).all()
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize("method", LAYER, ids=lambda method: method.name)
def test_layer_methods_are_nearer_to_the_outputs_than_the_weights_of_another_layer(method):
    W, X = numbers(64, 96), numbers(128, 96, seed=1)
    error = lambda A: squares(X @ (W - A).T) / squares(X @ W.T)
    assert error(method.run(W, X, 2).dense()) < 0.9 < error(method.run(W[::-1], X, 2).dense())


@pytest.mark.parametrize("method", LAYER, ids=lambda method: method.name)
def test_layer_methods_refuse_ratios_shapes_and_numbers_they_cannot_use(method):
    W, X = numbers(64, 96), numbers(128, 96, seed=1)
    for ratio in (0.5, 1e6, np.nan):
        with pytest.raises(DataError, match=r"^ratio: expected 1 to \d"):
            method.run(W, X, ratio)
    with pytest.raises(ShapeError, match=r"^calibration: expected shape \(\*, 96\), got \(128, 95\)$"):
        method.run(W, X[:, 1:], 2)
    with pytest.raises(DataError, match="^W: expected finite numbers, got 1 "):
        method.run(np.where(np.arange(96) + np.arange(64)[:, None] == 0, np.nan, W), X, 2)


def test_what_is_kept_is_counted_and_rebuilt_by_the_same_formula_in_numpy_and_torch():
    torch = pytest.importorskip("torch")
    W, X = numbers(64, 96), numbers(128, 96, seed=1)
    for method in LAYER:
        kept = method.run(W, X, 2)
        tensors = ([torch.tensor(array) for array in arrays] for arrays in (kept.parts, kept.fixed))
        assert_allclose(kept.build(*tensors).numpy(), kept.dense(), rtol=1e-12, atol=1e-14)
        assert kept.floats >= np.linalg.matrix_rank(kept.dense())
    assert factors(np.ones((3, 2)), np.ones((2, 5)), shift=np.ones(3)).floats == 6 + 10 + 3
    assert masked(np.ones((3, 2)), np.array([0, 1]), 2).floats == 3


# LLM-ROM

@pytest.mark.parametrize("ratio", [1.2, 2.8])
def test_rom_leaves_the_tail_of_the_outputs_and_never_more_than_the_plain_svd(ratio):
    """D59: the eigenvalues of Y^T Y beyond r, as an SVD of W C^(1/2); the plain SVD, which is the control, leaves more."""
    W, X = layer()
    kept, r = rom.compress(W, X, ratio), rom.rank_at(W.shape, ratio)
    assert r == {1.2: 2, 2.8: 1}[ratio] and kept.floats == r * (OUT + IN)
    values = np.sort(np.linalg.eigvalsh(sum(np.outer(W @ x, W @ x) for x in X)))[::-1]
    assert_allclose(output_error(X, W, kept), values[r:].sum(), rtol=1e-10)
    eigenvalues, vectors = np.linalg.eigh(X.T @ X)
    root = vectors * np.sqrt(eigenvalues) @ vectors.T
    assert_allclose(values[r:].sum(), squares(np.linalg.svd(W @ root, compute_uv=False)[r:]), rtol=1e-10)
    plain = rom.compress(W, np.eye(IN), ratio)
    assert output_error(X, W, plain) > 1.01 * output_error(X, W, kept)
    assert squares(W - plain.dense()) < squares(W - kept.dense())


def test_centring_never_makes_rom_worse_at_equal_rank():
    """D60: the tail of the covariance of the outputs, for several seeds; equal where the outputs have the mean 0."""
    for seed in range(5):
        W, X = layer(seed)
        centred, kept = rom.compress(W, X, 1.2, centre=True), rom.compress(W, X, 1.2)
        centred_rank = centred.parts[0].shape[1]
        values = np.sort(np.linalg.eigvalsh(np.cov((X @ W.T).T, bias=True) * N))[::-1]
        assert_allclose(output_error(X, W, centred), values[centred_rank:].sum(), rtol=1e-10)
        same = rom.compress(W, X, OUT * IN / (centred_rank * (OUT + IN)))
        assert same.parts[0].shape[1] == centred_rank and centred.floats == same.floats + OUT
        assert output_error(X, W, centred) < output_error(X, W, same) and output_error(X, W, kept) > 0
        X = X - X.mean(axis=0)
        pair = [rom.compress(W, X, ratio, centre) for ratio, centre in ((35 / 19, True), (35 / 12, False))]
        assert_allclose(*(output_error(X, W, one) for one in pair), rtol=1e-9)


# quantization

@pytest.mark.parametrize("b", [8, 4, 2, 1])
def test_rounding_to_nearest_errs_by_half_a_step_at_most(b):
    """D61: against the nearest of all 2^b values, tried one by one; ends are exact, a second time changes nothing."""
    W = np.concatenate([numbers(OUT, IN), np.full((1, IN), 3.0)])
    codes, step, low = quantization.quantize(W, b)
    new = low + step * codes
    assert codes.min() == 0 and codes.max() == 2**b - 1 and (abs(W - new) <= step / 2 + 1e-12).all() and (new[-1] == 3).all()
    for row, values in zip(W[:-1], new):
        levels = np.linspace(row.min(), row.max(), 2**b)
        assert_allclose(values, [levels[abs(levels - w).argmin()] for w in row], rtol=1e-12)
        assert_allclose([values.min(), values.max()], [row.min(), row.max()], rtol=1e-12)
    assert (quantization.quantize(new, b)[0] == codes).all()
    down = low + step * np.floor((W - low) / np.where(step > 0, step, 1))
    assert (abs(W - down) > step / 2).any()  # the control


def test_quantization_counts_bits_a_weight_and_two_floats_a_row():
    kept = quantization.compress(*layer(), 8)
    assert (kept.floats, kept.index_bits, bits(kept)) == (2 * OUT, 4 * OUT * IN, 64 * OUT + 4 * OUT * IN)
    with pytest.raises(DataError, match="^bits: expected 1 to 16, got 17$"):
        quantization.quantize(np.ones((1, 1)), 17)


# magnitude

def test_the_largest_weights_are_the_nearest_of_all_matrices_with_k_weights():
    """D62: against all choices of k of 12 weights; and the smallest, the control, are farther than most."""
    W = numbers(3, 4)
    kept = magnitude.compress(W, np.ones((1, 4)), 12 / 5)
    errors = [squares(W) - squares(W.ravel()[list(choice)]) for choice in itertools.combinations(range(12), 5)]
    assert_allclose(squares(W - kept.dense()), min(errors), rtol=1e-12)
    assert (kept.dense() != 0).sum() == kept.floats == 5 and kept.index_bits == 12
    assert squares(W * magnitude.mask_of(-abs(W), 5) - W) > np.median(errors)


def test_masks_of_fewer_weights_lie_within_masks_of_more():
    """D62: for all k, with ties."""
    sizes = np.array([[3, 1, 3], [2, 3, 0]])
    masks = [magnitude.mask_of(sizes, k) for k in range(7)]
    assert all((less <= more).all() and more.sum() == k + 1 for k, (less, more) in enumerate(zip(masks, masks[1:])))


def test_pruned_weights_stay_zero_while_the_others_learn():
    """D63: gradient and weights after steps of Adam with weight decay; without the mask, the control, they do not."""
    torch = pytest.importorskip("torch")
    W, X = layer()
    kept = magnitude.compress(W, X, 3)
    goal = torch.tensor(X @ W.T)
    for mask in (torch.tensor(kept.fixed[0]), torch.ones(OUT, IN, dtype=torch.float64)):
        part = torch.nn.Parameter(torch.tensor(kept.parts[0]))
        adam = torch.optim.AdamW([part], 0.01, weight_decay=0.1)
        for _ in range(5):
            adam.zero_grad()
            (torch.tensor(X) @ kept.build([part], [mask]).T - goal).square().sum().backward()
            adam.step()
        zeros = kept.fixed[0] == 0
        assert (part.detach().numpy()[~zeros] != kept.parts[0][~zeros]).all()
        assert (part.grad.numpy()[zeros] == 0).all() == (part.detach().numpy()[zeros] == 0).all() == bool((mask == 0).any())


# numerical pruning

def test_error_of_masked_channels_is_a_quadratic_form():
    """D64: for real z and for 0 and 1, summed output by output."""
    W, X = layer()
    A = numerical_pruning.quadratic(W, X.T @ X)
    for z in (numbers(IN, seed=9), np.array([1, 0, 1, 1, 0])):
        slow = sum((x @ W[o] - x @ (z * W[o])) ** 2 for x in X for o in range(OUT))
        assert_allclose((1 - z) @ A @ (1 - z), slow, rtol=1e-12)


def test_one_newton_step_lands_on_the_minimum_from_any_start():
    """D65: the gradient there is 0 by differences, and nothing near it is lower; half a step, the control, is not there."""
    W, X = layer()
    A, keep = numerical_pruning.quadratic(W, X.T @ X), 3
    mu = numerical_pruning.PENALTY * np.trace(A) / IN
    value = lambda z: (1 - z) @ A @ (1 - z) + mu * (z.sum() - keep) ** 2
    first = numerical_pruning.newton(A, keep)
    for seed in range(5):
        start = numbers(IN, seed=seed)
        assert_allclose(numerical_pruning.newton(A, keep, start), first, rtol=1e-8, atol=1e-9)
        near = first + 1e-3 * start
        assert value(near) > value(first) and value((start + first) / 2) > value(first)
    z = np.linalg.solve(A, np.ones(IN))  # the minimum under sum z = keep, by a Lagrange multiplier
    assert_allclose(first, 1 - (IN - keep) * z / z.sum(), rtol=0, atol=0.02)


def test_loss_of_removed_channels_is_that_of_the_refit_layer():
    """D66: for all pairs of channels; without the refit, the control, more is lost."""
    W, X = layer()
    C = X.T @ X
    for drop in map(list, itertools.combinations(range(IN), 2)):
        keep = np.setdiff1d(np.arange(IN), drop)
        Z = np.linalg.lstsq(X[:, keep], X @ W.T, rcond=None)[0]
        loss = numerical_pruning.removal_loss(W, C, drop)
        assert_allclose(loss, squares(X @ W.T - X[:, keep] @ Z), rtol=1e-9)
        assert loss < squares(X[:, drop] @ W[:, drop].T)
    kept = numerical_pruning.compress(W, X, IN / 3)
    drop = np.flatnonzero((kept.dense() == 0).all(axis=0))
    assert len(drop) == 2 and kept.floats == 3 * OUT and kept.index_bits == IN
    assert_allclose(output_error(X, W, kept), numerical_pruning.removal_loss(W, C, drop), rtol=1e-9)


# micro-structured

@pytest.mark.parametrize("prune", [False, True])
def test_unifying_the_cheapest_blocks_is_the_nearest_of_all_choices_and_changes_nothing_twice(prune):
    """D67: all choices of p of 5 blocks, c by a fine search; the dearest blocks, the control, cost more."""
    W, b, p = numbers(5, 3), 3, 2
    new, chosen = micro_structured.project(W, p, b, prune)
    grid = [0.0] if prune else np.linspace(0, 3, 3001)
    losses = [min(sum((abs(w) - c) ** 2 for w in block) for c in grid) for block in W]
    best = min(sum(losses[i] for i in choice) for choice in itertools.combinations(range(5), p))
    assert squares(W - new) <= best + 1e-12
    assert_allclose(squares(W - new), best, rtol=1e-4)
    assert chosen.sum() == p and all(np.ptp(abs(block)) < 1e-12 for block in new[chosen > 0]) and (new * W >= 0).all()
    assert_allclose(micro_structured.project(new, p, b, prune)[0], new, rtol=1e-12)
    assert sorted(losses)[-1] + sorted(losses)[-2] > best


def test_unifying_a_block_costs_no_more_than_pruning_it():
    """D67: sum w^2 - b c^2 against sum w^2."""
    W = numbers(5, 3)
    for p in range(1, 6):
        assert squares(W - micro_structured.project(W, p, 3)[0]) < squares(W - micro_structured.project(W, p, 3, True)[0])


def test_admm_solves_its_quadratic_step_and_is_never_worse_than_the_projection():
    """D68: the step's gradient is 0; with correlated inputs the best step has less error than the plain projection."""
    W, X = layer(out=8, into=6)
    C = X.T @ X
    new, _, losses = micro_structured.admm(W, C, 8, block=3)
    assert_allclose(output_error(X, W, masked(new, 1, 0)), min(losses), rtol=1e-9)
    assert losses[0] == pytest.approx(squares(X @ (W - micro_structured.project(W, 8, 3)[0]).T)) and min(losses) < 0.9 * losses[0]
    rho, Z, U = 3.0, numbers(8, 6, seed=5), numbers(8, 6, seed=6)
    step = micro_structured.weights_step(W, C, rho, Z - U)
    assert_allclose((step - W) @ C + rho * (step - Z + U), 0 * W, atol=1e-9)


@pytest.mark.parametrize(("name", "ratio"), [("micro-unify", 2), ("micro-unify", 8), ("micro-prune", 4)])
def test_micro_structured_counts_values_signs_and_blocks(name, ratio):
    W, X = numbers(16, 24), numbers(N, 24, seed=1)
    kept, B = METHODS[name].run(W, X, ratio), 48
    blocks = kept.dense().reshape(B, 8)
    unified = sum(np.ptp(abs(block)) < 1e-12 for block in blocks)
    values = unified if name == "micro-unify" else 0
    assert kept.floats == (B - unified) * 8 + values and kept.index_bits == B + 8 * values
    assert unified == {("micro-unify", 2): 28, ("micro-unify", 8): 48, ("micro-prune", 4): 36}[name, ratio]
    with pytest.raises(ShapeError, match="^W: expected a multiple of 8 weights, got 35$"):
        METHODS[name].run(*layer(), 2)
