"""HowNet through OpenHowNet: what is read, what is refused before it is opened, what a download leaves behind."""

import builtins
import contextlib
import http.server
import importlib
import io
import os
import pickle
import pickletools
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest

from see_min.checks import DataError
from see_min.hownet import FILES, PLAIN, check_pickle, download, read_openhownet

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


# --- reading ---------------------------------------------------------------------------------------------------------


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


def test_sememes_are_those_that_openhownet_finds_for_the_word(folder, monkeypatch):
    monkeypatch.setattr(Download, "OPENHOWNET_RESOURCE_PATH", str(folder))
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = importlib.import_module("OpenHowNet").HowNetDict()
    for word, senses in read_openhownet(folder).entries.items():
        for sense in senses:
            record = theirs.sense_dic[sense.number]
            assert "_".join(record.en_word.split()) == word
            assert set(sense.sememes) == {sememe.en for sememe in record.get_sememe_list()}  # by way of its tree


def test_numbers_are_ordered_by_value_and_not_as_text(tmp_path):
    write(tmp_path, data([(n, "a", "甲", "noun", "{human|人}") for n in ("10", "9", "007", "100")]))
    assert [sense.number for sense in read_openhownet(tmp_path).meanings("a")] == ["007", "9", "10", "100"]


def test_the_files_may_stand_in_the_folder_itself(tmp_path, folder):
    assert read_openhownet(write(tmp_path / "direct", data())).entries == read_openhownet(folder).entries
    assert read_openhownet(str(folder / "resources")).entries == read_openhownet(folder).entries


def test_the_default_folder_is_openhownets_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"^~/\.openhownet: expected HowNet's data \(resources/sememe_all, HowNet_dict_complete, "
                                        r"sememe_triples_taxonomy\.txt\), got none: python -m see_min hownet --download$"):
        read_openhownet()
    write(tmp_path / ".openhownet" / "resources", data())
    assert len(read_openhownet()) == 4


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_told_by_naming_those_that_are_there(folder, name):
    (folder / "resources" / name).unlink()
    there = ", ".join(other for other in FILES if other != name)
    with pytest.raises(DataError, match=f"got only {there}: python -m see_min hownet --download$"):
        read_openhownet(folder)


@pytest.mark.parametrize("folder", ["/no/such/place", "a\0b", "~nobody-here/x", __file__])
def test_a_folder_that_is_none_is_an_error_of_one_line(folder):
    with pytest.raises(DataError, match="expected HowNet's data .*, got none: python -m see_min hownet --download$"):
        read_openhownet(folder)


@pytest.mark.parametrize("name, content, text", [
    (FILES[0], pickle.dumps({"human": 3}), "ValueError"),
    (FILES[0], pickle.dumps({}), "KeyError: 'human|人'"),
    (FILES[0], pickle.dumps([1, 2]), "AttributeError"),
    (FILES[0], b"", "expected a whole pickle, got ValueError: pickle exhausted before seeing STOP"),
    (FILES[0], b"\x80\x09N.", "unsupported pickle protocol: 9"),
    (FILES[0], b"aN.", "UnpicklingError"),
    (FILES[1], pickle.dumps({}), "expected at least 1 English word, got none in 0 senses"),
    (FILES[1], pickle.dumps({"1": {"No": "1"}}), "KeyError: 'en_word'"),
    (FILES[1], pickle.dumps({"1": None}), "TypeError"),
    (FILES[1], data([("1", None, "甲", "noun", "{human|人}")])[FILES[1]], "AttributeError"),
    (FILES[1], data([("1", "a", "甲", "noun", "human|人")])[FILES[1]], "IndexError"),
    (FILES[1], data([("1", "a", "甲", "noun", "{nothing|无}")])[FILES[1]], "KeyError: 'nothing|无'"),
    (FILES[1], data()[FILES[1]][:-20], "expected a whole pickle"),
    (FILES[2], b"human\xff|x", "UnicodeDecodeError"),
    (FILES[2], b"human\n", "IndexError"),
    (FILES[2], "human|人 hyponym nothing|无\n".encode(), "KeyError"),
])
def test_damaged_data_are_an_error_of_one_line_that_names_the_folder(folder, name, content, text, capsys):
    (folder / "resources" / name).write_bytes(content)
    with pytest.raises(DataError, match="^.*$") as caught:
        read_openhownet(folder)
    assert str(caught.value).startswith(f"{folder}") and text in str(caught.value) and "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


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
        "No. 32 (odd): no roles, because OpenHowNet finds the sememes food in {food|食品:modifier={cold}}",
        "No. 33 (odd): left out, because its definition names no sememe",
        "No. 34 (void): left out, because its definition names no sememe",
    )


