"""Distillation: the student's scores s are to be the teacher's t, near misses included.

    minimise  T^2 KL(softmax(t / T) || softmax(s / T))

It keeps parameters and bits as they are: it is what every method is finetuned with. The factor T^2
makes the gradient T (softmax(s / T) - softmax(t / T)), which at large T is that of least squares on
centred scores, (s - t) / V. The loss is 0 only where scores differ by a constant.
`see_min.bridge.finetune.distillation` is the same in PyTorch.

Source: arXiv 1503.02531, one of the four families of the survey, arXiv 2402.05964. Simplified:
scores alone; the states of blocks, which see_min.bridge.finetune matches too, are not here.
"""

import numpy as np

from see_min.errors import InputError, check_axes, check_finite


def log_softmax(scores):
    """ln softmax along the last axis: (..., V) -> (..., V)."""
    scores = scores - scores.max(axis=-1, keepdims=True)  # the largest is 0: nothing overflows
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))


def distil(scores, target, temperature=1.0):
    """The mean loss of scores s (N, V) against t (N, V), and its gradient (N, V) by s.

    Raises
    ------
    InputError
        If the scores are not (N, V), a number is not finite, or T is not above 0.

    Examples
    --------
    >>> target = np.array([[1.0, 2.0, 4.0]])
    >>> round(distil(target + 5, target)[0], 12)               # scores matter up to a constant
    0.0
    """
    target = check_finite("target", check_axes("target", target, None, None))
    scores = check_finite("scores", check_axes("scores", scores, *target.shape))
    if not temperature > 0:
        raise InputError(f"temperature: expected a number above 0, got {temperature}")
    ours, theirs = log_softmax(scores / temperature), log_softmax(target / temperature)  # (N, V)
    loss = temperature**2 * (np.exp(theirs) * (theirs - ours)).sum() / len(target)
    return float(loss), temperature * (np.exp(ours) - np.exp(theirs)) / len(target)
