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
from scipy.special import log_softmax

from see_min.errors import InputError
from see_min.related.primitives import check_matrix


def distil(scores, target, temperature=1.0):
    """The mean loss of scores s (N, V) against t (N, V), and its gradient (N, V) by s.

    Other shapes, numbers that are not finite and T not above 0 are an InputError.

    >>> target = np.array([[1.0, 2.0, 4.0]])
    >>> round(distil(target + 5, target)[0], 12)               # scores matter up to a constant
    0.0
    """
    target = check_matrix("target", target)
    scores = check_matrix("scores", scores, *target.shape)
    if not temperature > 0:
        raise InputError(f"temperature: expected a number above 0, got {temperature}")
    ours, theirs = (log_softmax(one / temperature, axis=1) for one in (scores, target))  # (N, V)
    loss = temperature**2 * (np.exp(theirs) * (theirs - ours)).sum() / len(target)
    return float(loss), temperature * (np.exp(ours) - np.exp(theirs)) / len(target)
