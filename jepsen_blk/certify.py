"""Writing what lets others confirm a verdict: the certificate, and the history as a file they can read.

A certificate names its history by the SHA-256 of an interchange file. A run or a journal has none, so its
certificate names the one that `jepsen-blk convert` writes of it, always the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from jepsen_blk.checker.certificate import certificate
from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import UserError
from jepsen_blk.history.formats import read_history
from jepsen_blk.history.interchange import jsonl
from jepsen_blk.recheck import history_file


def write_certificate(subject: Path, results: dict[str, Any], out: Path) -> None:
    """Certify the results of `judge_path(subject)`; raises UserError if that cannot be."""
    history = read_history(history_file(subject)).history
    if history.crashes or history.clocks:
        what = "a power loss" if history.crashes else "an uncertain clock"
        raise UserError(
            f"{subject}: a history with {what} has no certificate; check it without --certificate"
        )
    digest = hashlib.sha256()
    try:
        if subject.suffix == ".jsonl":
            with subject.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        else:
            for lines in jsonl(history):
                digest.update(lines)
        parts = certificate(history, Deadline(results["deadline"]), results["verdict"], digest.hexdigest())
        with out.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(part, separators=(",", ":")) + "\n" for part in parts)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot certify: {error.strerror}") from error
