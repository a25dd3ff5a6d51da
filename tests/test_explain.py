"""`jepsen-blk explain` tells every kind in the terminal; of a wrong name it says what is close."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from jepsen_blk import cli
from jepsen_blk.checker.kinds import KINDS
from jepsen_blk.report.explain import draw_text, example_scene, print_kind


def drawn(name: str) -> list[str]:
    return [line.plain for line in draw_text(example_scene(KINDS[name]))]


def test_without_a_kind_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_told_with_its_definition_causes_and_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", name]) == 0
    out = " ".join(capsys.readouterr().out.split())
    kind = KINDS[name]
    for text in (kind.title, kind.definition, kind.meaning, kind.evidence, *kind.causes):
        assert text in out
    assert "\x1b" not in out


def test_an_unknown_kind_is_one_line_with_those_that_are_close(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "lost-wirte"]) == 254
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(
        r"jepsen-blk: no kind of anomaly 'lost-wirte'; .*did you mean 'lost-write'.*\n", said.err
    )


def test_markup_in_a_name_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "[red]"]) == 254
    assert "'[red]'" in capsys.readouterr().err


def test_the_example_is_drawn_on_one_axis_with_its_answers_and_the_two_orders() -> None:
    lines = drawn("stale-overwrite")
    assert [line.split("  ")[0] for line in lines[:3]] == ["process 0", "process 1", "process 2"]
    begins = [line.index("├") for line in lines[:5]]
    assert begins == sorted(begins)
    assert begins[0] < begins[1]
    assert lines[3].endswith("returned A  ← R")
    assert lines[5:] == [
        "A before B: the write A ended before the write B began",
        "B before A: the write B ended before the read of A began",
    ]


def test_a_fence_crosses_the_lines_of_what_it_closed() -> None:
    lines = drawn("fenced-zombie")
    place = lines[0].index("?")
    assert lines[1][place] == lines[2][place] == "╎"
    assert lines[3].strip() == "╵ fence at 15 ms"
    assert lines[3][place] == "╵"


def test_a_flush_and_a_power_loss_are_in_the_picture_of_durability() -> None:
    text = "\n".join(drawn("durability-loss"))
    assert "flush" in text
    assert "power loss at 50 ms" in text


def test_a_narrow_terminal_wraps_the_words_and_keeps_the_drawing_whole() -> None:
    out = io.StringIO()
    print_kind("lost-write", Console(file=out, width=50, highlight=False))
    assert any(line.endswith("returned A  ← R") for line in out.getvalue().splitlines())
