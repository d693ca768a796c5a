"""Controls: what a comparison needs beside real knowledge to say what the knowledge is worth.

`shuffled` keeps every annotation but gives it to another word; `hashed` keeps how many units a word has but makes their
names from its letters. Both leave the number of parameters and the fit as they are.
"""

import numpy as np

from see_min.units import Annotation, bucket


def shuffled(annotations, seed):
    """A control: the same annotations, dealt to other words. Words without any stay without.

    Examples
    --------
    >>> a, b, none = Annotation(morphemes=("a",)), Annotation(morphemes=("b",)), Annotation()
    >>> sorted(x.morphemes for x in shuffled([a, none, b], seed=0))
    [(), ('a',), ('b',)]
    """
    known = [w for w, annotation in enumerate(annotations) if annotation.units]
    dealt = np.random.default_rng(seed).permutation(known)
    out = list(annotations)
    for target, source in zip(known, dealt):
        out[target] = annotations[source]
    return out


def hashed(words, annotations, buckets):
    """A control: as many units a word as before, but their names are hashes of the word: no knowledge at all.

    All names are of one kind, so that there are `buckets` different ones at most.

    Examples
    --------
    >>> hashed(["add"], [Annotation(morphemes=("add", "ed"))], 9)[0].units
    ('s:1', 's:6')
    """
    out = []
    for word, annotation in zip(words, annotations):
        numbers = []
        for i in range(len(annotation.units)):
            number = bucket(f"{word} {i}", buckets)
            while number in numbers and len(numbers) < buckets:  # a word does not have one unit twice
                number = (number + 1) % buckets
            numbers.append(number)
        out.append(Annotation(senses=(tuple(map(str, numbers)),)) if numbers else Annotation())
    return out