def test_reading_leaves_openhownets_own_folder_as_it_was_whether_it_works_or_not(folder, capsys):
    before = Download.OPENHOWNET_RESOURCE_PATH
    read_openhownet(folder)
    assert Download.OPENHOWNET_RESOURCE_PATH == before
    (folder / "resources" / FILES[1]).write_bytes(pickle.dumps({"1": None}))
    with pytest.raises(DataError):
        read_openhownet(folder)
    assert Download.OPENHOWNET_RESOURCE_PATH == before
    assert capsys.readouterr() == ("", "")


def test_the_copies_given_to_openhownet_are_gone_after_reading(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    read_openhownet(folder)
    (folder / "resources" / FILES[1]).write_bytes(b"damaged")
    with pytest.raises(DataError, match="HowNet_dict_complete: expected a whole pickle"):
        read_openhownet(folder)
    assert sorted(tmp_path.iterdir()) == before


def test_without_openhownet_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenHowNet", None)
    for act in (read_openhownet, lambda folder: download(folder / "new")):
        with pytest.raises(DataError, match=r"^OpenHowNet: expected it to be installed, .*: pip install OpenHowNet==2\.0$"):
            act(folder)


def test_importing_this_module_does_not_import_openhownet():
    code = "import sys, see_min.hownet; sys.exit(any(name in sys.modules for name in ('OpenHowNet', 'requests', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- the check of pickles --------------------------------------------------------------------------------------------


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
    with pytest.raises(DataError, match=f"^{folder}/resources/{name}: expected a pickle of plain containers, strings and "
                                        r"numbers, got opcode (GLOBAL \((posix|nt) system\)|STACK_GLOBAL) at byte \d+$"):
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


@pytest.mark.parametrize("name", DANGEROUS)
def test_every_opcode_that_can_call_or_find_something_is_refused(tmp_path, name):
    path = tmp_path / "a"
    path.write_bytes(DANGEROUS[name])
    assert name in [opcode.name for opcode, _, _ in pickletools.genops(DANGEROUS[name])]
    with pytest.raises(DataError, match=rf"numbers, got opcode {name}( \(.*\))? at byte \d+$"):
        check_pickle(path)


def test_the_error_names_the_function_that_would_have_been_found(tmp_path):
    (tmp_path / "a").write_bytes(DANGEROUS["GLOBAL"])
    with pytest.raises(DataError, match=r"got opcode GLOBAL \(builtins eval\) at byte 0$"):
        check_pickle(tmp_path / "a")


def test_each_opcode_of_this_python_is_either_plain_or_dangerous():
    assert sorted([*PLAIN, *DANGEROUS]) == sorted(opcode.name for opcode in pickletools.opcodes)


PLAIN_DATA = [
    {"a|甲": [1, -1, 2.5, 2**40, 2**3000, -(2**70)], "b": ("x", ("y", "x")), "c": None, "d": [True, False], "long": "é" * 300},
    [], {}, (), "", 0, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[[]]], {"t": {"t": {}}}, "\ud800", list(range(3000)), "x" * 70000,
]


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_of_every_protocol_are_accepted_and_what_is_returned_was_in_the_file(tmp_path, protocol):
    for value in [*PLAIN_DATA, *([{1, "a"}, frozenset("ab"), b"x", b"x" * 300] if protocol > 3 else [])]:
        (tmp_path / "a").write_bytes(pickle.dumps(value, protocol))
        assert pickle.loads(check_pickle(tmp_path / "a")) == value
        (tmp_path / "a").write_bytes(pickletools.optimize(pickle.dumps(value, protocol)))
        assert pickle.loads(check_pickle(tmp_path / "a")) == value


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_cut_off_at_any_byte_is_refused(tmp_path, protocol):
    whole = pickle.dumps({"a|甲": [1, -(2**40), 2.5, True], "b": ("x", "x"), "c": None}, protocol)
    for end in range(len(whole)):
        (tmp_path / "a").write_bytes(whole[:end])
        with pytest.raises(DataError, match="^.*a: expected a whole pickle, got .+$"):
            check_pickle(tmp_path / "a")


class Watched(pickle.Unpickler):
    """Opens a pickle but finds nothing in it; tells whether it was asked to."""

    asked = False

    def find_class(self, module, name):
        self.asked = True
        raise pickle.UnpicklingError

    persistent_load = lambda self, pid: self.find_class("", "")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # escapes in damaged strings
