"""The agent: commands in, frames out, and the engine in between, in turns of a few milliseconds.

One thread does everything, so that nothing in the guest competes with the workload, and every turn
ends: a storage that answers nothing stops the operations, never the agent.
"""

import json
from _random import Random
from typing import Any

from workloads.agent.engine import MAX_DEPTH, MOST_SLOTS, Engine
from workloads.agent.link import UNACKED_LIMIT_BYTES, Outbox
from workloads.agent.machine import Machine, Port
from workloads.agent.operations import Source
from workloads.agent.register import Register
from workloads.agent.sent import Make, Sent, load

SLICE_NS = 50_000_000
"""A turn's own work takes most of a millisecond in a guest without hardware virtualization, in which nothing
that completed is replaced."""
_HELLO_EVERY_NS = 200_000_000
_FLUSH_AFTER_NS = 50_000_000
_IDLE_WAIT_S = 0.02
_LINGER_NS = 5_000_000_000
_REMEMBERED = 32

_Message = dict[str, Any]


class Agent:
    """Serves one host over `port`, exercising the machine's disk as the host commands.

    The engine has `slice_ns` of a turn, or one round where that is 0.
    """

    def __init__(
        self,
        machine: Machine,
        port: Port,
        unacked_limit_bytes: int = UNACKED_LIMIT_BYTES,
        slice_ns: int = SLICE_NS,
    ) -> None:
        self._machine = machine
        self._clock = machine.monotonic_ns
        self._port = port
        self._slice_ns = slice_ns
        self._limit_bytes = unacked_limit_bytes
        self._outbox = Outbox()
        self._engine: Engine | None = None
        self._random = Random(0)
        self._workload: _Message = {}
        self._source: Source | None = None
        self._sent: dict[str, Make] = {}
        self._boot = -1
        self._ahead_ns = 0
        self._replies: dict[int, _Message] = {}
        self._waiting: dict[int, tuple[str, int]] = {}
        self._greeting = True
        self._hello_ns = 0
        self._end_ns: int | None = None

    @property
    def ended(self) -> bool:
        """Tell whether the host has confirmed the end of the stream, or left it unconfirmed too long."""
        return self._end_ns is not None and self._clock() >= self._end_ns

    @property
    def could_issue(self) -> bool:
        """Tell whether another turn would issue operations, whatever comes meanwhile."""
        return self._engine is not None and self._engine.could_issue

    def serve(self) -> None:
        """Take turns until the stream has ended."""
        while not self.ended:
            self.turn()

    def turn(self) -> None:
        """Read commands, answer what is due, write frames, then let the engine run for a slice."""
        for line in self._port.read_lines():
            if line:
                self._receive(line)
        now_ns = self._clock()
        engine = self._engine
        if self._greeting and now_ns >= self._hello_ns:
            self._hello_ns = now_ns + _HELLO_EVERY_NS
            self._outbox.control({"hello": True, "time": now_ns})
        if engine is not None:
            engine.throttled = self._outbox.unacked_bytes >= self._limit_bytes
            engine.flush(now_ns - _FLUSH_AFTER_NS)
            self._settle(engine, now_ns)
        self._port.write(self._outbox, now_ns)
        if engine is not None and engine.busy:
            engine.pump(now_ns + self._slice_ns)
            if self._failure:
                engine.stop()
        else:
            self._port.wait(_IDLE_WAIT_S, self._outbox.pending)

    def _receive(self, line: bytes) -> None:
        """Do a command, unless it was done before: then answer from memory. A line cut short is left."""
        try:
            command = json.loads(line)
            do, number = command["do"], command.get("id")
        except (ValueError, KeyError, TypeError, AttributeError):
            return
        if do == "ack":
            self._ack(command)
        elif number in self._replies:
            self._outbox.control(self._replies[number])
            if self._end_ns is not None:
                self._end_ns = self._clock() + _LINGER_NS
        elif isinstance(number, int) and number not in self._waiting:
            self._greeting = False
            try:
                self._do(do, number, command)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._reply(number, error=f"{type(error).__name__}: {error}")

    def _ack(self, command: _Message) -> None:
        if command.get("boot", self._boot) != self._boot:
            return
        self._outbox.ack(int(command["seq"]), bool(command.get("resend")))
        if command.get("end") and self._end_ns is not None:
            self._end_ns = 0

    def _do(self, do: str, number: int, command: _Message) -> None:
        if do == "reset":
            clock_ns = command.get("clock_ns")
            self._ahead_ns = 0 if clock_ns is None else int(clock_ns) - self._clock()
            self._reset(int(command["boot"]), int(command["run"]), int(command["seed"]))
            self._reply(number)
            return
        if do == "ping":
            self._reply(number)
            return
        if do == "load":
            self._sent[command["name"]] = load(command["name"], command["source"])
            self._reply(number)
            return
        if do == "wall_clock":
            if "ahead_ns" in command:
                self._machine.set_wall_ahead(int(command["ahead_ns"]))
            self._reply(number, ahead_ns=self._machine.wall_ahead_ns())
            return
        engine = self._engine
        if engine is None:
            raise ValueError(f"{do} before reset")
        if self._failure and do in ("quiesce", "read_all"):
            raise ValueError(self._failure)
        if do == "run":
            self._run(engine, command["workload"])
            self._reply(number)
        elif do == "quiesce":
            engine.stop()
            self._waiting[number] = (do, self._clock() + int(command["timeout_s"] * 1e9))
        elif do == "read_all":
            if self._source is None:
                raise ValueError("read_all before run: how many blocks there are is not known")
            engine.sweep(self._workload["queue_depth"])
            self._waiting[number] = (do, self._clock() + int(command["timeout_s"] * 1e9))
        elif do == "issue":
            if self._source is None:
                raise ValueError("issue before run: how many blocks there are is not known")
            engine.issue(int(command["block"]), write=bool(command["write"]))
            self._waiting[number] = (do, self._clock() + int(command["timeout_s"] * 1e9))
        elif do == "abandon":
            self._reply(number, count=engine.abandon())
        elif do == "bye":
            engine.abandon()
            self._reply(number, bye=True)
            self._end_ns = self._clock() + _LINGER_NS
        else:
            raise ValueError(f"unknown command {do!r}")

    def _reset(self, boot: int, run: int, seed: int) -> None:
        if self._engine is not None:
            self._engine.close()
        self._outbox.clear()
        self._waiting.clear()
        self._engine = Engine(
            self._machine.open_disk(MOST_SLOTS), self._clock, self._outbox, run, boot, self._ahead_ns
        )
        self._boot = boot
        self._random = Random(seed)
        self._source = None
        self._end_ns = None

    def _run(self, engine: Engine, workload: _Message) -> None:
        """Start the workload; the same one again goes on where it was stopped."""
        depth = workload["queue_depth"]
        if not 1 <= depth <= MAX_DEPTH:
            raise ValueError(f"queue_depth {depth} is not within 1..{MAX_DEPTH}")
        if self._source is None or workload != self._workload:
            self._source = self._make_source(workload)
        engine.start(self._source, depth, bool(workload["overlapping_writes"]))
        self._workload = workload

    def _make_source(self, workload: _Message) -> Source:
        name = workload["name"]
        if name == "register":
            return Register(self._random, workload)
        if name not in self._sent:
            raise ValueError(f"the guest has no workload {name!r}, and none was sent")
        return Sent(self._sent[name], self._random, workload)

    @property
    def _failure(self) -> str:
        return self._source.failure if isinstance(self._source, Sent) else ""

    def _settle(self, engine: Engine, now_ns: int) -> None:
        """Answer the commands that waited for the engine and got what they waited for, or waited too long."""
        for number, (do, deadline_ns) in list(self._waiting.items()):
            if do == "issue":
                done = engine.issued
            else:
                done = engine.swept if do == "read_all" else engine.in_flight == 0
            if done or now_ns >= deadline_ns:
                del self._waiting[number]
                if do != "quiesce":
                    engine.stop()
                self._reply(number, quiet=done, **({"value": engine.last_value} if do == "issue" else {}))

    def _reply(self, number: int, **result: object) -> None:
        """Answer with the result, the counters, and the last row frame that the answer stands on."""
        engine = self._engine
        if engine is not None:
            engine.flush()
        reply = {
            "re": number,
            "time": self._clock() + self._ahead_ns,
            "boot": self._boot,
            "sequence": self._outbox.sequence,
            "unacked_bytes": self._outbox.unacked_bytes,
            "operations": engine.completed if engine else 0,
            "indeterminate": engine.indeterminate if engine else 0,
            "in_flight": engine.in_flight if engine else 0,
            **result,
        }
        while len(self._replies) >= _REMEMBERED:
            del self._replies[next(iter(self._replies))]
        self._replies[number] = reply
        self._outbox.control(reply)
