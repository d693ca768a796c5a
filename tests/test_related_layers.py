"""Layer methods of the family, a layer at a time, against slow sums and all choices there are."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from slow import normal, squares

from see_min.errors import InputError
from see_min.related.layers import (
    magnitude,
    micro_structured,
    numerical_pruning,
    quantization,
    rom,
)
from see_min.related.layers.layer import factors, masked
from see_min.related.registry import LAYERS

OUT, IN, N = 7, 5, 31
LAYER = {method.name: method for method in LAYERS if method.kind == "layer"}


def layer(seed=0, out=OUT, into=IN):
    """(W, X) with inputs that depend on each other and do not have mean 0."""
    X = normal(N, into, seed=seed + 1) @ normal(into, into, seed=seed + 2) + 0.7
    return normal(out, into, seed=seed), X


def output_error(X, W, kept):
    shift = 0 if kept.shift is None else kept.shift
    return squares(X @ (W - kept.dense()).T - shift)


# ------------------------------------------------------------------ one interface


@pytest.mark.parametrize("name", LAYER)
@pytest.mark.parametrize("ratio", [2, 4])
def test_layer_methods_keep_to_the_budget_and_leave_their_inputs_alone(name, ratio):
    """Nearer to the outputs than the weights of another layer, which are the control."""
    W, X = normal(64, 96), normal(128, 96, seed=1)
    before = W.copy(), X.copy()
    kept, again = (LAYER[name].run(W, X, ratio) for _ in range(2))
    used = kept.index_bits / 32 if name == "quantization" else kept.n_parameters
    least = 0.7 * W.size / max(ratio, 4 * (name == "quantization"))
    assert kept.dense().shape == W.shape and least <= used <= W.size / ratio
    assert (kept.dense() == again.dense()).all()
    assert (W == before[0]).all() and (X == before[1]).all()
    other = LAYER[name].run(W[::-1], X, 2)
    errors = [output_error(X, W, one) / squares(X @ W.T) for one in (kept, other)]
    assert errors[0] < 0.95 < errors[1]


@pytest.mark.parametrize("name", LAYER)
def test_layer_methods_refuse_ratios_shapes_and_numbers_they_cannot_use(name):
    W, X = normal(64, 96), normal(128, 96, seed=1)
    for ratio in (0.5, 1e6, np.nan):
        with pytest.raises(InputError, match=r"^ratio: expected 1 to \d"):
            LAYER[name].run(W, X, ratio)
    text = r"^calibration: expected shape \(\*, 96\), got \(128, 95\)$"
    with pytest.raises(InputError, match=text):
        LAYER[name].run(W, X[:, 1:], 2)
    W[0, 0] = np.nan
    with pytest.raises(InputError, match="^W: expected finite numbers, got 1 "):
        LAYER[name].run(W, X, 2)


def test_what_is_kept_is_counted_and_rebuilt_by_the_same_formula_in_numpy_and_torch():
    torch = pytest.importorskip("torch")
    for method in LAYER.values():
        kept = method.run(normal(64, 96), normal(128, 96, seed=1), 2)
        parameters, buffers = (list(map(torch.tensor, a)) for a in (kept.parameters, kept.buffers))
        rebuilt = kept.reconstruct(parameters, buffers).numpy()
        assert_allclose(rebuilt, kept.dense(), rtol=1e-12, atol=1e-14)
        assert kept.n_parameters >= np.linalg.matrix_rank(kept.dense())
    shifted = factors(np.ones((3, 2)), np.ones((2, 5)), shift=np.ones(3))
    assert shifted.n_parameters == 6 + 10 + 3


# ------------------------------------------------------------------ LLM-ROM


@pytest.mark.parametrize("ratio, r", [(1.2, 2), (2.8, 1)])
def test_rom_leaves_the_tail_of_the_outputs_and_never_more_than_the_plain_svd(ratio, r):
    """D59: eigenvalues of Y^T Y beyond r; the control, without inputs, leaves more."""
    W, X = layer()
    kept, plain = rom.compress(W, X, ratio), rom.compress(W, np.eye(IN), ratio)
    assert rom.rank_at(W.shape, ratio) == r and kept.n_parameters == r * (OUT + IN)
    values = np.sort(np.linalg.eigvalsh(sum(np.outer(W @ x, W @ x) for x in X)))[::-1]
    assert_allclose(output_error(X, W, kept), values[r:].sum(), rtol=1e-10)
    assert output_error(X, W, plain) > 1.01 * output_error(X, W, kept)
    assert squares(W - plain.dense()) < squares(W - kept.dense())


@pytest.mark.parametrize("seed", range(3))
def test_centring_never_makes_rom_worse_at_equal_rank(seed):
    """D60: the tail of the covariance of outputs; equal where the outputs have the mean 0."""
    W, X = layer(seed)
    centred, same = rom.compress(W, X, 35 / 19, centre=True), rom.compress(W, X, 35 / 12)
    assert centred.n_parameters - OUT == same.n_parameters == OUT + IN  # rank 1
    covariance = np.cov((X @ W.T).T, bias=True) * N
    values = np.sort(np.linalg.eigvalsh(covariance))[::-1]
    assert_allclose(output_error(X, W, centred), values[1:].sum(), rtol=1e-10)
    assert output_error(X, W, centred) < output_error(X, W, same)
    X = X - X.mean(axis=0)
    pair = rom.compress(W, X, 35 / 19, centre=True), rom.compress(W, X, 35 / 12)
    assert_allclose(*(output_error(X, W, one) for one in pair), rtol=1e-9)


# ------------------------------------------------------------------ quantization


@pytest.mark.parametrize("b", [8, 2, 1])
def test_rounding_to_nearest_errs_by_half_a_step_at_most(b):
    """D61: against the nearest of all 2^b values; ends are exact, a second time changes nothing."""
    W = np.concatenate([normal(OUT, IN), np.full((1, IN), 3.0)])
    codes, step, low = quantization.quantize(W, b)
    new = low + step * codes
    assert codes.min() == 0 and codes.max() == 2**b - 1 and (new[-1] == 3).all()
    assert (abs(W - new) <= step / 2 + 1e-12).all()
    for row, values in zip(W[:-1], new):
        levels = np.linspace(row.min(), row.max(), 2**b)
        nearest = [levels[abs(levels - w).argmin()] for w in row]
        assert_allclose(values, nearest, rtol=1e-12)
        assert_allclose([values.min(), values.max()], [row.min(), row.max()], rtol=1e-12)
    assert (quantization.quantize(new, b)[0] == codes).all()
    down = low + step * np.floor((W - low) / np.where(step > 0, step, 1))
    assert (abs(W - down) > step / 2).any()  # the control


def test_quantization_takes_the_most_bits_and_counts_them_with_two_parameters_per_row():
    for ratio, bits in ((2, 8), (4, 8), (8, 4), (16, 2)):
        kept = quantization.compress(*layer(), ratio)
        assert (kept.n_parameters, kept.index_bits) == (2 * OUT, bits * OUT * IN)
    with pytest.raises(InputError, match="^bits: expected 1 to 16, got 17$"):
        quantization.quantize(np.ones((1, 1)), 17)


# ------------------------------------------------------------------ magnitude


def test_the_largest_weights_are_the_nearest_of_all_matrices_with_k_weights():
    """D62: against all choices of k of 12 weights; the smallest, the control, are farther."""
    W = normal(3, 4)
    kept = magnitude.compress(W, np.ones((1, 4)), 12 / 5)
    choices = itertools.combinations(W.ravel(), 5)
    errors = [squares(W) - squares(choice) for choice in choices]
    assert_allclose(squares(W - kept.dense()), min(errors), rtol=1e-12)
    assert (kept.dense() != 0).sum() == kept.n_parameters == 5 and kept.index_bits == 12
    assert squares(W * magnitude.mask_of(-abs(W), 5) - W) > np.median(errors)


def test_masks_of_fewer_weights_lie_within_masks_of_more():
    """D62: for all k, with ties."""
    sizes = np.array([[3, 1, 3], [2, 3, 0]])
    masks = [magnitude.mask_of(sizes, k) for k in range(7)]
    assert [mask.sum() for mask in masks] == list(range(7))
    assert all((less <= more).all() for less, more in itertools.pairwise(masks))


@pytest.mark.parametrize("frozen", [True, False])
def test_pruned_weights_stay_zero_while_the_others_learn(frozen):
    """D63: after steps of Adam with weight decay; without the mask, the control, they do not."""
    torch = pytest.importorskip("torch")
    W, X = layer()
    kept = magnitude.compress(W, X, 3)
    zeros = kept.buffers[0] == 0
    mask = torch.tensor(kept.buffers[0] if frozen else np.ones((OUT, IN)))
    part = torch.nn.Parameter(torch.tensor(kept.parameters[0]))
    adam = torch.optim.AdamW([part], 0.01, weight_decay=0.1)
    for _ in range(5):
        adam.zero_grad()
        new = kept.reconstruct([part], [mask])
        (torch.tensor(X) @ (new - torch.tensor(W)).T).square().sum().backward()
        adam.step()
    weights = part.detach().numpy()
    assert (weights[~zeros] != kept.parameters[0][~zeros]).all()
    assert (part.grad.numpy()[zeros] == 0).all() == (weights[zeros] == 0).all() == frozen


# ------------------------------------------------------------------ numerical pruning


def test_error_of_masked_channels_is_a_quadratic_form():
    """D64: for real z and for 0 and 1, summed output by output."""
    W, X = layer()
    A = numerical_pruning.quadratic(W, X.T @ X)
    for z in (normal(IN, seed=9), np.array([1, 0, 1, 1, 0])):
        slow = sum((x @ W[o] - x @ (z * W[o])) ** 2 for x in X for o in range(OUT))
        assert_allclose((1 - z) @ A @ (1 - z), slow, rtol=1e-12)


def test_one_newton_step_lands_on_the_minimum_from_any_start():
    """D65: nothing near it is lower; half a step, the control, is not there."""
    W, X = layer()
    A, keep = numerical_pruning.quadratic(W, X.T @ X), 3
    mu = numerical_pruning.PENALTY * np.trace(A) / IN

    def value(z):
        return (1 - z) @ A @ (1 - z) + mu * (z.sum() - keep) ** 2

    first = numerical_pruning.newton(A, keep)
    for seed in range(5):
        start = normal(IN, seed=seed)
        assert_allclose(numerical_pruning.newton(A, keep, start), first, rtol=1e-8, atol=1e-9)
        assert value(first + 1e-3 * start) > value(first)
        assert value((start + first) / 2) > value(first)
    z = np.linalg.solve(A, np.ones(IN))  # the minimum under sum z = keep, by a Lagrange multiplier
    assert_allclose(first, 1 - (IN - keep) * z / z.sum(), rtol=0, atol=0.02)


def test_loss_of_removed_channels_is_that_of_the_refit_layer():
    """D66: tr(W_p [(C^-1)_pp]^-1 W_p^T) for all pairs; without the refit, the control, more."""
    W, X = layer()
    inverse = np.linalg.inv(X.T @ X)

    def removal_loss(drop):
        block = inverse[np.ix_(drop, drop)]  # (p, p)
        return np.trace(W[:, drop] @ np.linalg.inv(block) @ W[:, drop].T)

    for drop in map(list, itertools.combinations(range(IN), 2)):
        keep = np.setdiff1d(np.arange(IN), drop)
        Z = np.linalg.lstsq(X[:, keep], X @ W.T, rcond=None)[0]
        assert_allclose(removal_loss(drop), squares(X @ W.T - X[:, keep] @ Z), rtol=1e-9)
        assert removal_loss(drop) < squares(X[:, drop] @ W[:, drop].T)
    kept = numerical_pruning.compress(W, X, IN / 3)
    drop = np.flatnonzero((kept.dense() == 0).all(axis=0))
    assert len(drop) == 2 and kept.n_parameters == 3 * OUT and kept.index_bits == IN
    assert_allclose(output_error(X, W, kept), removal_loss(drop), rtol=1e-9)


# ------------------------------------------------------------------ micro-structured


@pytest.mark.parametrize("prune", [False, True])
def test_unifying_the_cheapest_blocks_is_the_nearest_of_all_choices(prune):
    """D67: all choices of p of 5 blocks, c by a fine search; the dearest blocks cost more."""
    W, b, p = normal(5, 3), 3, 2
    new, chosen = micro_structured.project(W, p, b, prune)
    grid = [0.0] if prune else np.linspace(0, 3, 3001)
    losses = [min(sum((abs(w) - c) ** 2 for w in block) for c in grid) for block in W]
    best = min(map(sum, itertools.combinations(losses, p)))
    assert squares(W - new) <= best + 1e-12 and chosen.sum() == p
    assert_allclose(squares(W - new), best, rtol=1e-4)
    assert np.ptp(abs(new[chosen > 0]), axis=1).max() < 1e-12 and (new * W >= 0).all()
    assert_allclose(micro_structured.project(new, p, b, prune)[0], new, rtol=1e-12)
    assert sum(sorted(losses)[-2:]) > best


def test_unifying_a_block_costs_no_more_than_pruning_it():
    """D67: sum w^2 - b c^2 against sum w^2."""
    W = normal(5, 3)
    for p in range(1, 6):
        unified, pruned = (micro_structured.project(W, p, 3, prune)[0] for prune in (False, True))
        assert squares(W - unified) < squares(W - pruned)


def test_admm_solves_its_quadratic_step_and_is_never_worse_than_the_projection():
    """D68: the step's gradient is 0; with correlated inputs the best step beats the projection."""
    W, X = layer(out=8, into=6)
    C = X.T @ X
    new, _, losses = micro_structured.admm(W, C, 8, block=3)
    assert_allclose(output_error(X, W, masked(new, 1, 0)), min(losses), rtol=1e-9)
    projected = micro_structured.project(W, 8, 3)[0]
    assert losses[0] == pytest.approx(squares(X @ (W - projected).T))
    assert min(losses) < 0.65 * losses[0]  # without U it is 0.74
    rho, target = 3.0, normal(8, 6, seed=5)
    step = micro_structured.weights_step(W, C, rho, target)
    assert_allclose((step - W) @ C + rho * (step - target), 0 * W, atol=1e-9)


@pytest.mark.parametrize("name, ratio, unified", [
    ("micro-unify", 2, 28), ("micro-unify", 8, 48), ("micro-prune", 4, 36)])
def test_micro_structured_counts_values_signs_and_blocks(name, ratio, unified):
    kept, B = LAYER[name].run(normal(16, 24), normal(N, 24, seed=1), ratio), 48
    found = sum(np.ptp(abs(block)) < 1e-12 for block in kept.dense().reshape(B, 8))
    values = unified if name == "micro-unify" else 0
    assert found == unified and kept.n_parameters == (B - unified) * 8 + values
    assert kept.index_bits == B + 8 * values
    with pytest.raises(InputError, match="^W: expected a multiple of 8 weights, got 35$"):
        LAYER[name].run(*layer(), 2)
