"""The target's misbehaviours: requests that are answered late or with an error while a fault asks for it.

A delay ends when its misbehaviour does, so that healing need not wait for it. This has a lock of its
own, taken inside the target's or alone: a request that meets nothing never takes it.

Standard library only.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from jepsen_blk.storage.log import TargetLog
from jepsen_blk.storage.misbehaviour import ERRORS, Caught, Misbehaviour, MisbehaviourBook


class Misbehaving:
    """Catches requests for the misbehaviours of the moment; `ended` is called when one is over."""

    def __init__(self, log: TargetLog, ended: Callable[[], None]) -> None:
        self._book = MisbehaviourBook()
        self._log = log
        self._ended = ended
        self._changed = threading.Condition()
        self.active = self._book.active
        """Empty while there is nothing to catch a request for."""

    def catch(self, node: str, *requests: str) -> Caught:
        """Return what a request that has just arrived meets."""
        with self._changed:
            return self._book.catch(node, *requests)

    def answered(self, caught: Caught, took_ns: int) -> None:
        """Count a request that is answered now as it met it."""
        with self._changed:
            caught.answered(took_ns)
            self._changed.notify_all()

    def serve(self, node: str, request: str, serve: Callable[[], None]) -> None:
        """Serve a read or a flush late, or raise OSError instead, if it meets a misbehaviour."""
        received_ns = time.monotonic_ns()
        caught = self.catch(node, request)
        with self._changed:
            while (left_ns := received_ns + caught.delay_ns - time.monotonic_ns()) > 0:
                self._changed.wait(left_ns / 1e9)
        error = caught.error
        if error is None:
            serve()
        self.answered(caught, time.monotonic_ns() - received_ns)
        if error is not None:
            raise failure(error)

    # Called by the control socket's threads; names and fields are those of the control protocol.

    def handlers(self) -> dict[str, Callable[..., dict[str, Any]]]:
        """Return what answers each control request."""
        return {
            "misbehave": self.misbehave,
            "wait_misbehaved": self.wait_misbehaved,
            "behave": self.behave,
        }

    def misbehave(self, **fields: Any) -> dict[str, Any]:
        """Begin a misbehaviour."""
        with self._changed:
            begun = self._book.begin(Misbehaviour(**fields))
        self._log.event("misbehave", misbehaviour=begun.id, **fields, time=time.monotonic_ns())
        return {"misbehaviour": begun.id}

    def wait_misbehaved(self, misbehaviour: int, count: int, timeout_s: float) -> dict[str, Any]:
        """Wait until `count` requests have been answered as the misbehaviour says, and describe them."""
        with self._changed:
            active = self._book.get(misbehaviour)
            if not self._changed.wait_for(lambda: active.answered >= count, timeout_s):
                raise TimeoutError
            return active.describe()

    def behave(self, misbehaviour: int) -> dict[str, Any]:
        """End a misbehaviour; what waits for its delay goes on."""
        with self._changed:
            self._book.end(misbehaviour)
            self._changed.notify_all()
        self._ended()
        self._log.event("behave", misbehaviour=misbehaviour, time=time.monotonic_ns())
        return {}


def failure(error: Misbehaviour) -> OSError:
    """Return the error that a request is answered with."""
    code = ERRORS[error.error]
    return OSError(code, f"the storage misbehaves: {os.strerror(code)}")
