"""HowNet through OpenHowNet: what is read, what is refused before it is opened, what a download leaves behind."""

import http.server
import importlib
import io
import os
import pickle
import subprocess
import sys
import threading
import zipfile

import pytest

from see_min.errors import InputError
from see_min.words.hownet import FILES, download, read_openhownet

pytest.importorskip("OpenHowNet")
Download = importlib.import_module("OpenHowNet.Download")
pytestmark = pytest.mark.filterwarnings("ignore:clamping frac:Warning")  # OpenHowNet's progress bar, of small files

SEMEMES = {"human|人": 3, "cook|烹调": 2, "tool|用具": 1, "InstitutePlace|场所": 1, "land|陆地": 1, "waters|水域": 1,
           "food|食品": 2, "cold|冷": 1, "south_america|南美": 1}
TRIPLES = "human|人 hyponym food|食品\ncook|烹调 hypernym tool|用具\n"
SENSES = [  # number, English, Chinese, part of speech, definition; not in the order of the numbers
    ("000000000101", "bank", "岸", "noun", "{land|陆地:belong={waters|水域}}"),
    ("000000000020", "bank", "银行", "noun", "{InstitutePlace|场所}"),
    ("000000000003", "cook", "厨师", "noun", "{human|人:{cook|烹调:agent={~},instrument={tool|用具}}}"),
    ("000000000004", " ice  cream ", "冰淇淋", "noun", "{food|食品:modifier={cold|冷}}"),
    ("000000000005", "", "饭", "noun", "{food|食品}"),
    ("000000000006", "cook", "烹", "verb", "{cook|烹调}"),
    ("000000000007", "cook", "煮", "", "{cook|烹调}RMK=as before"),
    ("000000000008", "alpaca", "羊驼", "noun", '{food|食品:location="south america|南美"}'),
]


def data(senses=SENSES):
    """The three files in OpenHowNet's own format, name -> bytes."""
    records = {number: {"No": number, "en_word": english, "en_grammar": pos, "ch_word": chinese, "ch_grammar": pos, "Def": text}
               for number, english, chinese, pos, text in senses}
    return dict(zip(FILES, (pickle.dumps(SEMEMES), pickle.dumps(records), TRIPLES.encode())))


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
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_english_word_is_read_with_its_senses_by_number_and_sememes_in_order(folder):
    lexicon = read_openhownet(folder)
    assert {word: [(sense.number[-3:], sense.sememes, sense.roles, sense.pos) for sense in senses]
            for word, senses in lexicon.entries.items()} == {
        "cook": [("003", ("human", "cook", "tool"), ("", "", "instrument"), "noun"), ("006", ("cook",), ("",), "verb"),
                 ("007", ("cook",), ("",), "")],
        "ice_cream": [("004", ("food", "cold"), ("", "modifier"), "noun")],
        "alpaca": [("008", ("food", "south_america"), ("", "location"), "noun")],
        "bank": [("020", ("InstitutePlace",), ("",), "noun"), ("101", ("land", "waters"), ("", "belong"), "noun")],
    }
    assert lexicon.skipped == ()
    assert lexicon.meanings("Cooks")[0].definition == "{human|人:{cook|烹调:agent={~},instrument={tool|用具}}}"
    assert lexicon.senses("ice cream") == (("food", "cold"),)


def test_the_files_may_stand_in_the_folder_itself(tmp_path, folder):
    assert read_openhownet(write(tmp_path / "direct", data())).entries == read_openhownet(folder).entries
    assert read_openhownet(str(folder / "resources")).entries == read_openhownet(folder).entries


def test_the_default_folder_is_openhownets_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"^~/\.openhownet: expected HowNet's data \(resources/sememe_all, HowNet_dict_complete, "
                                        r"sememe_triples_taxonomy\.txt\), got none: python -m see_min hownet --download$"):
        read_openhownet()
    write(tmp_path / ".openhownet" / "resources", data())
    assert len(read_openhownet()) == 4


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_told_by_naming_those_that_are_there(folder, name):
    (folder / "resources" / name).unlink()
    there = ", ".join(other for other in FILES if other != name)
    with pytest.raises(InputError, match=f"got only {there}: python -m see_min hownet --download$"):
        read_openhownet(folder)


