"""What docs/anomalies.md shows of each kind is made of the code, and a witness can be handed on as a file."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from histories import history, read, write

from jepsen_blk import cli
from jepsen_blk.checker.graph import history_graph
from jepsen_blk.checker.verdict import check
from jepsen_blk.history.interchange import write_jsonl
from jepsen_blk.report.kinds_page import write as write_page
from jepsen_blk.report.witness_file import dot_text

DOCS = Path(__file__).parent.parent / "docs"
LOST = [write(1, 0, 10), write(2, 20, 30), read(1, 40, 50)]


def test_the_pages_pictures_and_definitions_are_those_of_the_code(tmp_path: Path) -> None:
    shutil.copy(DOCS / "anomalies.md", tmp_path)
    write_page(tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(made) == 16
    for path in made:
        assert (DOCS / path).read_text() == (tmp_path / path).read_text(), f"{path}: run `make pictures`"


@pytest.mark.parametrize("suffix", [".svg", ".png", ".dot"])
def test_the_witness_of_a_failed_check_is_written_in_each_form(tmp_path: Path, suffix: str) -> None:
    file, out = tmp_path / "h.jsonl", tmp_path / f"witness{suffix}"
    write_jsonl(history(LOST), file)
    assert cli.main(["check", str(file), "--witness", str(out)]) == 1
    data = out.read_bytes()
    if suffix == ".svg":
        assert "write 2" in "".join(ET.fromstring(data).itertext())
    elif suffix == ".png":
        assert data.startswith(b"\x89PNG")
    else:
        assert data.count(b"conflict") == 2


@pytest.mark.parametrize(
    ("ops", "name", "said"),
    [
        ([*LOST[:2], read(2, 40, 50)], "w.svg", "there is no anomaly"),
        (LOST, "w.gif", "a witness is written as .dot, .svg or .png"),
        (LOST, "no/w.svg", "cannot write the witness"),
    ],
)
def test_a_witness_that_cannot_be_written_is_one_line(
    tmp_path: Path, ops: list[object], name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "h.jsonl"
    write_jsonl(history(ops), file)  # type: ignore[arg-type]
    assert cli.main(["check", str(file), "--witness", str(tmp_path / name)]) == 254
    assert said in capsys.readouterr().err


def test_strings_in_dot_are_quoted() -> None:
    whole = history(LOST)
    (anomaly,) = check(whole).anomalies
    graph = history_graph(whole, anomaly.to_json())
    graph.nodes[0]["label"] = 'a "quoted" \\ label'
    assert r'"a \"quoted\" \\ label, process 0"' in dot_text(graph)
