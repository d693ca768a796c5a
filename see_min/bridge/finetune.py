"""Finetune a compressed student beside its dense teacher, in two stages.

Stage 1 moves the embeddings alone, until they and the hidden states are those of the teacher:

    loss = MSE(E, E0) / var(E0) + sum over blocks of MSE(H, H0) / var(H0)

Stage 2 moves everything, by distillation and cross entropy:

    loss = alpha T^2 KL(teacher || student) + (1 - alpha) CE

and for an encoder of sentences, which predicts no words, by hidden states and means of sentences:

    loss = mean over blocks of MSE(H, H0) / var(H0) + beta MSE(mean H, mean H0) / var(mean H0)

The two stages are those of arXiv 2412.12204; all else is ours.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from see_min.toy.data import IGNORE
from see_min.toy.training import LossModule, cross_entropy, split_parameters, train


@dataclass(frozen=True)
class EmbeddingTask:
    """What a stage knows of a model beyond `hidden_states(*inputs)` and `logits(state)`."""

    embeddings: tuple = ("token_embedding",)  # dotted names, one for each input in turn
    pad: int | None = None  # the id that fills rows up; its positions do not count

    def valid(self, tensor, ids):
        """The positions of a tensor (b, t, D) that are not padding: (N, D)."""
        return tensor.flatten(0, 1) if self.pad is None else tensor[ids != self.pad]

    def embedded(self, model, batch):
        """The embeddings of each input, (N, D) each."""
        pairs = zip(self.embeddings, batch.inputs)
        return [self.valid(model.get_submodule(name)(ids), ids) for name, ids in pairs]

    def blocks(self, states, batch):
        """The states after each block, (N, D) each; each input has equally many states."""
        each = len(states) // len(batch.inputs)
        after = [(i, state) for i, state in enumerate(states) if i % each]  # 0: the embeddings
        return [self.valid(state, batch.inputs[i // each]) for i, state in after]


LANGUAGE = EmbeddingTask()


def stage1(student, teacher, batches, steps, lr=2e-3, task=LANGUAGE, config=None, label="stage 1"):
    """Match embeddings and hidden states; only the student's embeddings move, without dropout.

    The teacher, which has dense embeddings, is not changed. Config and result are those of
    `see_min.toy.training.train`.
    """

    def loss(student, batch):
        pairs = zip(task.embedded(student, batch), _no_grad(task.embedded, teacher, batch))
        pairs = [*pairs, *_block_pairs(student, teacher, task, batch)[0]]
        return sum(relative_mse(ours, theirs) for ours, theirs in pairs)

    moving, others = split_parameters(student, task.embeddings)
    frozen = [p for p in others if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    student.eval()
    try:
        module, optimizer = LossModule(student, loss), torch.optim.Adam(moving, lr=lr)
        return train(module, optimizer, batches, steps, label, config, task.pad)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def stage2(
    student, teacher, batches, steps, lr=1e-3, alpha=0.5, temperature=1.0, beta=3.0,
    embedding_lr_scale=2.0, task=LANGUAGE, config=None, label="stage 2",
):
    """Every parameter moves, those of the embeddings at `embedding_lr_scale` times the rate.

    Batches with targets distil and learn from the text; those without match hidden states. alpha, T
    and beta are those of the losses above. Dropout is off.
    """

    def loss(student, batch):
        if batch.targets is None:
            return sentence_loss(student, teacher, task, batch, beta)
        valid = batch.targets != IGNORE  # (b, t)
        teacher_logits = _no_grad(_logits, teacher, batch, valid)  # (N, V)
        logits = _logits(student, batch, valid)  # (N, V)
        soft = distillation(logits, teacher_logits, temperature)
        return alpha * soft + (1 - alpha) * cross_entropy(logits, batch.targets[valid])

    embeddings, others = split_parameters(student, task.embeddings)
    groups = [{"params": others}, {"params": embeddings, "lr": embedding_lr_scale * lr}]
    optimizer = torch.optim.Adam(groups, lr=lr, betas=(0.9, 0.98))
    student.eval()
    module = LossModule(student, loss)
    return train(module, optimizer, batches, steps, label, config, task.pad)


def _no_grad(function, *arguments):
    with torch.no_grad():
        return function(*arguments)


def _logits(model, batch, valid):
    """Scores (N, V) at the positions that have a target; the head sees no other."""
    return model.logits(model.hidden_states(*batch.inputs)[-1][valid])


def _block_pairs(student, teacher, task, batch):
    """Pairs of states (N, D) after each block, student first; the two last states (b, t, D)."""
    ours = student.hidden_states(*batch.inputs)
    theirs = _no_grad(teacher.hidden_states, *batch.inputs)
    pairs = zip(task.blocks(ours, batch), task.blocks(theirs, batch))
    return list(pairs), (ours[-1], theirs[-1])


def relative_mse(ours, theirs):
    """MSE(ours, theirs) / var(theirs)."""
    return F.mse_loss(ours, theirs) / theirs.var()


def sentence_loss(student, teacher, task, batch, beta):
    """The loss of an encoder of sentences, see above."""
    pairs, last = _block_pairs(student, teacher, task, batch)
    ids = batch.inputs[-1]  # (b, t)
    valid = torch.ones_like(ids) if task.pad is None else ids != task.pad  # (b, t)
    means = [(state * valid[..., None]).sum(1) / valid.sum(1, keepdim=True) for state in last]
    states = sum(relative_mse(*pair) for pair in pairs) / len(pairs)
    return states + beta * relative_mse(*means)  # of (b, D) each


def distillation(logits, teacher_logits, temperature=1.0):
    """T^2 KL(softmax(teacher_logits / T) || softmax(logits / T)), the mean over positions.

    Source: Hinton et al., arXiv 1503.02531.
    """
    pair = (x.flatten(0, -2) / temperature for x in (logits, teacher_logits))  # (N, V)
    ours, theirs = (F.log_softmax(x, -1) for x in pair)
    return temperature**2 * F.kl_div(ours, theirs, log_target=True, reduction="batchmean")