@pytest.mark.parametrize("folder", ["/no/such/place", "a\0b", "~nobody-here/x", __file__])
def test_a_folder_that_is_none_is_an_error_of_one_line(folder):
    with pytest.raises(InputError, match="expected HowNet's data .*, got none: python -m see_min hownet --download$"):
        read_openhownet(folder)


def test_a_definition_that_cannot_be_read_costs_the_roles_and_is_noted(folder):
    broken = [("31", "odd", "奇", "noun", "{food|食品:modifier={cold|冷}"),
              ("32", "odd", "怪", "noun", "{food|食品:modifier={cold}}"), ("33", "odd", "异", "noun", "{nothing}"),
              ("34", "void", "空", "noun", "")]
    write(folder / "resources", data(SENSES + broken))
    lexicon = read_openhownet(folder)
    assert [(sense.sememes, sense.roles, sense.number) for sense in lexicon.meanings("odd")] == [
        (("food", "cold"), (), "31"), (("food",), (), "32")]
    assert lexicon.find("void") is None
    assert lexicon.skipped == (
        "No. 31 (odd): no roles, definition: expected ',' or '}', got the end at character 27",
        "No. 32 (odd): no roles: OpenHowNet finds the sememes food in {food|食品:modifier={cold}}",
        "No. 33 (odd): left out, because its definition names no sememe",
        "No. 34 (void): left out, because its definition names no sememe",
    )


def test_without_openhownet_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenHowNet", None)
    for act in (read_openhownet, lambda folder: download(folder / "new")):
        with pytest.raises(InputError, match=r"^OpenHowNet: expected the package, got none: pip install OpenHowNet==2\.0$"):
            act(folder)


