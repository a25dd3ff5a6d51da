"""docs/policies.md has what simulator and local lab say, and is not made while they differ unexplained."""

from pathlib import Path

import pytest
from comparisons import save, summary, table

from jepsen_blk.errors import EXIT_PASS, EXIT_USER, UserError
from jepsen_blk.report.comparison.explanations import Explanation, load_explanations
from jepsen_blk.report.comparison.policies_page import BEGIN, END, main, write

ROOT = Path(__file__).parent.parent
BLKFRONT = {"frontend": "blkfront", "nemesis": "migrate"}
SIM = table("requeue", "uus") + table("drain", "sss") + table("epoch", "sus", **BLKFRONT)
WHY = Explanation(
    policy="req*", storage="ignore-second", sim="unsafe", local="safe", why="The real one waits."
)


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "policies.md"
    path.write_text(f"# Policies\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    return path


def make(tmp_path, page, local, explanations=()):
    write(save(tmp_path / "sim", SIM), [save(tmp_path / "local", local)], page, explanations)
    return page.read_text()


def test_the_tables_of_both_labs_and_their_comparison_come_between_the_markers(tmp_path, page):
    local = table("requeue", "uus", lab="local") + table("drain", "sos", lab="local")
    text = make(tmp_path, page, local)
    assert text.startswith(f"# Policies\n\n{BEGIN}\n\n")
    assert text.endswith(f"\n\n{END}\n\nafter\n")
    assert "old" not in text
    assert "### Simulator: policies\n\n450 runs of `jepsen-blk compare m.toml`." in text
    assert "| requeue | ✗ 40 of 50, 67 % to 89 % |" in text
    assert "**Frontend blkfront, nemesis migrate**" in text
    assert "Of 6 cells that both have, they agree on 6, differ on 0, and 0 neither could judge." in text
    assert "3 cells are of the simulator alone. None is of the local lab alone." in text
    assert "| drain | ✓ = ✓ | ✓ = ~ | ✓ = ✓ |" in text
    assert "≠" not in text
    assert make(tmp_path, page, local) == text


def test_a_disagreement_carries_the_number_of_its_explanation(tmp_path, page):
    text = make(tmp_path, page, table("requeue", "uss", lab="local"), [WHY])
    assert "| requeue | ✗ = ✗ | **✗ ≠ ✓** (1) | ✓ = ✓ |" in text
    assert "\n1. The real one waits.\n" in text
    assert "Of 3 cells that both have, they agree on 2, differ on 1, and 0 neither could judge." in text


def test_a_cell_that_neither_could_judge_is_no_agreement(tmp_path, page):
    sim = save(tmp_path / "sim", table("requeue", "nus"))
    write(sim, [save(tmp_path / "local", table("requeue", "nus", lab="local"))], page, ())
    text = page.read_text()
    assert "they agree on 2, differ on 0, and 1 neither could judge." in text
    assert "| requeue | ?  ? | ✗ = ✗ | ✓ = ✓ |" in text


@pytest.mark.parametrize("local", ["sus", "ous", "nus"])
def test_a_disagreement_without_an_explanation_names_the_cell_and_changes_nothing(tmp_path, page, local):
    before = page.read_text()
    with pytest.raises(
        UserError, match=r"on qemu / arrival-order / requeue / lost-path-migration \(simulator unsafe"
    ):
        make(tmp_path, page, table("requeue", local, lab="local"), [WHY])
    assert page.read_text() == before


def test_the_module_ends_with_a_line_and_a_code(tmp_path, page, capsys):
    sim, local = save(tmp_path / "sim", SIM), save(tmp_path / "local", table("drain", "sss", lab="local"))
    assert main([str(sim), str(local), str(page)]) == EXIT_PASS
    assert main([str(sim)]) == EXIT_USER
    assert "usage: " in capsys.readouterr().err
    assert main([str(local), str(sim), str(page)]) == EXIT_USER
    assert "has no cell of lab 'sim'" in capsys.readouterr().err
    page.write_text("# Policies\n")
    assert main([str(sim), str(local), str(page)]) == EXIT_USER
    assert f"put {BEGIN} and {END} into it" in capsys.readouterr().err


def test_explanations_that_are_wrong_are_named_and_those_that_ship_can_be_read(tmp_path):
    assert all(explanation.why for explanation in load_explanations())
    path = tmp_path / "explanations.toml"
    path.write_text('[[explanation]]\nwhy = "because"\nstorag = "serialize"\n')
    with pytest.raises(UserError, match=r"explanations\.toml: .*explanation\.0\.storag"):
        load_explanations(path)
    path.write_text("[[explanation]\n")
    with pytest.raises(UserError, match=r"explanations\.toml: not a file of explanations"):
        load_explanations(path)


def test_an_explanation_fits_by_all_that_it_names():
    cell = summary("requeue", "ignore-second").cell
    assert WHY.fits(cell, "unsafe", "safe")
    assert not WHY.fits(cell, "safe", "safe")
    assert not WHY.fits(summary("requeue", "serialize").cell, "unsafe", "safe")
    assert Explanation(why="always").fits(cell, "unsafe", "unknown")


def test_the_page_that_ships_has_a_place_for_it():
    text = (ROOT / "docs" / "policies.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index(BEGIN) < text.index(END)
