"""Measures a path by ICMP echoes, which every kernel answers: no server and no port is needed at the far end.

Run on a node as `python3 - ADDRESS COUNT PAYLOAD_BYTES < echo.py`; prints one JSON object. Standard
library only: a node has nothing else.
"""

import errno
import itertools
import json
import os
import select
import socket
import statistics
import struct
import sys
import time

BATCH = 16
GAP_S = 0.0005
"""Between batches: the receiver's buffers must lose nothing of their own."""
SILENCE_S = 0.5
MOST_S = 6.0
RECEIVE_BUFFER_BYTES = 4 << 20
FEWEST_FOR_A_RATE = 16
IP_HEADERS_BYTES = 28
QUEUE_IS_FULL = (errno.EAGAIN, errno.ENOBUFS)
"""Then the request is lost, as on any full link."""
HEADER = struct.Struct("!BBHHH")
STAMP = struct.Struct("!Q")


def main() -> None:
    """Send the burst, take in the answers until they stay away, and say what was seen."""
    address, count, payload_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as wire:
        wire.setblocking(False)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
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
            heard = sent[-1]
        gap_s = GAP_S if len(sent) < count else SILENCE_S
        while select.select([wire], [], [], gap_s)[0]:
            came = time.monotonic()
            answer = answered(wire.recv(65536), ours)
            if answer is not None and answer < len(sent):
                answers.append((answer, sent[answer], came))
                seen.add(answer)
                heard = came
            gap_s = 0.0
    return answers


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
    came = [first[number][1] for number in numbers]
    half = came[len(came) // 2 :] if len(came) >= FEWEST_FOR_A_RATE else []
    span_s = half[-1] - half[0] if half else 0.0
    return {
        "sent": count,
        "received": len(numbers),
        "duplicates": len(answers) - len(numbers),
        "out_of_order": sum(later < earlier for earlier, later in itertools.pairwise(numbers)),
        "rtt_ms": statistics.median(1e3 * (came - sent) for sent, came in first.values()) if first else 0.0,
        "mbit_per_s": (len(half) - 1) * packet_bytes * 8 / span_s / 1e6 if span_s else 0.0,
    }


if __name__ == "__main__":
    main()
