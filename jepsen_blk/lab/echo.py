"""Measures a path by ICMP echoes, which every kernel answers: no server and no port is needed at the far end.

Run on a node as `python3 -I -S - ADDRESS COUNT PAYLOAD_BYTES < echo.py`; prints one JSON object. Standard
library only, and quick to start.
"""

import errno
import itertools
import json
import os
import select
import socket
import struct
import sys
import time

BATCH = 128
GAP_S = 0.0005
"""Between batches: the receiver's buffers must lose nothing of their own."""
SILENCE_S = 0.5
MOST_S = 6.0
RECEIVE_BUFFER_BYTES = 4 << 20
FEWEST_FOR_A_RATE = 16
RATE_WINDOW = 128
SO_TIMESTAMPNS = 35
"""Not among Python's names; the kernel says when a packet came, however late this process takes it in."""
IP_HEADERS_BYTES = 28
QUEUE_IS_FULL = (errno.EAGAIN, errno.ENOBUFS)
"""Then the request is lost, as on any full link."""
HEADER = struct.Struct("!BBHHH")
STAMP = struct.Struct("!Q")
TIMESPEC = struct.Struct("@ll")


def main() -> None:
    """Send the burst, take in the answers until they stay away, and say what was seen."""
    address, count, payload_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as wire:
        wire.setblocking(False)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        wire.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        wire.connect((address, 0))
        answers = exchange(wire, count, max(payload_bytes, STAMP.size))
    sys.stdout.write(json.dumps(summary(answers, count, payload_bytes + IP_HEADERS_BYTES)))


def exchange(wire: socket.socket, count: int, payload_bytes: int) -> list[tuple[int, float, float]]:
    """Return the answers in the order they came: the number, when it was sent and when it came."""
    ours = os.getpid() & 0xFFFF
    sent: list[float] = []
    answers: list[tuple[int, float, float]] = []
    seen: set[int] = set()
    begin = heard = time.monotonic()
    while len(seen) < count and time.monotonic() < min(begin + MOST_S, heard + SILENCE_S):
        for number in range(len(sent), min(len(sent) + BATCH, count)):
            try:
                wire.send(request(ours, number, payload_bytes))
            except OSError as error:
                if error.errno not in QUEUE_IS_FULL:
                    raise
            sent.append(time.monotonic())
            heard = time.monotonic()
        gap_s = GAP_S if len(sent) < count else SILENCE_S
        while select.select([wire], [], [], gap_s)[0]:
            packet, came = receive(wire)
            answer = answered(packet, ours)
            if answer is not None and answer < len(sent):
                answers.append((answer, sent[answer], came))
                seen.add(answer)
                heard = time.monotonic()
            gap_s = 0.0
    return answers


def receive(wire: socket.socket) -> tuple[bytes, float]:
    """Take a packet in, and the time at which the kernel had it.

    The kernel says that by the wall clock, of which only the packet's age is taken: it may jump in between.
    """
    packet, extra, _, _ = wire.recvmsg(65536, socket.CMSG_SPACE(TIMESPEC.size))
    now, age_s = time.monotonic(), 0.0
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = TIMESPEC.unpack(data)
            age_s = time.time() - (seconds + nanoseconds / 1e9)
    return packet, now - (age_s if 0 <= age_s <= MOST_S else 0.0)


def request(ours: int, number: int, payload_bytes: int) -> bytes:
    """Make an echo request whose payload carries its number: the header's is too short for large bursts."""
    begin = HEADER.pack(8, 0, 0, ours, number & 0xFFFF) + STAMP.pack(number)
    total = sum(struct.unpack("!8H", begin))  # the zeros that follow add nothing
    total = (total >> 16) + (total & 0xFFFF)
    checksum: int = ~(total + (total >> 16)) & 0xFFFF
    return begin[:2] + checksum.to_bytes(2, "big") + begin[4:] + bytes(payload_bytes - STAMP.size)


def answered(packet: bytes, ours: int) -> int | None:
    """Return the number of the request that a received IP packet answers, if it answers one of ours."""
    start = (packet[0] & 0xF) * 4
    kind, _, _, whose, _ = HEADER.unpack_from(packet, start)
    return int(STAMP.unpack_from(packet, start + HEADER.size)[0]) if (kind, whose) == (0, ours) else None


def summary(answers: list[tuple[int, float, float]], count: int, packet_bytes: int) -> dict[str, float]:
    """Sum the answers up in the fields of lab.seams.Echoes."""
    first = {number: (sent, came) for number, sent, came in reversed(answers)}
    numbers = list(dict.fromkeys(number for number, _, _ in answers))
    rtts = sorted(came - sent for sent, came in first.values())
    return {
        "sent": count,
        "received": len(numbers),
        "duplicates": len(answers) - len(numbers),
        "out_of_order": sum(later < earlier for earlier, later in itertools.pairwise(numbers)),
        "rtt_ms": 1e3 * rtts[len(rtts) // 2] if rtts else 0.0,
        "mbit_per_s": fastest([first[number][1] for number in numbers]) * packet_bytes * 8 / 1e6,
    }


def fastest(came: list[float]) -> float:
    """Return the packets per second of the fastest stretch: a pause of a busy machine does not lower it."""
    if len(came) < FEWEST_FOR_A_RATE:
        return 0.0
    window = min(RATE_WINDOW, len(came) // 2)
    span_s = min(later - earlier for earlier, later in zip(came, came[window:], strict=False))
    return window / max(span_s, 1e-6)


if __name__ == "__main__":
    main()
