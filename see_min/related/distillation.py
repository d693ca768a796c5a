"""Distillation: the student's scores s are to be the teacher's t, words that are nearly right included.

    minimise  T^2 KL(softmax(t / T) || softmax(s / T))

It keeps floats and bits as they are: it is what every method is finetuned with. The factor T^2 makes the gradient
T (softmax(s / T) - softmax(t / T)), which at large T is that of least squares on centred scores, (s - t) / V. The loss is 0 only
where scores differ by a constant. `see_min.bridge.finetune.distillation` is the same in PyTorch.

Source: arXiv 1503.02531, one of the four families of the survey, arXiv 2402.05964. Simplified: scores alone; the states of
blocks, which see_min.bridge.finetune matches too, are not here.
"""

import numpy as np

from see_min.checks import DataError, check_axes, check_finite


def log_softmax(scores):
    """ln softmax along the last axis: (..., V) -> (..., V).

    Examples
    --------
    >>> np.exp(log_softmax(np.array([0., 0., 1000.])))
    array([0., 0., 1.])
    """
    scores = scores - scores.max(axis=-1, keepdims=True)  # the largest is 0: nothing overflows
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))


def distil(scores, goal, temperature=1.0):
    """The loss and its gradient.

    Parameters
    ----------
    scores, goal : array (N, V)
        s and t.
    temperature : float
        T.

    Returns
    -------
    (float, array (N, V))
        The mean over N, and its derivative with respect to s.

    Raises
    ------
    ShapeError, DataError
        If the scores are not (N, V), a number is not finite, or T is not above 0.

    Examples
    --------
    >>> goal = np.array([[1.0, 2.0, 4.0]])
    >>> round(distil(goal + 5, goal)[0], 12)                        # scores matter up to a constant
    0.0

    Source: arXiv 1503.02531.
    """
    goal = check_finite("goal", check_axes("goal", goal, None, None))
    scores = check_finite("scores", check_axes("scores", scores, *goal.shape))
    if not temperature > 0:
        raise DataError(f"temperature: expected a number above 0, got {temperature}")
    ours, theirs = log_softmax(scores / temperature), log_softmax(goal / temperature)  # (N, V)
    loss = temperature**2 * (np.exp(theirs) * (theirs - ours)).sum() / len(goal)
    return float(loss), temperature * (np.exp(ours) - np.exp(theirs)) / len(goal)
