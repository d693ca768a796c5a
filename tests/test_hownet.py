"""HowNet through OpenHowNet: what is read, refused before it is opened, left by a download."""

import importlib
import io
import os
import pickle
import sys
import zipfile

import pytest

from see_min.errors import InputError
from see_min.words.formats import load_lexicon
from see_min.words.hownet import FILES, download, read_openhownet

pytest.importorskip("OpenHowNet")
Download = importlib.import_module("OpenHowNet.Download")
# OpenHowNet's progress bar, of small files
pytestmark = pytest.mark.filterwarnings("ignore:clamping frac:Warning")

SEMEMES = ("human|人 cook|烹调 tool|用具 InstitutePlace|场所 land|陆地 waters|水域 food|食品 "
           "cold|冷 south_america|南美").split()
TRIPLES = "human|人 hyponym food|食品\ncook|烹调 hypernym tool|用具\n"
COOK = "{human|人:{cook|烹调:agent={~},instrument={tool|用具}}}"
SENSES = [  # number, English, Chinese, part of speech, definition; not in the order of the numbers
    ("000000000101", "bank", "岸", "noun", "{land|陆地:belong={waters|水域}}"),
    ("000000000020", "bank", "银行", "noun", "{InstitutePlace|场所}"),
    ("000000000003", "cook", "厨师", "noun", COOK),
    ("000000000004", " ice  cream ", "冰淇淋", "noun", "{food|食品:modifier={cold|冷}}"),
    ("000000000005", "", "饭", "noun", "{food|食品}"),
    ("000000000006", "cook", "煮", "", "{cook|烹调}RMK=as before"),
    ("000000000007", "alpaca", "羊驼", "noun", '{food|食品:location="south america|南美"}'),
]


def data(senses=SENSES):
    """The three files in OpenHowNet's own format, name -> bytes."""
    keys = ("No", "en_word", "ch_word", "en_grammar", "Def", "ch_grammar")
    records = {sense[0]: dict(zip(keys, (*sense, ""))) for sense in senses}
    pickles = pickle.dumps(dict.fromkeys(SEMEMES, 1)), pickle.dumps(records)
    return dict(zip(FILES, (*pickles, TRIPLES.encode())))


def write(place, files):
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    return place


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "hownet" / "resources", data())
    return tmp_path / "hownet"


