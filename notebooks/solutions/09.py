# 1. ln 600 = 6.40, a perplexity of 600. Repeating costs nothing where the word is seen, so the mean
#    over all positions is 0.15 times 6.40 = 0.96: a good number for a model that knows nothing.


# 2. Only positions with a target are looked at.
def accuracy(logits, targets):
    here = targets != -100  # (b, t)
    return float((logits[here].argmax(-1) == targets[here]).sum() / max(here.sum(), 1))


check_2(accuracy)


# 3. The number of a position's word is how many words have begun, less 1.
def whole_words(continues, drawn, share):
    word = np.cumsum(~continues) - 1  # (t,)
    return drawn[word] < share


check_3(whole_words)

# 4. Not measured here. Rows of words that the counted text does not have are approximated worst;
#    keep a set of sentence pairs of your own and compare ranks before and after.
