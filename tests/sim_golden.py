"""Simulated tests whose histories are the same bytes under every Python, on every system.

`python tests/sim_golden.py` writes tests/golden/simulated.toml again: for whoever has changed what the
simulator does, and means to.
"""

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

import tomli_w
from sim_run import simulate

GOLDEN = Path(__file__).parent / "golden" / "simulated.toml"
TESTS: dict[str, dict[str, Any]] = {
    "founding-case": {
        "seed": 7,
        "storage": {"conflict": "ignore-second"},
        "nemesis": [{"fault": "lost-path-migration"}],
    },
    "requeued-by-blkfront": {
        "seed": 4,
        "guest": {"frontend": "blkfront"},
        "storage": {"conflict": "ignore-second", "write_latency_ms": 200},
        "nemesis": [{"fault": "migrate"}],
    },
    "drawn-schedule": {
        "seed": 2,
        "guest": {"reconnect_delay_s": 4},
        "storage": {"conflict": "serialize", "write_latency_ms": 20},
        "time_limit_s": 20,
        "schedule": {
            "kind": "mix",
            "items": [{"fault": fault} for fault in ("pause", "path-loss", "reset", "io-error", "migrate")],
        },
    },
}


def digest(name: str) -> str:
    """Run the test of that name and return the SHA-256 of its history."""
    with tempfile.TemporaryDirectory() as store:
        outcome = simulate(Path(store), **TESTS[name])
        return hashlib.sha256((outcome.run_dir / "history.blk").read_bytes()).hexdigest()


if __name__ == "__main__":
    if sys.argv[1:]:
        print(digest(sys.argv[1]))
    else:
        GOLDEN.write_text(tomli_w.dumps({name: digest(name) for name in TESTS}), encoding="utf-8")
