"""Methods for layers that belong together, for all layers at once and for images; distillation."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import softmax
from slow import normal, squares

from see_min.errors import InputError
from see_min.related.layers import acip, csformer, distillation, modegpt, mpo

OUT, IN, H, N = 7, 5, 11, 31


# ------------------------------------------------------------------ MoDeGPT


@pytest.mark.parametrize("keep", [1, 4, 10])
def test_nystrom_leaves_the_schur_complement_of_the_dropped_channels(keep):
    """D69: tr(Wd (C - C_:S C_SS^-1 C_S:) Wd^T), on the outputs; other weights leave more."""
    down, X = normal(OUT, H), normal(N, H, seed=1) @ normal(H, H, seed=2)
    C = X.T @ X
    S, new = modegpt.nystrom(down, C, keep)
    schur = C - C[:, S] @ np.linalg.inv(C[np.ix_(S, S)]) @ C[S]
    error = squares(X @ down.T - X[:, S] @ new.T)
    assert len(S) == keep and error == pytest.approx(np.trace(down @ schur @ down.T), rel=1e-8)
    assert squares(X @ down.T - X[:, S] @ down[:, S].T) > error


def test_leverage_is_the_diagonal_of_the_ridge_projection_and_finds_channels_of_their_own():
    X = normal(N, H)
    X[:, 1] = X[:, 0] + 1e-3 * X[:, 1]  # two channels that say the same
    C = X.T @ X
    ridge = modegpt.RIDGE * np.trace(C) / H * np.eye(H)
    scores = modegpt.leverage(C)
    assert_allclose(scores, np.diag(C @ np.linalg.inv(C + ridge)), rtol=1e-10)
    assert set(scores.argsort()[:2]) == {0, 1}


@pytest.mark.parametrize("keep", [1, 3, 6])
def test_dropped_channels_of_queries_and_keys_cost_the_sum_of_their_block(keep):
    """D70: ||Q K^T - Q_S K_S^T||^2 = sum over dropped i, j of (Cq o Ck)_ij."""
    q, k = normal(N, OUT) * np.arange(1, OUT + 1), normal(N, OUT, seed=1)
    Cq, Ck = q.T @ q, k.T @ k
    mask = modegpt.cr(Cq, Ck, keep)
    drop = np.flatnonzero(mask == 0)
    error = squares(q @ k.T - (q * mask) @ k.T)
    assert error == pytest.approx((Cq * Ck)[np.ix_(drop, drop)].sum(), rel=1e-10)
    norms = [np.linalg.norm(q[:, i]) * np.linalg.norm(k[:, i]) for i in range(OUT)]
    assert set(np.flatnonzero(mask)) == set(np.argsort(norms)[OUT - keep :])


@pytest.mark.parametrize("keep", [1, 3])
def test_values_and_output_together_leave_the_tail_of_their_product(keep):
    """D71: s^2 of C^(1/2) Wv^T Wo^T beyond k; each truncated for itself, the control, is worse."""
    value, output, X = normal(OUT, IN), normal(H, OUT, seed=1), normal(N, IN, seed=2) + 0.5
    exact = X @ value.T @ output.T
    eigenvalues, vectors = np.linalg.eigh(X.T @ X)
    root = vectors * np.sqrt(eigenvalues) @ vectors.T
    s = np.linalg.svd(root @ value.T @ output.T, compute_uv=False)
    v, o = modegpt.vo(value, output, X.T @ X, keep)
    assert v.shape == (keep, IN) and o.shape == (H, keep)
    error = squares(exact - X @ v.T @ o.T)
    assert error == pytest.approx(squares(s[keep:]), rel=1e-9)
    single = np.linalg.svd(value, full_matrices=False)[0][:, :keep]
    assert squares(exact - X @ value.T @ single @ single.T @ output.T) > error


def test_sparsities_have_the_mean_asked_for_and_spare_blocks_that_change_much():
    """D72: also where one block would lose more than may be lost."""
    influences = np.array([0.1, 0.5, 0.2])
    out = modegpt.sparsities(influences, 0.4)
    assert out.mean() == pytest.approx(0.4) and (out.argsort() == [1, 2, 0]).all()
    assert_allclose(np.log(out[0] / out[1]), 0.4 / modegpt.TEMPERATURE)
    assert (modegpt.sparsities(5 * influences, 0.75) == 0.75).all()


def attend(X, qkv, bias, output, own, heads, d):
    """One sequence through an attention layer, head by head; scores are divided by d^(1/2)."""
    q, k, v = np.split(X @ qkv.T + bias, 3, axis=1)
    out = own
    for p in np.arange(q.shape[1]).reshape(heads, -1):
        out = out + softmax(q[:, p] @ k[:, p].T / d**0.5, axis=1) @ v[:, p] @ output[:, p].T
    return out


def test_attention_with_zeros_is_a_smaller_attention():
    """D73: channels cut out, biases of values moved on; another bias, the control, shows."""
    heads, d, into, keep = 2, 5, 6, 3
    D = heads * d
    shapes = [(3 * D, into), (3 * D,), (into, D), (into,), (N, into)]
    qkv, bias, output, own, X = (normal(*shape, seed=i) for i, shape in enumerate(shapes))
    a, o = modegpt.attention(qkv, bias, output, X, heads, d)
    new, thin, rest = a.dense(), o.dense(), own + o.shift
    exact = attend(X, qkv, bias, output, own, heads, d)
    assert_allclose(attend(X, new, bias + a.shift, thin, rest, heads, d), exact, rtol=1e-8)
    assert abs(attend(X, new, bias, thin, rest, heads, d) - exact).max() > 0.1
    a, o = modegpt.attention(qkv, bias, output, X, heads, keep)
    new, new_bias, thin, rest = a.dense(), bias + a.shift, o.dense(), own + o.shift
    q, k, v = rows = np.flatnonzero(new.any(axis=1)).reshape(3, -1)  # the channels that stay
    assert (k == q + D).all() and (np.bincount(q // d) == keep).all()
    assert a.n_parameters == rows.size * into and o.n_parameters == into * len(v)
    every = rows.ravel()
    small = attend(X, new[every], new_bias[every], thin[:, v - 2 * D], rest, heads, d)
    assert_allclose(attend(X, new, new_bias, thin, rest, heads, d), small, rtol=1e-8)


def test_an_mlp_with_zeros_is_a_smaller_mlp():
    """D73: the rows and columns that are left compute the same."""
    X, up, down = normal(N, IN), normal(H, IN, seed=7), normal(IN, H, seed=8)
    a, o = modegpt.mlp(up, down, np.maximum(X @ up.T, 0), 4)
    S = np.flatnonzero(a.dense().any(axis=1))
    assert len(S) == 4 and a.n_parameters == 4 * IN == o.n_parameters
    small = np.maximum(X @ up[S].T, 0) @ o.dense()[:, S].T
    assert_allclose(np.maximum(X @ a.dense().T, 0) @ o.dense().T, small, rtol=1e-10)


# ------------------------------------------------------------------ MPO


def test_counts_of_a_shared_central_core_are_those_of_the_paper():
    """D74: 12 layers of 768 x 768, 8,192 beside the core each, 688,128 against 7,077,888."""
    core, small = mpo.parameters_of((768, 768))
    assert mpo.modes(768) == (8, 12, 8) and core == 64 * 12 * 12 * 64
    assert small == 8 * 8 * 64 + 64 * 8 * 8 == 8192
    assert core + 12 * small == 688_128 and 12 * 768 * 768 == 7_077_888


def test_no_sweep_of_shared_trains_raises_the_error():
    """D75: errors by the matrices; gradients by the last core are 0; shared matrices come back."""
    weights = [normal(48, 24, seed=seed) + normal(48, 24, seed=9) for seed in range(3)]
    tensors = [mpo.to_tensor(W) for W in weights]
    As, C, Bs, errors = mpo.alternate(tensors, (3, 2), sweeps=8)
    assert all(b <= a * (1 + 1e-12) for a, b in itertools.pairwise(errors))
    assert errors[-1] < 0.995 * errors[0]
    rebuilt = (mpo.matrix_of(A, C, B, (48, 24)) for A, B in zip(As, Bs))
    slow = sum(squares(W - other) for W, other in zip(weights, rebuilt))
    assert slow == pytest.approx(errors[-1], rel=1e-10)
    rest = [T - np.einsum("ar,rms,sb->amb", A, C, B) for T, A, B in zip(tensors, As, Bs)]
    gradient = sum(np.einsum("ar,amb,sb->rms", A, E, B) for A, E, B in zip(As, rest, Bs))
    assert abs(gradient).max() < 1e-8 * errors[0]
    core, right = normal(2, 24 * 6, 2), normal(2, 4, seed=5)
    lefts = [normal(4, 2, seed=1) + 0.1 * normal(4, 2, seed=s) for s in range(3)]
    same = [np.einsum("ar,rms,sb->amb", left, core, right) for left in lefts]
    assert mpo.alternate(same, (2, 2), sweeps=60)[3][-1] < 1e-3 * sum(map(squares, same))


@pytest.mark.parametrize("ratio", [2, 8])
def test_shared_trains_keep_to_the_budget_and_count_the_core_once(ratio):
    weights = [normal(96, 48, seed=seed) for seed in range(2)]
    one, other = mpo.compress(weights, ratio)
    core = one.parameters[1]
    assert core is other.parameters[1] and one.n_parameters - other.n_parameters == core.size
    used, budget = one.n_parameters + other.n_parameters, 2 * 96 * 48 / ratio
    assert 0.7 * budget < used <= budget
    text = r"^ratio: expected 1 to \d+\.?\d* for 2 shared trains at this size, got 9999$"
    with pytest.raises(InputError, match=text):
        mpo.compress(weights, 9999)


# ------------------------------------------------------------------ ACIP


def test_masks_change_nothing_at_first_and_have_the_gradient_sigma_u_g_v():
    """D76: against the formula, and differences of the loss by the singular values themselves."""
    torch = pytest.importorskip("torch")
    W, target = normal(OUT, IN), normal(OUT, IN, seed=1)
    U, S, Vt = np.linalg.svd(W, full_matrices=False)
    triple = [torch.tensor(one) for one in (U, S, Vt)]
    masks = torch.full((IN,), acip.START, dtype=torch.float64, requires_grad=True)
    new = acip.rebuild(*triple, masks)
    assert_allclose(new.detach().numpy(), W, rtol=1e-12)
    ((new - torch.tensor(target)) ** 2).sum().backward()
    exact = [S[i] * U[:, i] @ (2 * (W - target)) @ Vt[i] for i in range(IN)]
    assert_allclose(masks.grad.numpy(), exact, rtol=1e-12)

    def loss(values):
        return squares((U * values) @ Vt - target)

    slow = [(loss(S * (1 + e)) - loss(S * (1 - e))) / 2e-5 for e in 1e-5 * np.eye(IN)]
    assert_allclose(masks.grad.numpy(), slow, rtol=1e-7)
    off = acip.rebuild(*triple, torch.tensor([-0.1, 0.1, 0.1, 0.1, 0.1]))
    assert_allclose(off.numpy(), W - S[0] * np.outer(U[:, 0], Vt[0]), rtol=1e-9, atol=1e-12)


def test_smaller_models_lie_within_larger_ones_and_sigma_as_score_is_eckart_young():
    """D77: counts by the formula; the next singular value is beyond the budget."""
    weights = [normal(OUT, IN), normal(H, OUT, seed=1)]
    shapes, total = [(OUT, IN), (H, OUT)], OUT * IN + H * OUT
    scores = [normal(IN, seed=2), normal(OUT, seed=3)]

    def size(ranks):
        return sum(min(m * n, k * (m + n)) for (m, n), k in zip(shapes, ranks))

    before, order = [0, 0], np.sort(np.concatenate(scores))[::-1]
    for ratio in (5, 4, 3, 2, 1.5, 1):
        ranks = acip.ranks_at(shapes, scores, ratio)
        assert all(a <= b for a, b in zip(before, ranks)) and size(ranks) <= total / ratio
        kept = acip.compress(weights, scores, ratio)
        assert sum(one.n_parameters for one in kept) == size(ranks)
        assert [int((one >= order[sum(ranks) - 1]).sum()) for one in scores] == ranks
        if sum(ranks) < len(order):
            more = [int((one >= order[sum(ranks)]).sum()) for one in scores]
            assert size(more) > total / ratio
        before = ranks
    s = np.linalg.svd(weights[0], compute_uv=False)
    for score, tail in ((s, s[2:]), (-s, s[:-2])):  # the second is the control
        kept = acip.compress(weights[:1], [score], OUT * IN / 24)[0]
        assert squares(weights[0] - kept.dense()) == pytest.approx(squares(tail), rel=1e-10)
    text = r"^ratio: expected 1 to 6\.2 for these layers at this size, got 99$"
    with pytest.raises(InputError, match=text):
        acip.ranks_at(shapes, scores, 99)


def test_learned_masks_find_the_directions_that_the_task_does_not_need():
    torch = pytest.importorskip("torch")
    X, W = torch.tensor(normal(N, IN), dtype=torch.float32), np.diag([5.0, 4.0, 3.0, 2.0, 1.0])
    target = X * torch.tensor([0, 4, 0, 2, 1])  # the largest and the third are of no use
    scores = acip.learn([W], lambda weights: ((X @ weights[0].T - target) ** 2).mean())[0]
    assert (scores[[0, 2]] < 0).all() and (scores[[1, 3, 4]] > 0).all()


# ------------------------------------------------------------------ CSformer


@pytest.fixture(scope="module")
def image():
    """The photograph of Grace Hopper that matplotlib brings along, in grey: (592, 512), 0 to 1."""
    pytest.importorskip("matplotlib")
    from matplotlib.cbook import get_sample_data
    from matplotlib.image import imread

    with get_sample_data("grace_hopper.jpg") as file:
        return (imread(file, format="jpg") @ [0.299, 0.587, 0.114] / 255)[:592]


@pytest.mark.parametrize("n", [3, 26])
def test_learned_measurements_leave_the_tail_of_the_eigenvalues(image, n):
    """D78: on a photograph; random measurements with the best map, the control, leave more."""
    X = csformer.blocks(image[:160, 160:352])
    C = X.T @ X
    Phi, random = csformer.learned(C, n), normal(n, 256)
    error = squares(X - X @ Phi.T @ Phi)
    assert error == pytest.approx(np.sort(np.linalg.eigvalsh(C))[:-n].sum(), rel=1e-8)
    assert squares(X - X @ random.T @ csformer.lmmse(random, C).T) > error


def test_what_the_linear_map_of_random_measurements_misses_is_orthogonal_to_them(image):
    """D79: a near map has more error; the transpose of Phi, the control, is not orthogonal."""
    X, Phi = csformer.blocks(image[:160, 160:352]), normal(11, 256) / 16
    y, R = X @ Phi.T, csformer.lmmse(Phi, X.T @ X)
    rest = X - y @ R.T
    assert abs(rest.T @ y).max() < 1e-8 * abs(X.T @ y).max() < abs((X - y @ Phi).T @ y).max()
    assert squares(X - y @ (R + 1e-3 * normal(256, 11)).T) > squares(rest)


def test_blocks_are_those_of_the_image_and_others_are_refused(image):
    assert (csformer.blocks(image)[33] == image[16:32, 16:32].ravel()).all()
    assert (csformer.unblock(csformer.blocks(image), image.shape) == image).all()
    text = r"^image: expected two axes of multiples of 16, got \(592, 500\)$"
    with pytest.raises(InputError, match=text):
        csformer.blocks(image[:, 12:])


def test_a_matrix_read_as_an_image_is_a_sum_of_kronecker_products():
    W = sum(np.kron(normal(3, 2, seed=seed), normal(16, 16, seed=9 + seed)) for seed in (1, 2))
    kept = csformer.compress(W, np.ones((1, 32)), W.size / (2 * (6 + 256)))
    assert kept.n_parameters == 2 * (6 + 256)
    assert_allclose(kept.dense(), W, atol=1e-10)


def test_the_net_begins_at_the_linear_image_and_is_better_where_it_did_not_train(image):
    torch = pytest.importorskip("torch")
    from see_min.related.layers import csformer_net

    left, right = image[160:352, 128:320], image[160:352, 320:448]
    rows = csformer.blocks(left)
    Phi = csformer.learned(rows.T @ rows, 26)
    x = torch.tensor(right, dtype=torch.float32)[None, None]
    linear = csformer.unblock(csformer.blocks(right) @ Phi.T @ Phi, right.shape)
    net = csformer_net.CSformer(Phi)
    assert_allclose(net(x).detach()[0, 0].numpy(), linear, atol=1e-5)
    before = torch.random.get_rng_state()
    net = csformer_net.train(left, 0.10, steps=30, size=32)
    assert (torch.random.get_rng_state() == before).all()
    with torch.no_grad():
        assert squares(right - net(x)[0, 0].numpy()) < squares(right - linear)
        pixel = x.clone()
        pixel[0, 0, 5, 5] += 1
        moved = (net(pixel) - net(x))[0, 0].abs() > 1e-6
    # a window of the transformer, and a convolution's reach
    assert moved[:16, :16].all() and moved[:18, 16:18].any() and not moved[24:, 24:].any()


# ------------------------------------------------------------------ distillation


@pytest.mark.parametrize("T", [0.5, 3.0])
def test_gradient_of_distillation_is_the_difference_of_the_softmaxes(T):
    """D80: by its formula, and by PyTorch from the loss of the bridge."""
    s, t = normal(3, OUT), normal(3, OUT, seed=1)
    loss, gradient = distillation.distil(s, t, T)
    p, q = softmax(t / T, axis=1), softmax(s / T, axis=1)
    assert loss == pytest.approx(T**2 * (p * np.log(p / q)).sum() / 3, rel=1e-12)
    assert_allclose(gradient, T * (q - p) / 3, rtol=1e-10, atol=1e-15)
    torch = pytest.importorskip("torch")
    from see_min.bridge.finetune import distillation as theirs

    x = torch.tensor(s, requires_grad=True)
    value = theirs(x, torch.tensor(t), T)
    value.backward()
    assert value.item() == pytest.approx(loss, rel=1e-10)
    assert_allclose(x.grad.numpy(), gradient, rtol=1e-9, atol=1e-14)


def test_distillation_is_zero_exactly_where_scores_differ_by_a_constant():
    """D81: and near zero it grows with the square of the rest."""
    t = normal(4, OUT)
    same = t + normal(4, 1, seed=1) * 7
    loss, gradient = distillation.distil(same, t)
    assert abs(loss) < 1e-12 and abs(gradient).max() < 1e-12
    one, two = (distillation.distil(same + e * np.eye(4, OUT), t)[0] for e in (1e-3, 2e-3))
    assert 1e-9 < one and two == pytest.approx(4 * one, rel=0.01)
    with pytest.raises(InputError, match="^temperature: expected a number above 0, got 0$"):
        distillation.distil(t, t, 0)
