# 1. adding and sums: the sememes add and calculate, 2 (the affixes differ). add and additional: the
#    sememe add, 1; Morfessor gives additional the stem addition.


# 2. Each pair stands twice in M M^T.
def pairs_in_common(M):
    return int(np.triu(M @ M.T > 0, 1).sum())


check_2(pairs_in_common)


# 3. All lengths, the cheapest first.
def cut_at_the_best_place(words):
    def cut(length):
        return [tuple(filter(None, (word[:length], word[length:]))) for word in words]

    return min(map(cut, range(1, max(map(len, words)) + 1)), key=lambda cuts: sum(bits(cuts)))


check_3(cut_at_the_best_place)


# 4. Permute within each number of units. A control that keeps the part of speech needs a tagger, or
#    permutes among words with the same head sememe; the second is stricter and partly knows.
def stricter(annotations, seed):
    rng, out = np.random.default_rng(seed), list(annotations)
    sizes = np.array([len(note.units) for note in annotations])
    for size in np.unique(sizes):
        group = np.flatnonzero(sizes == size)
        for target, source in zip(group, rng.permutation(group)):
            out[target] = annotations[source]
    return out


for k, (mean, *_) in enumerate(by_sharing(stricter(meaning, 0))):
    print(f"{k} shared: {mean:.4f}")