@pytest.mark.parametrize("protocol", range(6))
def test_a_damaged_pickle_is_refused_or_else_finds_nothing_when_opened(tmp_path, protocol):
    rng = np.random.default_rng(protocol)
    whole, accepted = pickle.dumps({"a|甲": [1, 2.5, None, ("b", "c")] * 3}, protocol), 0
    for _ in range(300):
        data = np.frombuffer(whole, np.uint8).copy()
        data[rng.integers(0, len(data), rng.integers(1, 4))] = rng.integers(0, 256)
        (tmp_path / "a").write_bytes(data.tobytes())
        try:
            check_pickle(tmp_path / "a")
        except DataError as error:
            assert "\n" not in str(error)
            continue
        accepted += 1
        opened = Watched(io.BytesIO(data.tobytes()))
        with contextlib.suppress(Exception):  # a broken structure is pickle's own affair
            opened.load()
        assert not opened.asked
    assert accepted  # else nothing was shown


@pytest.mark.parametrize("data", [
    b"\x8d" + b"\xff" * 8 + b"a.", b"\x8d" + b"\xff" * 7 + b"\x7fa.", b"\x8e\xff\xff\xff\xff\xff\xff\xff\x0fa.",
    b"X\xff\xff\xff\xffa.", b"T\xff\xff\xff\xffa.", b"T\xff\xff\xff\x7fa.", b"\x8b\xff\xff\xff\x7fa.", b"\x8b\xff\xff\xff\xffa.",
    b"I" + b"9" * 5000 + b"\n.", b"S'a\n.", b"Sa'\n.", b"V\\ud8\n.", b"F1.2.3\n.", b"I\n.", b"\xff", b"hello", b"PK\x03\x04",
    b"\x80", b"gx\n.",
])
def test_huge_lengths_and_garbage_are_refused_with_an_error_of_bounded_length(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(DataError, match="a: expected a (whole )?pickle") as caught:
        check_pickle(tmp_path / "a")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("data, shown", [
    (b"Nr\xff\xff\xff\xff.", r"LONG_BINPUT \(4294967295\) at byte 1"), (b"Np99999999999\n.", r"PUT \(99999999999\) at byte 1"),
    (b"Np-1\n.", r"PUT \(-1\) at byte 1"),
])
def test_a_memo_number_that_would_fill_the_memory_is_refused(tmp_path, data, shown):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(DataError, match=f"got opcode {shown}$"):
        check_pickle(tmp_path / "a")


def test_what_follows_the_end_of_a_pickle_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"N." + DANGEROUS["GLOBAL"])
    with pytest.raises(DataError, match="a: expected the end of the file after byte 2, got 16 more bytes$"):
        check_pickle(tmp_path / "a")


@pytest.mark.parametrize("path, text", [("", "Is a directory"), ("none", "No such file or directory"), ("a\0b", "null byte")])
def test_what_is_no_file_is_an_error_with_its_name(tmp_path, path, text):
    with pytest.raises(DataError, match=f"^{tmp_path}.*: expected a pickle, got .*{text}"):
        check_pickle(tmp_path / path)


def test_the_bytes_that_are_opened_are_the_bytes_that_were_checked(folder, tmp_path, monkeypatch):
    """The files turn evil as soon as they have been read once; OpenHowNet still opens what was checked."""
    marker = tmp_path / "marker"
    monkeypatch.setattr("see_min.hownet.check_pickle", lambda path: _then_evil(path, marker))
    assert len(read_openhownet(folder)) == 4
    assert not marker.exists()
    pickle.loads((folder / "resources" / FILES[0]).read_bytes())
    assert marker.exists()


def _then_evil(path, marker):
    checked = check_pickle(path)
    path.write_bytes(pickle.dumps(Evil(marker)))
    return checked


# --- the download ----------------------------------------------------------------------------------------------------


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
    said = []
    assert download(tmp_path / "new" / "hownet", said.append) == tmp_path / "new" / "hownet"
    assert said == [f"{tmp_path}/new/hownet: HowNet's data are downloaded, 4 English words"]
    found = snapshot(tmp_path / "new")
    assert {f"hownet/resources/{name}": content for name, content in data().items()}.items() <= found.items()
    assert set(found) - {"hownet/resources/README"} == {f"hownet/resources/{name}" for name in FILES}
    assert len(read_openhownet(tmp_path / "new" / "hownet")) == 4


def test_data_that_are_whole_are_not_downloaded_again(folder, serve):
    _, asked = serve(b"")
    said, before = [], snapshot(folder)
    download(folder, said.append)
    assert said == [f"{folder}: HowNet's data are there and whole, 4 English words"]
    assert not asked and snapshot(folder) == before


