"""Certificates as files: made, asked of the verifier, taken apart and put together again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from histories import INFO, read, write

from jepsen_blk import verify_certificate
from jepsen_blk.certify import write_certificate
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.interchange import write_jsonl
from jepsen_blk.history.record import History
from jepsen_blk.recheck import judge_path

STALE = [write(1, 0, 90), write(2, 100, 200), read(2, 300, 310), read(1, 400, 410)]
BUSY = [write(1, 0, 50), write(2, 10, 60, outcome=INFO), read(2, 20, 40), write(3, 70, 80), read(3, 75, 90)]

Parts = list[dict[str, Any]]


def certify(found: History, folder: Path, deadline: Deadline = Deadline.FENCE) -> tuple[Path, Path]:
    """Return the certificate and the history as files."""
    file, out = folder / "history.jsonl", folder / "certificate.jsonl"
    write_jsonl(found, file)
    write_certificate(file, judge_path(file, deadline), out)
    return out, file


def confirm(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = verify_certificate.main([str(file) for file in files])
    (line,) = capsys.readouterr().out.splitlines()
    return code, line


def parts_of(out: Path) -> Parts:
    return [json.loads(line) for line in out.read_text().splitlines()]


def store(out: Path, parts: Iterable[dict[str, Any]]) -> None:
    out.write_text("".join(json.dumps(part) + "\n" for part in parts))
