"""Words cut into morphemes, from files; where the cuts fall in the word, and how well two segmentations agree.

Annotated lexicons write morphemes in their underlying form: "baking" is bake + ing. Such pieces do not spell the word, so
they are aligned with it: the cuts are those under which the fewest letters differ.
"""

import gzip
import json
import zlib
from collections import Counter
from itertools import accumulate

from see_min.checks import DataError

MOST_BYTES = 2**28  # of a file once decompressed: no word list comes near, and a small file cannot fill the memory


def read_lines(path):
    """The lines of a UTF-8 file, plain or compressed (gzip, known by its content), without their ends and byte order mark.

    Raises
    ------
    DataError
        If the file cannot be read, holds more than `MOST_BYTES`, or is not UTF-8; the text names path and line.

    Source: ours.
    """
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with (gzip.open if packed else open)(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError, EOFError, zlib.error) as error:  # ValueError: a NUL in the path itself
        raise DataError(f"{path}: expected a file that can be read, got {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MOST_BYTES:
        raise DataError(f"{path}: expected at most {MOST_BYTES} bytes, got more")
    try:
        text = data.decode().removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: expected UTF-8, got byte 0x{data[error.start]:02x}") from None
    return text.removesuffix("\n").split("\n") if text else []  # not splitlines: it breaks at more than line ends


def read_json(path):
    """What a JSON file holds; no object in it may name a key twice.

    Raises
    ------
    DataError
        As `read_lines`, or if the text is not JSON, or a key stands twice.

    Source: ours.
    """

    def once(pairs):
        twice = [key for key, number in Counter(key for key, _ in pairs).items() if number > 1]
        if twice:
            raise DataError(f"{path}: expected every key once, got {twice[0]!r} again")
        return dict(pairs)

    try:
        return json.loads("\n".join(read_lines(path)), object_pairs_hook=once)
    except DataError:
        raise
    except (ValueError, RecursionError) as error:  # not JSON, a number of many digits, brackets nested too deeply
        line, text = getattr(error, "lineno", 1), getattr(error, "msg", error)
        raise DataError(f"{path}:{line}: expected JSON, got an error: {text}") from None


def read_segmentation(path, key=None):
    """Read word -> morphemes.

    Parameters
    ----------
    path : str or Path
        Named .json (.gz): {word: "a b c" or ["a", "b", "c"]}, or such objects under several keys. Else lines word<tab>a @@b @@c,
        where a third column is ignored. The "@@" before a morpheme is taken off, but lists stay as they are.
    key : str, optional
        Of the object to read in a JSON file that holds several, such as "word2mor_src".

    Returns
    -------
    dict of str to tuple of str

    Raises
    ------
    DataError
        If the file cannot be read or has no word, or an entry is malformed or stands twice; a text file's line is named.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.tsv"
    >>> _ = path.write_text("baking\\tbake @@ing\\t100\\n")
    >>> read_segmentation(path)
    {'baking': ('bake', 'ing')}

    Source: ours; the columns are those of the SIGMORPHON 2022 task on morpheme segmentation, the keys those of MorphTE.
    """
    is_json = str(path).removesuffix(".gz").endswith(".json")
    result = _from_json(read_json(path), path, key) if is_json else _from_lines(read_lines(path), path)
    if not result:
        raise DataError(f"{path}: expected at least 1 word, got none")
    return result


def _from_lines(lines, path):
    result = {}
    for number, line in enumerate(lines, start=1):
        columns = line.split("\t")
        if len(columns) not in (2, 3):
            raise DataError(f"{path}:{number}: expected 2 or 3 columns, got {len(columns)}")
        if not columns[0].strip() or columns[0] in result:
            raise DataError(f"{path}:{number}: expected a word, each once, got {columns[0]!r}")
        result[columns[0]] = _pieces(columns[1], f"{path}:{number}")
    return result


def _from_json(data, path, key):
    several = [name for name, value in data.items() if isinstance(value, dict)] if isinstance(data, dict) else []
    if (key is not None or several) and key not in several:
        raise DataError(f"key: expected one of {', '.join(several) or 'none'} in {path}, got {key!r}")
    data = data[key] if several else data
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected an object of word -> morphemes, got {type(data).__name__}")
    return {word: _pieces(value, f"{path}: {word!r}") for word, value in data.items()}


def _pieces(value, place):
    pieces = [piece.removeprefix("@@") for piece in value.split()] if isinstance(value, str) else value
    if not isinstance(pieces, list) or not pieces or not all(isinstance(piece, str) and piece for piece in pieces):
        raise DataError(f"{place}: expected morphemes, none of them empty, got {value!r:.80}")
    return tuple(pieces)


def boundaries(word, pieces):
    """Where a word is cut: c_1 <= c_2 <= ... that minimise sum_i edits(piece_i, word[c_{i-1} : c_i]).

    edits is the Levenshtein distance: the pieces, put together, are aligned with the word at the lowest cost. Of equally cheap
    cuts those win that leave the last piece with the fewest edits (endings stay whole: stopp|ed), then the earliest last
    cut, then the same for the piece before. Pieces that spell the word are cut where they end. A set of positions 1 to
    len(word) - 1, to which a piece without a letter of its own in the word adds none.

    Examples
    --------
    >>> sorted(boundaries("plays", ("play", "s"))), sorted(boundaries("baking", ("bake", "ing")))
    ([4], [3])

    Source: ours; the distance is Levenshtein's (1966).
    """
    if "".join(pieces) == word:  # no alignment is cheaper than this one, of cost 0
        return set(accumulate(map(len, pieces))) - {0, len(word)}
    rows = list(accumulate(pieces, lambda row, piece: _align(row, piece, word), initial=range(len(word) + 1)))
    cuts, j = [], len(word)  # rows[i][j]: the cost of the first i pieces against word[:j]
    for i in range(len(pieces), 1, -1):
        backward = _align(range(j + 1), pieces[i - 1][::-1], word[:j][::-1])  # (j + 1,)
        edits = backward[::-1]  # edits[k]: of piece i against word[k:j]
        j = min((edits[k], k) for k in range(j + 1) if rows[i - 1][k] + edits[k] == rows[i][j])[1]
        cuts.append(j)
    return {cut for cut in cuts if 0 < cut < len(word)}


def _align(row, piece, word):
    """Costs against word[:j] after `piece`, given the costs `row` before it: a row of Levenshtein's table a letter."""
    for letter in piece:
        new = [row[0] + 1]
        for j, other in enumerate(word):
            new.append(min(row[j] + (letter != other), row[j + 1] + 1, new[j] + 1))
        row = new
    return row


def boundary_scores(predicted, gold):
    """How well the cuts of predicted agree with those of gold, both word -> pieces, over the words of both.

    precision = hits / predicted cuts, recall = hits / gold cuts, f1 = 2 hits / (predicted + gold cuts), 1 for 0 / 0; words:
    how many are in both; exact: the share of these whose cuts are all right and complete.

    Raises
    ------
    DataError
        If no word is in both.

    Examples
    --------
    >>> boundary_scores({"plays": ("play", "s"), "sing": ("s", "ing")}, {"plays": ("play", "s"), "sing": ("sing",)})
    {'precision': 0.5, 'recall': 1.0, 'f1': 0.6666666666666666, 'words': 2, 'exact': 0.5}

    Source: ours; counts are summed over words before they are divided.
    """
    words = [word for word in gold if word in predicted]
    if not words:
        raise DataError("predicted: expected at least 1 word of gold, got none")
    pairs = [(boundaries(word, predicted[word]), boundaries(word, gold[word])) for word in words]
    hits, claimed, true = (sum(map(len, sets)) for sets in ((p & g for p, g in pairs), *zip(*pairs)))
    share = lambda part, whole: part / whole if whole else 1.0
    scores = {"precision": share(hits, claimed), "recall": share(hits, true), "f1": share(2 * hits, claimed + true)}
    return {**scores, "words": len(words), "exact": sum(p == g for p, g in pairs) / len(words)}
