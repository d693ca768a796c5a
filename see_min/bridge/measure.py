"""Measures of the bridge's own models: words of a text hidden and found again, BLEU of greedy translations, and a checkpoint's
score on the files that a user names.
"""

import numpy as np
import torch

from see_min.bridge.checkpoint import load_checkpoint
from see_min.bridge.finetune import masked_accuracy, perplexity
from see_min.bridge.layers import kept_rows
from see_min.bridge.models import TinyBERT, TinyGPT
from see_min.bridge.training import pick_device
from see_min.bridge.translator import TinyTranslator
from see_min.checks import DataError
from see_min.corpus import SPECIAL, file_documents, tokenize
from see_min.sequences import UNKNOWN, encode, masked_batches, padded_rows, read_parallel

MASK = "<mask>"
SENTENCES = 128  # translated together
BATCH = 16  # windows of a batch of masked words


def masked(ids, words, context, size, steps, seed):
    """`see_min.sequences.masked_batches` of a text; `MASK` and the special words of a corpus are among the words."""
    special = [words.index(word) for word in SPECIAL]
    return masked_batches(ids, context, size, steps, seed, words.index(MASK), len(words), special)


def sacrebleu():
    """The package.

    Raises
    ------
    DataError
        If it is not installed.
    """
    try:
        import sacrebleu
    except ImportError:
        raise DataError("sacrebleu: expected the package to be installed, got none: pip install sacrebleu") from None
    return sacrebleu


def bleu(sentences, references):
    """Corpus BLEU of sacrebleu for texts that are words already: tokenize="none", as cased as they are.

    Parameters
    ----------
    sentences, references : lists of lists of str, one a sentence

    Returns
    -------
    float, 0 to 100

    Examples
    --------
    >>> text = ["a man plays the guitar".split(), "two dogs run".split()]
    >>> round(bleu(text, text), 6)                                                           # doctest: +SKIP
    100.0

    Source: Papineni et al. 2002, as computed by sacrebleu (arXiv 1804.08771).
    """
    join = lambda texts: [" ".join(words) for words in texts]
    return sacrebleu().corpus_bleu(join(sentences), [join(references)], tokenize="none", force=True).score


def translations(model, sentences, words):
    """Greedy translations, at most twice as long as the longest sentence of their batch and 10 words more.

    A sentence longer than the model's context is cut.

    Parameters
    ----------
    model : TinyTranslator
    sentences : list of lists of str
    words : (list of str, list of str)
        Of both languages.

    Returns
    -------
    list of lists of str, in the order of the sentences

    Source: ours.
    """
    numbers, config = {word: i for i, word in enumerate(words[0])}, model.config
    device = next(model.parameters()).device
    ids = [[*encode(sentence, numbers)[: config.context - 1], config.end] for sentence in sentences]
    order, found = sorted(range(len(ids)), key=lambda i: len(ids[i])), [None] * len(ids)
    with kept_rows(model):
        for first in range(0, len(order), SENTENCES):
            rows = order[first : first + SENTENCES]
            source = torch.from_numpy(padded_rows([ids[row] for row in rows], config.pad)).to(device)  # (b, s)
            longest = min(config.context, 2 * source.shape[1] + 10)
            for row, answer in zip(rows, model.translate(source, longest).tolist()):
                length = answer.index(config.end) if config.end in answer else len(answer)
                found[row] = [words[1][number] for number in answer[:length]]
    return found


def translation_score(model, pairs, words):
    """BLEU of the greedy translations of pairs of sentences."""
    return bleu(translations(model, [source for source, _ in pairs], words), [target for _, target in pairs])


def text_ids(path, words):
    """The ids of a text file in a vocabulary of `see_min.corpus`: each paragraph closed by <eos>."""
    numbers, end = {word: i for i, word in enumerate(words)}, words.index("<eos>")
    return np.array([i for text in file_documents(path) for i in (*encode(tokenize(text), numbers), end)], dtype=np.int64)


def measure_checkpoint(path, corpus=None, parallel=None, device="auto"):
    """The metric of a checkpoint: {"metric", "value", "parameters"}.

    Parameters
    ----------
    path : path
        Of a file that a job wrote, dense or compressed.
    corpus : path, optional
        The text of a TinyGPT (perplexity of all of it) or a TinyBERT (masked accuracy).
    parallel : (path, path), optional
        The sentences of a TinyTranslator and their translations (BLEU).

    Raises
    ------
    DataError
        If a file cannot be used, is missing, or is not for this kind of model.
    """
    model, words = load_checkpoint(path, pick_device(device))
    translator = isinstance(model, TinyTranslator)
    _check_words(path, model, words if translator else [words])
    needed, given, foreign = ("parallel", parallel, corpus) if translator else ("corpus", corpus, parallel)
    if given is None or foreign is not None:
        other = "corpus" if translator else "parallel"
        got = f"--{other}" if foreign is not None else "none"
        raise DataError(f"{needed}: expected --{needed} with a {type(model).__name__}, got {got}")
    if translator:
        metric, value = "BLEU", translation_score(model, read_parallel(*parallel), words)
    else:
        metric, value = _on_text(model, words, corpus)
    return {"metric": metric, "value": value, "parameters": sum(p.numel() for p in model.parameters())}


def _check_words(path, model, vocabularies):
    """Refuse a checkpoint that was saved without the words of every row, or without those that stand for no word."""
    sizes = [model.get_submodule(name).num_embeddings for name in model.embeddings]
    lengths = [len(words) for words in vocabularies]
    if lengths != sizes:
        raise DataError(f"{path}: expected {' and '.join(map(str, sizes))} words, one a row, got {lengths}")
    special = {TinyTranslator: (UNKNOWN,), TinyBERT: (*SPECIAL, MASK)}.get(type(model), SPECIAL)
    missing = [name for words in vocabularies for name in special if name not in words]
    if missing:
        raise DataError(f"{path}: expected the word {missing[0]} in the vocabulary, got none")


def _on_text(model, words, corpus):
    ids, context = text_ids(corpus, words), model.config.context
    if len(ids) <= context:
        raise DataError(f"{corpus}: expected more than {context} tokens, a window, got {len(ids)}")
    if isinstance(model, TinyGPT):
        return "perplexity", perplexity(model, ids, most=len(ids))[0]
    steps = -(-len(ids) // (context * BATCH))
    return "masked accuracy", masked_accuracy(model, masked(ids, words, context, BATCH, steps, seed=0))
