"""The mutation run sees a mutant that is caught and one that survives, and every mutant still fits the code."""

import pytest
from mutation_run import MUTANTS, ROOT, Mutant, claim, files_of, line, mutated, verdict

TEST = "from pack.area import area\n\ndef test_area():\n    assert area(2, 3) == 6\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "area.py").write_text("def area(a, b):\n    return a * b\n")
    (tmp_path / "test_area.py").write_text(TEST)
    return tmp_path


@pytest.mark.parametrize(("new", "caught"), [("a + b", "test_area.py::test_area"), ("b * a", None)])
def test_a_mutant_is_caught_or_survives_and_leaves_the_copy_as_it_was(folder, new, caught):
    assert verdict(folder, "pack", Mutant("area.py", "the area", "a * b", new), ["test_area.py"]) == caught
    assert "return a * b" in (folder / "pack" / "area.py").read_text()


def test_a_mutant_that_never_ends_meets_the_time_limit(folder):
    endless = Mutant("area.py", "the end", "return a * b", "while True: pass")
    assert verdict(folder, "pack", endless, ["test_area.py"], seconds=5) == "time limit"


def test_a_run_without_tests_is_no_survivor(folder):
    with pytest.raises(RuntimeError, match="pytest ended with 4"):
        verdict(folder, "pack", Mutant("area.py", "the area", "a * b", "a + b"), ["test_volume.py"])


def test_a_mutant_without_exactly_one_place_is_refused():
    for text, times in (("a + b", 0), ("a * b * a * b", 2)):
        with pytest.raises(ValueError, match=f"expected 'a \\* b' once, got it {times} times"):
            mutated(text, Mutant("area.py", "the area", "a * b", "a"))


def test_every_mutant_has_its_place_and_its_tests():
    assert len(MUTANTS) >= 30 and len({(mutant.file, mutant.breaks) for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        text = (ROOT / "see_min" / mutant.file).read_text(encoding="utf-8")
        assert mutated(text, mutant) != text
        assert all((ROOT / test).exists() for test in files_of(mutant.file))


def test_a_line_of_the_table_names_the_test_and_its_claim():
    test = "tests/test_entangle.py::test_product_of_leaves_is_the_kronecker_product_in_c_order"
    mutant = Mutant("entangle.py", "the order", "a", "b")
    assert claim(test) == "D3" and claim("time limit") == ""
    assert line(mutant, test) == f"| entangle.py | the order | `{test.split('::')[1]}` D3 |  |"
    assert line(mutant, None) == "| entangle.py | the order | SURVIVED |  |"
