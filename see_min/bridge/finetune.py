"""Train the teacher, then a compressed student in two stages.

Stage 1 moves the leaf tables alone, until embeddings and hidden states are those of the teacher:

    loss = MSE(E, E0) / var(E0) + sum over blocks of MSE(H, H0) / var(H0)

Stage 2 moves everything, by distillation and cross entropy:

    loss = alpha T^2 KL(teacher || student) + (1 - alpha) CE

and for an encoder of sentences, which has no vocabulary to predict, by hidden states and the means of sentences:

    loss = mean over blocks of MSE(H, H0) / var(H0) + beta MSE(mean H, mean H0) / var(mean H0)

The two stages are the paper's (arXiv 2412.12204); dividing by variances, the loss of encoders, and every number here, is ours.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from see_min.bridge.training import Objective, on_device, train
from see_min.corpus import windows
from see_min.sequences import IGNORE

RARE_FROM = 1000  # targets that are not among the 1,000 most frequent words are rare


@dataclass(frozen=True)
class Task:
    """What a stage has to know of a model beyond its protocol `hidden_states(*inputs)`, `logits(state)`.

    Attributes
    ----------
    embeddings : tuple of str
        The dotted name of the embedding of each input in turn.
    pad : int or None
        The id that fills rows up; its positions do not count.
    """

    embeddings: tuple = ("token_embedding",)
    pad: int | None = None

    def parameters(self, model):
        """The parameters of the embeddings, each once."""
        return list({id(p): p for name in self.embeddings for p in model.get_submodule(name).parameters()}.values())

    def rest(self, model):
        """The other parameters."""
        own = {id(p) for p in self.parameters(model)}
        return [p for p in model.parameters() if id(p) not in own]

    def real(self, tensor, ids):
        """The positions of a tensor (b, t, D) that are not padding: (N, D)."""
        return tensor.flatten(0, 1) if self.pad is None else tensor[ids != self.pad]

    def embedded(self, model, batch):
        """The embeddings of each input, (N, D) each."""
        return [self.real(model.get_submodule(name)(ids), ids) for name, ids in zip(self.embeddings, batch.inputs)]

    def blocks(self, states, batch):
        """The states after each block, (N, D) each; a model with several inputs has equally many states of each."""
        each = len(states) // len(batch.inputs)
        return [self.real(state, batch.inputs[i // each]) for i, state in enumerate(states) if i % each]


LANGUAGE = Task()


def pretrain(model, batches, steps, rate=2e-3, decay=2.0, task=LANGUAGE, loop=None, label="teacher"):
    """Cross-entropy training with AdamW.

    The embedding alone has a strong weight decay: it takes the noise of the initial values off the rows of words that are
    seldom seen, which a compression would otherwise spend its floats on.

    Parameters
    ----------
    model : nn.Module of the bridge
    batches : iterable of see_min.sequences.Batch
    steps : int
        How many batches there are.
    rate, decay : float
        Peak learning rate, weight decay of the embeddings.
    task : Task
    loop : see_min.bridge.training.Loop, optional

    Returns
    -------
    dict, as `see_min.bridge.training.train`
    """
    groups = [{"params": task.parameters(model), "weight_decay": decay}, {"params": task.rest(model), "weight_decay": 0.05}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99))

    def loss(model, batch):
        return cross_entropy(model(*batch.inputs), batch.targets)

    model.train()
    try:
        return train(Objective(model, loss), optimizer, batches, steps, label, loop, task.pad)
    finally:
        model.eval()


def stage1(student, teacher, batches, steps, rate=2e-3, task=LANGUAGE, loop=None, label="stage 1"):
    """Match embeddings and hidden states; only the student's embeddings move. Dropout is off, as in the teacher.

    Parameters
    ----------
    student, teacher : nn.Module of the bridge
        The teacher has dense embeddings and is not changed.
    batches : iterable of see_min.sequences.Batch
    steps : int
    task : Task
    loop : see_min.bridge.training.Loop, optional

    Returns
    -------
    dict, as `see_min.bridge.training.train`
    """
    moving = task.parameters(student)

    def loss(student, batch):
        pairs = list(zip(task.embedded(student, batch), _without_gradient(task.embedded, teacher, batch)))
        pairs += _block_pairs(student, teacher, task, batch)[0]
        return sum(relative_mse(ours, theirs) for ours, theirs in pairs)

    own = {id(p) for p in moving}
    frozen = [p for p in student.parameters() if p.requires_grad and id(p) not in own]
    for parameter in frozen:
        parameter.requires_grad_(False)
    student.eval()
    try:
        return train(Objective(student, loss), torch.optim.Adam(moving, lr=rate), batches, steps, label, loop, task.pad)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def stage2(student, teacher, batches, steps, rate=1e-3, alpha=0.5, temperature=1.0, beta=3.0, leaves=2.0, task=LANGUAGE,
           loop=None, label="stage 2"):
    """Every parameter moves, those of the embeddings at `leaves` times the rate. Dropout is off.

    Batches with targets: distil the teacher's predictions and learn from the text. Batches without: match hidden states and the
    mean states of sentences.

    Parameters
    ----------
    alpha : float
        Share of the distillation in the loss.
    temperature : float
        T; logits are divided by it before the softmax.
    beta : float
        Weight of the means of sentences.

    Other parameters and the result are those of `stage1`.
    """
    groups = [{"params": task.rest(student), "lr": rate}, {"params": task.parameters(student), "lr": leaves * rate}]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.98))

    def loss(student, batch):
        if batch.targets is None:
            return sentence_loss(student, teacher, task, batch, beta)
        here = batch.targets != IGNORE  # (b, t)
        targets = batch.targets[here]  # (N,)
        goal = _without_gradient(_logits, teacher, batch, here)  # (N, V)
        logits = _logits(student, batch, here)  # (N, V)
        return alpha * distillation(logits, goal, temperature) + (1 - alpha) * F.cross_entropy(logits, targets)

    student.eval()
    return train(Objective(student, loss), optimizer, batches, steps, label, loop, task.pad)


def _without_gradient(function, *arguments):
    with torch.no_grad():
        return function(*arguments)


def _logits(model, batch, here):
    """Scores (N, V) at the positions that have a target; the head sees no other."""
    return model.logits(model.hidden_states(*batch.inputs)[-1][here])


def _block_pairs(student, teacher, task, batch):
    """Pairs of states (N, D) after each block, the student's first; and the two last states (b, t, D)."""
    ours = student.hidden_states(*batch.inputs)
    theirs = _without_gradient(teacher.hidden_states, *batch.inputs)
    return list(zip(task.blocks(ours, batch), task.blocks(theirs, batch))), (ours[-1], theirs[-1])


