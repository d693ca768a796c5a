"""What a user names, as a source and a task: matrices with vocabularies, the main job's teacher, rows by falling count."""

from dataclasses import replace

import numpy as np
import pytest

from see_min.checks import DataError
from see_min.compare import METHODS, compare
from see_min.inputs import Source, build_task, coverage_line, find_source
from see_min.lexicon import Lexicon
from see_min.lexicon_files import load_lexicon
from see_min.matrices import Reordered
from see_min.tokens import Token
from see_min.units import Annotation
from see_min.vocabulary import Vocabulary

NAMES = ["the", "cat", "dog", "plays", "a", "mat", "7"]
V, D = len(NAMES), 5
E0 = np.random.default_rng(0).normal(size=(V, D))


@pytest.fixture
def folder(tmp_path):
    """A directory with e.npy and vocab.txt."""
    np.save(tmp_path / "e.npy", E0)
    (tmp_path / "vocab.txt").write_text("\n".join(NAMES) + "\n")
    return tmp_path


def write(path, text):
    path.write_text(text)
    return path


# ------------------------------------------------------------------ sources


def test_a_matrix_file_finds_the_vocabulary_beside_it(folder):
    source = find_source(str(folder / "e.npy"))
    assert np.array_equal(source.matrix, E0) and source.names == NAMES
    assert (source.name, source.encoder) == (str(folder / "e.npy"), None)