def snapshot(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_every_english_word_is_read_with_its_senses_by_number_and_sememes_in_order(folder):
    lexicon = read_openhownet(folder)
    found = {word: [(s.number[-3:], s.sememes, s.roles, s.pos) for s in senses]
             for word, senses in lexicon.entries.items()}
    assert found == {
        "cook": [("003", ("human", "cook", "tool"), ("", "", "instrument"), "noun"),
                 ("006", ("cook",), ("",), "")],
        "ice_cream": [("004", ("food", "cold"), ("", "modifier"), "noun")],
        "alpaca": [("007", ("food", "south_america"), ("", "location"), "noun")],
        "bank": [("020", ("InstitutePlace",), ("",), "noun"),
                 ("101", ("land", "waters"), ("", "belong"), "noun")],
    }
    assert lexicon.skipped == () and lexicon.meanings("Cooks")[0].definition == COOK


def test_the_files_may_stand_in_the_folder_itself_or_in_the_home_directory(folder, monkeypatch):
    expected = read_openhownet(folder)
    assert load_lexicon(str(folder / "resources")) == expected
    monkeypatch.setenv("HOME", str(folder))
    write(folder / ".openhownet" / "resources", data())
    assert load_lexicon("openhownet") == read_openhownet() == expected
    assert load_lexicon("openhownet+sample").entries["cook"] == expected.entries["cook"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_told_with_the_command_that_fetches_it(folder, name):
    (folder / "resources" / name).unlink()
    text = "got not all of them: python -m see_min hownet --download$"
    with pytest.raises(InputError, match=f"^{folder}: expected HowNet's data .*{text}"):
        read_openhownet(folder)


def test_a_definition_that_cannot_be_read_costs_the_roles_and_is_noted(folder):
    broken = [("31", "odd", "奇", "noun", "{food|食品:modifier={cold|冷}"),
              ("32", "odd", "怪", "noun", "{food|食品:modifier={cold}}"),
              ("33", "void", "异", "noun", "{nothing}")]
    write(folder / "resources", data(SENSES + broken))
    lexicon = read_openhownet(folder)
    assert [(sense.sememes, sense.roles, sense.number) for sense in lexicon.meanings("odd")] == [
        (("food", "cold"), (), "31"), (("food",), (), "32")]
    assert lexicon.find("void") is None
    assert lexicon.skipped == (
        "No. 31 (odd): no roles, definition: expected ',' or '}', got the end at character 27",
        "No. 32 (odd): no roles: OpenHowNet finds the sememes food in {food|食品:modifier={cold}}",
        "No. 33 (void): left out, because its definition names no sememe",
    )


def test_without_openhownet_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenHowNet", None)
    text = r"^OpenHowNet: expected the package, got none: pip install OpenHowNet==2\.0$"
    for act in (read_openhownet, lambda folder: download(folder / "new")):
        with pytest.raises(InputError, match=text):
            act(folder)


class Evil:
    """Unpickles to a call of os.system that makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", FILES[:2])
def test_a_pickle_that_would_run_a_command_is_refused_unopened(folder, tmp_path, name, protocol):
    marker = tmp_path / "marker"
    content = pickle.dumps({"human|人": Evil(marker)}, protocol)
    (folder / "resources" / name).write_bytes(content)
    text = (f"^{folder}/resources/{name}: expected a pickle of plain data, "
            r"got UnpicklingError: the pickle asks for (posix|nt)\.system$")
    with pytest.raises(InputError, match=text):
        read_openhownet(folder)
    assert not marker.exists()
    pickle.loads(content)
    assert marker.exists()  # it would have run


def archive(files):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return memory.getvalue()


@pytest.fixture
def serve(monkeypatch):
    """serve(body): from now on OpenHowNet downloads that; the address where it would be."""
    def serve(body):
        answer = Download.requests.Response()
        answer.raw, answer.headers["Content-Length"] = io.BytesIO(body), str(len(body))
        monkeypatch.setattr(Download.requests, "get", lambda url, stream: answer)
        return Download.OPENHOWNET_DATA_URL

    return serve


@pytest.mark.parametrize("inside", ["", "a/b/"])
def test_a_download_puts_the_files_into_place_wherever_they_are_in_the_archive(
        tmp_path, serve, inside):
    serve(archive({inside + name: content for name, content in data().items()}))
    logged, target = [], tmp_path / "new" / "hownet"
    assert download(target, logged.append) == target
    assert logged == [f"{target}: HowNet's data are downloaded, 4 English words"]
    assert snapshot(target / "resources") == data()


def test_data_that_are_whole_are_not_downloaded_again(folder, serve):
    serve(b"no archive")  # so that a download would fail
    logged, before = [], snapshot(folder)
    download(folder, logged.append)
    assert logged == [f"{folder}: HowNet's data are there, 4 English words"]
    assert snapshot(folder) == before


def test_a_download_keeps_what_was_there_under_another_name(folder, serve):
    (folder / "resources" / FILES[0]).write_bytes(b"damaged")
    before, logged = snapshot(folder / "resources"), []
    serve(archive(data()))
    download(folder, logged.append)
    aside, = (path for path in folder.iterdir() if path.name != "resources")
    assert snapshot(aside) == before and snapshot(folder / "resources") == data()
    assert logged[0] == f"{folder}/resources: was not whole, is kept as {aside.name}"


@pytest.mark.parametrize(("body", "text"), [
    (b"not found", "BadZipFile: File is not a zip file"),
    (archive({FILES[0]: b"x"}), "resources: expected HowNet's data"),
    (archive(data() | {FILES[0]: b"cbuiltins\neval\n."}),
     "resources/sememe_all: expected a pickle of plain data"),
    (archive(data() | {FILES[1]: pickle.dumps({"1": None})}),
     "resources: expected data that OpenHowNet can read"),
], ids=["no archive", "a file alone", "code", "no senses"])
def test_a_download_that_fails_is_an_error_of_one_line_and_changes_no_file(
        folder, serve, body, text):
    (folder / "resources" / FILES[0]).write_bytes(b"damaged")
    url, before, logged = serve(body), snapshot(folder), []
    with pytest.raises(InputError) as caught:
        download(folder, logged.append)
    expected = f"HowNet's data: expected a whole download from {url}, got {text}"
    assert str(caught.value).startswith(expected) and "\n" not in str(caught.value)
    assert snapshot(folder) == before and not logged
    assert not list(folder.rglob(".download*"))