def relative_mse(ours, theirs):
    """MSE(ours, theirs) / var(theirs)."""
    return F.mse_loss(ours, theirs) / theirs.var()


def sentence_loss(student, teacher, task, batch, beta):
    """The loss of an encoder of sentences, see above."""
    pairs, last = _block_pairs(student, teacher, task, batch)
    ids = batch.inputs[-1]
    real = torch.ones_like(ids) if task.pad is None else (ids != task.pad).long()  # (b, t)
    means = [(state * real[..., None]).sum(1) / real.sum(1, keepdim=True) for state in last]  # (b, D) each
    return sum(relative_mse(*pair) for pair in pairs) / len(pairs) + beta * relative_mse(*means)


def cross_entropy(logits, targets):
    """Mean of -ln p(target) over positions with a target: logits (b, t, V), targets (b, t)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)


def distillation(logits, goal, temperature=1.0):
    """T^2 KL(softmax(goal / T) || softmax(logits / T)), the mean over positions.

    Examples
    --------
    >>> goal = torch.tensor([[1.0, 2.0, 4.0]])
    >>> abs(float(distillation(goal + 5, goal))) < 1e-6          # logits matter up to a constant
    True

    Source: Hinton et al., arXiv 1503.02531.
    """
    ours, theirs = (F.log_softmax(x.flatten(0, -2) / temperature, -1) for x in (logits, goal))  # (N, V)
    return temperature**2 * F.kl_div(ours, theirs, log_target=True, reduction="batchmean")


@torch.no_grad()
def perplexity(model, ids, most=320, size=16, context=None, rare_from=None):
    """exp(mean cross entropy) over consecutive windows of `ids`, for all targets and for rare ones.

    Parameters
    ----------
    model : TinyGPT
    ids : int array (N,)
    most : int
        Windows at most.
    context : int, optional
        Positions of a window; those of ``model.config`` when left out.
    rare_from : int, optional
        RARE_FROM when left out.

    Returns
    -------
    (float, float or None)
        The second is over targets of rank `rare_from` and beyond; None if there is none.
    """
    model.eval()
    context = model.config.context if context is None else context
    rare_from = RARE_FROM if rare_from is None else rare_from
    device = next(model.parameters()).device
    losses, targets = [], []
    for chunk in torch.from_numpy(windows(ids, context, most)).to(device).split(size):
        x, y = chunk[:, :-1], chunk[:, 1:]  # (b, t)
        losses.append(F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="none"))  # (b t,)
        targets.append(y.flatten())
    loss, target = torch.cat(losses).double(), torch.cat(targets)
    rare = loss[target >= rare_from]
    return math.exp(loss.mean()), math.exp(rare.mean()) if len(rare) else None


@torch.no_grad()
def masked_accuracy(model, batches):
    """Share of the masked positions whose word has the highest score.

    Parameters
    ----------
    model : TinyBERT, or another model of the bridge that reads ids alone
    batches : iterable of see_min.sequences.Batch

    Returns
    -------
    float

    Source: ours.
    """
    model.eval()
    device, right, total = next(model.parameters()).device, 0, 0
    for batch in batches:
        batch = on_device(batch, device)
        here = batch.targets != IGNORE  # (b, t)
        right += int((_logits(model, batch, here).argmax(-1) == batch.targets[here]).sum())
        total += int(here.sum())
    return right / max(total, 1)