def test_a_download_replaces_data_that_are_not_whole_and_keeps_them_under_another_name(folder, serve):
    (folder / "resources" / FILES[0]).write_bytes(b"damaged")
    before = snapshot(folder / "resources")
    serve(archive(data()))
    said = []
    download(folder, said.append)
    aside, = (path for path in folder.iterdir() if path.name != "resources")
    assert snapshot(aside) == before and snapshot(folder / "resources") == data()
    assert said[0] == f"{folder}/resources: was not whole, is kept as {aside.name}"


GOOD = archive(data())


@pytest.mark.parametrize("answer, text", [
    ((b"not found", 404), "expected a download from {url}, got BadZipFile: File is not a zip file"),
    ((b"", 500), "expected a download from {url}, got BadZipFile: File is not a zip file"),
    ((b"garbage" * 100,), "expected a download from {url}, got BadZipFile: File is not a zip file"),
    ((GOOD[:300], 200, len(GOOD)), "expected a download from {url}, got "),
    ((GOOD[:300],), "expected a download from {url}, got BadZipFile"),
    ((GOOD, 200, "none"), "expected a download from {url}, got KeyError: 'content-length'"),
    ((GOOD, 200, "many"), "expected a download from {url}, got ValueError"),
    ((archive({"README": b"x"}),), "expected a whole download from {url}, got the archive: expected HowNet's data"),
    ((archive({FILES[0]: b"x"}),), "expected a whole download from {url}, got the archive: expected HowNet's data"),
    ((archive(data() | {FILES[0]: DANGEROUS["GLOBAL"]}),),
     "expected a whole download from {url}, got resources/sememe_all: expected a pickle of plain containers"),
    ((archive(data() | {FILES[1]: pickle.dumps({"1": None})}),),
     "expected a whole download from {url}, got resources: expected data that OpenHowNet can read"),
])
@pytest.mark.parametrize("state", ["absent", "damaged"])
def test_a_download_that_fails_is_an_error_of_one_line_and_changes_no_file(folder, serve, answer, text, state):
    (folder / "resources" / FILES[0]).write_bytes(b"damaged")
    target = folder if state == "damaged" else folder / "new"
    url, asked = serve(*answer)
    before, said = snapshot(folder), []
    with pytest.raises(DataError) as caught:
        download(target, said.append)
    assert str(caught.value).startswith("HowNet's data: " + text.format(url=url)) and "\n" not in str(caught.value)
    assert snapshot(folder) == before and not said and asked
    assert not list(folder.rglob(".download*"))


def test_a_server_that_is_not_there_is_an_error_of_one_line(tmp_path, serve, monkeypatch):
    serve(b"")
    monkeypatch.setattr(Download, "OPENHOWNET_DATA_URL", "http://127.0.0.1:1/resources.zip")
    with pytest.raises(DataError, match="^HowNet's data: expected a download from http://127.*, got ConnectionError: .*$"):
        download(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_download_leaves_what_was_there(folder, serve, monkeypatch):
    (folder / "resources" / FILES[0]).write_bytes(b"damaged")
    serve(GOOD)
    before = snapshot(folder)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(zipfile.ZipFile, "extractall", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download(folder)
    assert snapshot(folder) == before and not list(folder.rglob(".download*"))


def test_members_of_an_archive_that_point_outside_of_the_folder_stay_inside(tmp_path, serve):
    outside = tmp_path / "outside"
    serve(archive(data() | {"../../../evil": b"x", str(outside): b"x"}))
    download(tmp_path / "hownet")
    assert [path.name for path in tmp_path.iterdir()] == ["hownet"]
    assert [path.name for path in (tmp_path / "hownet").iterdir()] == ["resources"]


def test_old_data_come_back_if_the_new_ones_cannot_take_their_place(folder, serve, monkeypatch):
    (folder / "resources" / FILES[0]).write_bytes(b"damaged")
    serve(GOOD)
    before, replace = snapshot(folder), os.replace

    def fail(source, target):
        if ".download" in str(source):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(DataError, match=rf"^out: expected a directory that can be written, got {folder} \(No space left .*\)$"):
        download(folder)
    assert snapshot(folder) == before


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=rf"^out: expected a directory that can be written, got {tmp_path}/file/a \(Not .*\)$"):
        download(tmp_path / "file" / "a")


def test_the_guards_of_this_file_can_fail():
    """The tests above call nothing dangerous if `pickle` cannot find functions at all; here it does."""
    assert pickle.loads(DANGEROUS["GLOBAL"]) is builtins.eval
    watched = Watched(io.BytesIO(DANGEROUS["GLOBAL"]))
    with pytest.raises(pickle.UnpicklingError):
        watched.load()
    assert watched.asked
