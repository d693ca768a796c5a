"""Train the teacher, then a compressed student in two stages.

Stage 1 moves the leaf tables alone, until embeddings and hidden states are those of the teacher:

    loss = MSE(E, E0) / var(E0) + sum over blocks of MSE(H, H0) / var(H0)

Stage 2 moves everything, by distillation and cross entropy:

    loss = alpha T^2 KL(teacher || student) + (1 - alpha) CE

The two stages are the paper's (arXiv 2412.12204); dividing by variances, and every number here, is ours.
"""

import math
import time

import torch
from torch.nn import functional as F
from tqdm import tqdm

from see_min.corpus import windows

RARE_FROM = 1000  # targets that are not among the 1,000 most frequent words are rare


def cosine(step, steps, warmup=10, floor=0.05):
    """Learning-rate factor: linear warm-up, then half a cosine down to `floor`.

    Examples
    --------
    >>> [round(cosine(step, 100), 2) for step in (0, 9, 50, 100)]
    [0.1, 0.98, 0.53, 0.05]
    """
    return min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def pretrain(model, batches, steps, rate=2e-3, decay=2.0, label="teacher"):
    """Cross-entropy training with AdamW.

    The embedding alone has a strong weight decay: it takes the noise of the initial values off the rows of words that are
    seldom seen, which a compression would otherwise spend its floats on.

    Parameters
    ----------
    model : TinyGPT
    batches : iterable of int arrays (b, t + 1)
    steps : int
        How many batches there are.
    rate, decay : float
        Peak learning rate, weight decay of the token embedding.

    Returns
    -------
    dict with `loss` (of the last step), `tokens` and `seconds`
    """
    embedding = list(model.token_embedding.parameters())
    rest = [p for name, p in model.named_parameters() if not name.startswith("token_embedding.")]
    groups = [{"params": embedding, "weight_decay": decay}, {"params": rest, "weight_decay": 0.05}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99))

    def loss_of(number, batch):
        return cross_entropy(model(batch[:, :-1]), batch[:, 1:])

    return _train(model, optimizer, loss_of, batches, steps, label)


def stage1(student, teacher, batches, steps, rate=2e-3, states=None, label="stage 1"):
    """Match embeddings and hidden states; only the student's token embedding moves.

    Parameters
    ----------
    student, teacher : TinyGPT
        The teacher has a dense embedding and is not changed.
    batches : iterable of int arrays (b, t + 1)
    steps : int
    states : callable(number, ids), optional
        Gives the teacher's hidden states of a batch, where they are at hand already.

    Returns
    -------
    dict with `loss`, `tokens` and `seconds`
    """
    moving = list(student.token_embedding.parameters())
    states = states or (lambda number, ids: hidden_states(teacher, ids))

    def loss_of(number, batch):
        ids = batch[:, :-1]
        E, E0 = student.token_embedding(ids), teacher.token_embedding(ids).detach()  # (b, t, D)
        pairs = [(E, E0), *zip(student.hidden_states(ids)[1:], states(number, ids)[1:])]
        return sum(F.mse_loss(ours, theirs) / theirs.var() for ours, theirs in pairs)

    frozen = [p for p in student.parameters() if p.requires_grad and all(p is not m for m in moving)]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        return _train(student, torch.optim.Adam(moving, lr=rate), loss_of, batches, steps, label)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def stage2(student, teacher, batches, steps, rate=1e-3, alpha=0.5, temperature=1.0, states=None, label="stage 2"):
    """Distil the teacher's predictions and learn from the text; every parameter moves, leaf tables at twice the rate.

    Parameters
    ----------
    alpha : float
        Share of the distillation in the loss.
    temperature : float
        T; logits are divided by it before the softmax.

    Other parameters and the result are those of `stage1`.
    """
    leaves = list(student.token_embedding.parameters())
    rest = [p for name, p in student.named_parameters() if not name.startswith("token_embedding.")]
    optimizer = torch.optim.Adam([{"params": rest, "lr": rate}, {"params": leaves, "lr": 2 * rate}], betas=(0.9, 0.98))
    states = states or (lambda number, ids: hidden_states(teacher, ids))

    def loss_of(number, batch):
        ids, targets = batch[:, :-1], batch[:, 1:]
        with torch.no_grad():
            goal = teacher.logits(states(number, ids)[-1])  # (b, t, V)
        logits = student(ids)  # (b, t, V)
        return alpha * distillation(logits, goal, temperature) + (1 - alpha) * cross_entropy(logits, targets)

    return _train(student, optimizer, loss_of, batches, steps, label)


def cross_entropy(logits, targets):
    """Mean of -ln p(target): logits (b, t, V), targets (b, t)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def distillation(logits, goal, temperature=1.0):
    """T^2 KL(softmax(goal / T) || softmax(logits / T)), the mean over positions.

    Examples
    --------
    >>> goal = torch.tensor([[[1.0, 2.0, 4.0]]])
    >>> abs(float(distillation(goal + 5, goal))) < 1e-6          # logits matter up to a constant
    True

    Source: Hinton et al., arXiv 1503.02531.
    """
    ours, theirs = (F.log_softmax(x.flatten(0, 1) / temperature, -1) for x in (logits, goal))  # (b t, V)
    return temperature**2 * F.kl_div(ours, theirs, log_target=True, reduction="batchmean")


@torch.no_grad()
def hidden_states(model, ids):
    """The hidden states of a model that is not trained."""
    return model.hidden_states(ids)


@torch.no_grad()
def perplexity(model, ids, most=320, size=16):
    """exp(mean cross entropy) over consecutive windows of `ids`, for all targets and for rare ones.

    Parameters
    ----------
    model : TinyGPT
    ids : int array (N,)
    most : int
        Windows at most.

    Returns
    -------
    (float, float or None)
        The second is over targets of rank RARE_FROM and beyond; None if there is none.
    """
    model.eval()
    device = next(model.parameters()).device
    losses, targets = [], []
    for chunk in torch.from_numpy(windows(ids, model.config.context, most)).to(device).split(size):
        x, y = chunk[:, :-1], chunk[:, 1:]  # (b, t)
        losses.append(F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="none"))  # (b t,)
        targets.append(y.flatten())
    loss, target = torch.cat(losses).double(), torch.cat(targets)
    rare = loss[target >= RARE_FROM]
    return math.exp(loss.mean()), math.exp(rare.mean()) if len(rare) else None


def _train(model, optimizer, loss_of, batches, steps, label):
    """One optimizer step a batch, gradient norm at most 1, cosine schedule; a bar on a terminal only."""
    device = next(model.parameters()).device
    peak = [group["lr"] for group in optimizer.param_groups]
    start, tokens, loss = time.perf_counter(), 0, torch.tensor(float("nan"))
    model.train()
    for number, batch in enumerate(tqdm(batches, total=steps, desc=label, disable=None, leave=False)):
        for group, rate in zip(optimizer.param_groups, peak):
            group["lr"] = rate * cosine(number, steps)
        batch = torch.as_tensor(batch).to(device)  # (b, t + 1)
        loss = loss_of(number, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
        optimizer.step()
        tokens += batch[:, 1:].numel()
    model.eval()
    return {"loss": loss.item(), "tokens": tokens, "seconds": time.perf_counter() - start}