def test_a_vocabulary_that_is_named_comes_before_the_one_beside_the_matrix(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    others = [f"{name}x" for name in NAMES]
    path = write(tmp_path / "elsewhere" / "words.txt", "\n".join(others))
    assert find_source(folder / "e.npy", vocabulary=path).names == others


def test_a_key_picks_the_matrix_of_a_file_with_several(folder):
    np.savez(folder / "two.npz", small=E0, large=np.ones((V, 3 * D)))
    assert np.array_equal(find_source(folder / "two.npz", key="small").matrix, E0)
    assert find_source(folder / "two.npz").matrix.shape == (V, 3 * D)
    with pytest.raises(DataError, match=r"^key: expected one of small, large in .*two\.npz, got 'none'$"):
        find_source(folder / "two.npz", key="none")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_a_matrix_of_any_precision_has_the_values_in_the_file_and_stays_there_if_it_can(folder, kind):
    np.save(folder / "e.npy", E0.astype(kind))
    matrix = find_source(folder / "e.npy").matrix
    assert np.array_equal(matrix, E0.astype(kind)) and isinstance(matrix, np.memmap) == (kind != np.float16)


def test_a_folder_with_model_safetensors_and_a_vocabulary_is_a_source(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    tensors = {"encoder.weight": np.ones((9, 9), np.float32), "embeddings.weight": E0.astype(np.float32)}
    save_file(tensors, tmp_path / "model.safetensors")
    write(tmp_path / "vocab.txt", "\n".join(NAMES))
    source = find_source(tmp_path)
    assert np.array_equal(source.matrix, E0.astype(np.float32)) and source.names == NAMES and source.name == str(tmp_path)


@pytest.mark.parametrize("names", [NAMES[:-1], [*NAMES, "more"]])
def test_a_vocabulary_needs_one_token_a_row(folder, names):
    write(folder / "vocab.txt", "\n".join(names))
    text = rf"^vocabulary: expected 7 tokens, one a row of {folder}/e\.npy, got {len(names)}$"
    with pytest.raises(DataError, match=text):
        find_source(folder / "e.npy")


def test_a_matrix_or_a_vocabulary_that_is_missing_is_named(folder):
    with pytest.raises(DataError, match=f"^{folder}/none.npy: expected a file that can be read, got No such file or directory$"):
        find_source(folder / "none.npy")
    (folder / "vocab.txt").unlink()
    with pytest.raises(DataError, match=f"^{folder}/tokenizer.json: expected a file that can be read, got No such file"):
        find_source(folder / "e.npy")


def test_nothing_named_and_no_job_is_none(tmp_path):
    assert find_source() is None
    assert find_source(job=tmp_path) is None and find_source(job=tmp_path / "none") is None


@pytest.fixture
def job(tmp_path):
    """What the main job leaves: a tiny teacher with its words."""
    torch = pytest.importorskip("torch")
    from see_min.bridge.checkpoint import save_checkpoint
    from see_min.bridge.models import GPTConfig, TinyGPT

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TinyGPT(GPTConfig(vocabulary=V, dimension=8, blocks=1, heads=2, context=4))
    save_checkpoint(model, tmp_path / "job" / "phases" / "teacher.pt", NAMES)
    return tmp_path / "job", model.token_embedding.weight.detach().numpy()


def test_the_main_jobs_teacher_is_the_source_where_nothing_else_is_named(job, folder):
    out, weight = job
    source = find_source(job=out)
    assert source.matrix.dtype == np.float64 and np.array_equal(source.matrix, weight)
    assert (source.name, source.names, source.encoder) == (str(out / "phases" / "teacher.pt"), NAMES, None)
    assert np.array_equal(find_source(folder / "e.npy", job=out).matrix, E0)


def test_a_damaged_teacher_is_named(job):
    path = job[0] / "phases" / "teacher.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=rf"^{path}: expected a checkpoint of see_min, got "):
        find_source(job=job[0])


def test_a_model_that_is_none_is_refused_even_beside_a_matrix(folder):
    with pytest.raises(DataError, match="^(model|torch): expected "):
        find_source(folder / "e.npy", model=str(folder / "none"))


def test_counts_come_from_a_file_of_counts_else_from_a_text_else_are_unknown(tmp_path):
    source = Source("here", E0, NAMES)
    text, counts = write(tmp_path / "text", "The cat, the dog\ncat the\n"), write(tmp_path / "counts", "mat\t4\n7\t2\nbird\t9\n")
    assert source.counts(text).tolist() == [3, 1, 1, 0, 0, 0, 0]  # "cat," is not cut at its comma
    assert source.counts(counts=counts).tolist() == source.counts(text, counts).tolist() == [0, 0, 0, 0, 0, 4, 2]
    assert source.counts() is None


# ------------------------------------------------------------------ tasks

LEXICON = Lexicon.of({"cat": [("animal",)], "play": [("act", "fun")], "mat": [("tool",)]})
CUT = "plays\tplay @@s\ncat\tc @@at\n"
COUNTED = "the\t5\ncat\t2\ndog\t2\nplays\t9\nmat\t2\n7\t1\n"


@pytest.fixture
def files(tmp_path):
    return {"counts": write(tmp_path / "counts", COUNTED), "segmentation": write(tmp_path / "cut", CUT)}


def test_a_task_has_its_rows_by_falling_count_and_equal_counts_stay_in_order(files):
    task, rows = build_task(Source("here", E0, NAMES), LEXICON, ordered=False, **files)
    assert rows.tolist() == [3, 0, 1, 2, 5, 6, 4]  # plays 9, the 5, cat dog mat 2, 7 1, a 0
    assert task.vocabulary.names == ["plays", "the", "cat", "dog", "mat", "7", "a"]
    assert task.vocabulary.counts.tolist() == [9, 5, 2, 2, 2, 1, 0]
    for place, row in enumerate(rows):
        assert np.array_equal(task.matrix[place], E0[row])
    assert np.array_equal(task.matrix[rows.argsort()], E0)  # the way back


def test_a_task_of_a_mapped_matrix_copies_the_rows_that_are_asked_for_alone(folder, files):
    source = find_source(folder / "e.npy")
    task, rows = build_task(source, LEXICON, ordered=False, **files)
    assert task.matrix.matrix is source.matrix and isinstance(source.matrix, np.memmap)
    for ids in (3, slice(2, 5), [4, 0, 4], np.array([[1, 2], [6, 0]])):
        part = task.matrix[ids]
        assert type(part) is np.ndarray and np.array_equal(part, E0[rows][ids])
    assert np.array_equal(np.asarray(task.matrix, dtype=np.float32), E0[rows].astype(np.float32))
    assert (task.matrix.shape, len(task.matrix), task.matrix.size, task.matrix.ndim) == ((V, D), V, V * D, 2)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_the_numbers_on_a_mapped_matrix_that_it_gives_on_a_copy(tmp_path, method):
    rng = np.random.default_rng(3)
    matrix, names = rng.normal(size=(211, 24)).astype(np.float32), [f"w{i}" for i in range(211)]
    np.save(tmp_path / "e.npy", matrix)
    write(tmp_path / "vocab.txt", "\n".join(names))
    counts = write(tmp_path / "counts", "".join(f"{name}\t{rng.integers(1, 99)}\n" for name in names))
    task, _ = build_task(find_source(tmp_path / "e.npy"), LEXICON, counts=counts)
    copied = replace(task, matrix=np.array(task.matrix, dtype=float))
    assert isinstance(task.matrix, Reordered) and isinstance(task.matrix.matrix, np.memmap)
    pairs = {"SIM": [("w1", "w2", 1.0), ("w3", "w4", 2.0), ("w5", "w9", 4.0)]}
    for ours, expected in zip(*(compare(one, [method], [3], [0], pairs) for one in (task, copied)), strict=True):
        assert {**ours, "seconds": 0} == {**expected, "seconds": 0}


def test_a_task_knows_of_each_row_what_lexicon_and_segmentation_say(files):
    task, _ = build_task(Source("here", E0, NAMES), LEXICON, ordered=False, **files)
    known = dict(zip(task.vocabulary.names, task.vocabulary.annotations))
    assert known["plays"] == Annotation((("act", "fun"),), ("play", "s")) and known["mat"] == Annotation((("tool",),), ())
    assert known["cat"] == Annotation((("animal",),), ("c", "at"))
    assert known["the"] == known["dog"] == known["7"] == Annotation()


def test_without_a_segmentation_the_pieces_of_a_word_spell_it(files):
    task, _ = build_task(Source("here", E0, NAMES), LEXICON, counts=files["counts"])
    pieces = ["".join(note.morphemes) for note in task.vocabulary.annotations]
    assert pieces == [name if name.isalpha() else "" for name in task.vocabulary.names]


def test_rows_that_stand_by_frequency_stay_so_where_nothing_is_counted(files):
    names = ["the", "cat", "dog", "plays", "mat"]
    task, rows = build_task(Source("here", E0[:5], names), LEXICON, segmentation=files["segmentation"])
    assert rows.tolist() == [0, 1, 2, 3, 4] and task.vocabulary.names == names
    assert (np.diff(task.vocabulary.counts) < 0).all()


def test_a_task_keeps_the_form_that_was_asked_for(files):
    source, tell = Source("here", E0, NAMES), lambda method: None
    task, _ = build_task(source, LEXICON, policy="senses", order=3, sweeps=2, progress=tell, **files)
    assert (task.policy, task.order, task.sweeps, task.progress) == ("senses", 3, 2, tell)


def test_a_task_without_any_frequencies_is_refused(files):
    with pytest.raises(DataError, match="^counts: expected a text, counts, or rows in the order of frequency, got none of them$"):
        build_task(Source("here", E0, NAMES), LEXICON, ordered=False, segmentation=files["segmentation"])


@pytest.mark.parametrize("name", ["text", "counts", "segmentation"])
def test_a_file_that_is_missing_is_named(tmp_path, name):
    with pytest.raises(DataError, match=f"^{tmp_path}/none: expected a file that can be read, got No such file or directory$"):
        build_task(Source("here", E0, NAMES), LEXICON, **{name: tmp_path / "none"})


# ------------------------------------------------------------------ the lexicon


def test_a_lexicon_that_was_read_whole_has_no_note(tmp_path):
    lexicon = load_lexicon(str(write(tmp_path / "a", "cat\nanimal\n")))
    assert lexicon.senses("cat") == (("animal",),) and lexicon.note == ""


def test_what_was_left_out_of_a_lexicon_is_one_line_with_the_first_note(tmp_path):
    path = write(tmp_path / "a", "NO.=1\nW_E=cat\nDEF={animal|兽}\n\nNO.=2\nW_E=dog\n\nNO.=3\nW_E=mat\nDEF={tool|\n")
    lexicon = load_lexicon(str(path))
    note = lexicon.note
    assert list(lexicon.entries) == ["cat"] and len(lexicon.skipped) == 2
    assert note == f"notes on what the lexicon lacks: 2, the first: {lexicon.skipped[0]}"
    assert f"{path}:5" in note and "\n" not in note


def vocabulary(*rows):
    """Of (token, count)."""
    names, counts = zip(*rows)
    tokens = [Token(name.removeprefix("##"), "piece" if name.startswith("##") else "word", True, None) for name in names]
    return Vocabulary(list(names), tokens, np.array(counts, dtype=float), [Annotation()] * len(names))


def test_coverage_counts_types_and_tokens_of_whole_words_alone():
    """Of the, cat, plays, mat the last three are known: 3 / 4 types, (30 + 6 + 4) / (60 + 30 + 6 + 4) tokens."""
    words = vocabulary(("the", 60), ("cat", 30), ("##at", 1000), ("plays", 6), ("7", 500), ("mat", 4), (".", 9))
    assert coverage_line(LEXICON, words) == ("the lexicon covers 75% of the 4 tokens that can be whole words, "
                                             "40% of their occurrences")
    assert coverage_line(Lexicon({}), words) == ("the lexicon covers 0% of the 4 tokens that can be whole words, "
                                                 "0% of their occurrences")


def test_a_vocabulary_without_whole_words_has_no_share_to_tell():
    assert coverage_line(LEXICON, vocabulary(("##at", 3), ("7", 2))) == "the vocabulary has no whole words"
