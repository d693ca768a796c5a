"""Metrics: which way is better, what values are possible, how values and differences are written."""

METRICS = {"perplexity": False, "masked accuracy": True, "STS": True, "BLEU": True}  # name: is more better?
RANGES = {"masked accuracy": (0, 1), "STS": (-1, 1), "BLEU": (0, 100)}  # a perplexity is any number above 0
DECIMALS = {"masked accuracy": 3, "STS": 3}  # all others: 1
SLACK = 1e-6  # a perfect score is often computed as 100.00000000000004


def direction(metric):
    """What a title says.

    Examples
    --------
    >>> direction("BLEU")
    'more is better'

    Source: ours.
    """
    return "more is better" if METRICS[metric] else "less is better"


def number(value, metric=None):
    """A value as text, with the decimals of its metric (1 without); from 1000 on none, and a dash for None.

    Examples
    --------
    >>> number(0.61549, "STS"), number(61.549, "BLEU"), number(1234.5), number(None)
    ('0.615', '61.5', '1,234', '–')

    Source: ours.
    """
    return "–" if value is None else f"{value:z,.{DECIMALS.get(metric, 1)}f}" if value < 1000 else f"{value:,.0f}"  # z: no -0.0


def against(value, reference, metric):
    """value / reference - 1 in per cent where less is better, value - reference where more is better, as text.

    Examples
    --------
    >>> against(102, 100, "perplexity"), against(0.55, 0.6, "masked accuracy")
    ('+2.0 %', '-0.050')

    Source: ours.
    """
    decimals = DECIMALS.get(metric, 1)
    change, unit = (value - reference, "") if METRICS[metric] else (100 * (value / reference - 1), " %")
    return f"{round(change, decimals) + 0.0:+.{decimals}f}{unit}"  # + 0.0: no -0.0


def behind(value, reference, metric):
    """How far value is behind reference: value / reference - 1 where less is better, reference - value where more is.

    Parameters
    ----------
    value, reference : float or array, shape (runs,)
    metric : str, of METRICS

    Returns
    -------
    float or array, shape (runs,); above 0 is worse than the reference, whatever the metric.

    Examples
    --------
    >>> behind(110.0, 88.0, "perplexity"), behind(20.5, 22.0, "BLEU")
    (0.25, 1.5)

    Source: ours.
    """
    return reference - value if METRICS[metric] else value / reference - 1


def gaps(behinds, metric):
    """Mean and range of `behind` over runs as text, with signs.

    Parameters
    ----------
    behinds : array, shape (runs,)

    Examples
    --------
    >>> import numpy as np
    >>> gaps(np.array([0.01, 0.03]), "perplexity"), gaps(np.array([-0.5, 1.5]), "BLEU")
    ('+2.0 % (+1.0 to +3.0)', '+0.5 (-0.5 to +1.5)')

    Source: ours.
    """
    scaled, unit = (behinds, "") if METRICS[metric] else (100 * behinds, " %")
    form = f"+.{DECIMALS.get(metric, 1)}f"
    return f"{scaled.mean():{form}}{unit} ({scaled.min():{form}} to {scaled.max():{form}})"


def gain(see, control, metric):
    """What see gains on a control, in words: `gains 1.50 on`, `loses 1.00 to` or `draws level with`.

    Differences that round to 0 at the decimals shown (two, or those of the metric if more) are a draw.

    Examples
    --------
    >>> gain(90.0, 92.5, "perplexity"), gain(0.801, 0.805, "STS"), gain(20.0, 20.004, "BLEU")
    ('gains 2.50 on', 'loses 0.004 to', 'draws level with')

    Source: ours.
    """
    decimals = max(2, DECIMALS.get(metric, 1))
    ahead = round(see - control if METRICS[metric] else control - see, decimals)
    verb = "gains {} on" if ahead > 0 else "loses {} to" if ahead < 0 else "draws level with"
    return verb.format(f"{abs(ahead):.{decimals}f}")