def test_importing_this_module_does_not_import_openhownet():
    code = "import sys, see_min.words.hownet; sys.exit(any(name in sys.modules for name in ('OpenHowNet', 'requests', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class Evil:
    """Unpickles to a call of os.system that makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", FILES[:2])
def test_a_pickle_that_would_run_a_command_is_refused_unopened(folder, tmp_path, name, protocol):
    marker = tmp_path / "marker"
    content = pickle.dumps({"human|人": Evil(marker)}, protocol)
    (folder / "resources" / name).write_bytes(content)
    with pytest.raises(InputError, match=f"^{folder}/resources/{name}: expected a pickle of plain data, "
                       r"got UnpicklingError: the pickle asks for (posix|nt)\.system$"):
        read_openhownet(folder)
    assert not marker.exists()
    pickle.loads(content)
    assert marker.exists()  # it would have run


DANGEROUS = {  # each with the least around it that is well formed
    "GLOBAL": b"cbuiltins\neval\n.", "STACK_GLOBAL": b"\x8c\x08builtins\x8c\x04eval\x93.", "INST": b"(ibuiltins\neval\n.",
    "REDUCE": b"N)R.", "BUILD": b"N}b.", "OBJ": b"(No.", "NEWOBJ": b"N)\x81.", "NEWOBJ_EX": b"N)}\x92.",
    "EXT1": b"\x82\x01.", "EXT2": b"\x83\x01\x00.", "EXT4": b"\x84\x01\x00\x00\x00.", "PERSID": b"Pid\n.", "BINPERSID": b"NQ.",
    "NEXT_BUFFER": b"\x97.", "READONLY_BUFFER": b"N\x98.",
}


PLAIN_DATA = [
    {"a|甲": [1, -1, 2.5, 2**40, 2**3000, -(2**70)], "b": ("x", ("y", "x")), "c": None, "d": [True, False], "long": "é" * 300},
    [], {}, (), "", 0, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[[]]], {"t": {"t": {}}}, "\ud800", list(range(3000)), "x" * 70000,
]


class Watched(pickle.Unpickler):
    """Opens a pickle but finds nothing in it; tells whether it was asked to."""

    asked = False

    def find_class(self, module, name):
        self.asked = True
        raise pickle.UnpicklingError

    persistent_load = lambda self, pid: self.find_class("", "")


def archive(files):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return memory.getvalue()


@pytest.fixture
def serve(monkeypatch):
    """serve(body, status, length): from now on OpenHowNet downloads from a server on this machine, which answers so."""
    servers = []

    def start(body, status=200, length=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_response(status)
                if length != "none":
                    self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        asked = []
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"http://127.0.0.1:{servers[-1].server_port}/resources.zip"
        monkeypatch.setattr(Download, "OPENHOWNET_DATA_URL", url)
        return url, asked

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("inside", ["", "resources/", "a/b/"])
def test_a_download_puts_the_files_into_place_wherever_they_are_in_the_archive(tmp_path, serve, inside):
    serve(archive({"README": b"x"} | {inside + name: content for name, content in data().items()}))
    logged = []
    assert download(tmp_path / "new" / "hownet", logged.append) == tmp_path / "new" / "hownet"
    assert logged == [f"{tmp_path}/new/hownet: HowNet's data are downloaded, 4 English words"]
    found = snapshot(tmp_path / "new")
    assert {f"hownet/resources/{name}": content for name, content in data().items()}.items() <= found.items()
    assert set(found) - {"hownet/resources/README"} == {f"hownet/resources/{name}" for name in FILES}
    assert len(read_openhownet(tmp_path / "new" / "hownet")) == 4


def test_data_that_are_whole_are_not_downloaded_again(folder, serve):
    _, asked = serve(b"")
    logged, before = [], snapshot(folder)
    download(folder, logged.append)
    assert logged == [f"{folder}: HowNet's data are there, 4 English words"]
    assert not asked and snapshot(folder) == before


def test_a_download_replaces_data_that_are_not_whole_and_keeps_them_under_another_name(folder, serve):
    (folder / "resources" / FILES[0]).write_bytes(b"damaged")
    before = snapshot(folder / "resources")
    serve(archive(data()))
    logged = []
    download(folder, logged.append)
    aside, = (path for path in folder.iterdir() if path.name != "resources")
    assert snapshot(aside) == before and snapshot(folder / "resources") == data()
    assert logged[0] == f"{folder}/resources: was not whole, is kept as {aside.name}"


GOOD = archive(data())


@pytest.mark.parametrize("answer, text", [
    ((b"not found", 404), "expected a download from {url}, got BadZipFile: File is not a zip file"),
    ((b"", 500), "expected a download from {url}, got BadZipFile: File is not a zip file"),
    ((b"garbage" * 100,), "expected a download from {url}, got BadZipFile: File is not a zip file"),
    ((GOOD[:300], 200, len(GOOD)), "expected a download from {url}, got "),
    ((GOOD[:300],), "expected a download from {url}, got BadZipFile"),
    ((GOOD, 200, "none"), "expected a download from {url}, got KeyError: 'content-length'"),
    ((GOOD, 200, "many"), "expected a download from {url}, got ValueError"),
    ((archive({"README": b"x"}),), "expected a whole download from {url}, got resources: expected HowNet's data"),
    ((archive({FILES[0]: b"x"}),), "expected a whole download from {url}, got resources: expected HowNet's data"),
    ((archive(data() | {FILES[0]: DANGEROUS["GLOBAL"]}),),
     "expected a whole download from {url}, got resources/sememe_all: expected a pickle of plain data"),
    ((archive(data() | {FILES[1]: pickle.dumps({"1": None})}),),
     "expected a whole download from {url}, got resources: expected data that OpenHowNet can read"),
])
@pytest.mark.parametrize("state", ["absent", "damaged"])
def test_a_download_that_fails_is_an_error_of_one_line_and_changes_no_file(folder, serve, answer, text, state):
    (folder / "resources" / FILES[0]).write_bytes(b"damaged")
    target = folder if state == "damaged" else folder / "new"
    url, asked = serve(*answer)
    before, logged = snapshot(folder), []
    with pytest.raises(InputError) as caught:
        download(target, logged.append)
    assert str(caught.value).startswith("HowNet's data: " + text.format(url=url)) and "\n" not in str(caught.value)
    assert snapshot(folder) == before and not logged and asked
    assert not list(folder.rglob(".download*"))


