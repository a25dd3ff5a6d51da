"""Frames and the outbox: what a cut, corrupted or repeated stream does to them."""

import pytest

from workloads.agent.frames import JSON, MAX_PAYLOAD_BYTES, ROWS, FrameReader, pack_frame
from workloads.agent.link import Outbox

FRAMES = [(ROWS, 1, b"a" * 64), (JSON, 0, b"{}"), (ROWS, 2, b"b" * 4064)]
STREAM = b"".join(pack_frame(*frame) for frame in FRAMES)


def sent(outbox: Outbox, now_ns: int = 0) -> list[int]:
    """Write everything; return the sequence numbers of the row frames."""
    reader = FrameReader()
    numbers = []
    while chunk := outbox.next_chunk(now_ns):
        numbers += [sequence for kind, sequence, _ in reader.feed(chunk) if kind == ROWS]
    return numbers


@pytest.mark.parametrize("step", [1, 7, 100, len(STREAM)])
def test_frames_come_out_whole_however_the_stream_is_cut(step: int) -> None:
    reader = FrameReader()
    seen = []
    for at in range(0, len(STREAM), step):
        seen += reader.feed(STREAM[at : at + step])
    assert seen == FRAMES
    assert reader.skipped == 0


@pytest.mark.parametrize("at", range(16 + 64))
def test_a_changed_byte_costs_its_frame_and_no_other(at: int) -> None:
    stream = bytearray(STREAM)
    stream[at] ^= 0x40
    reader = FrameReader()
    seen = reader.feed(bytes(stream)) + reader.feed(pack_frame(ROWS, 3, bytes(MAX_PAYLOAD_BYTES)))
    assert [frame[1] for frame in seen] == [0, 2, 3]
    assert reader.skipped == 16 + 64


@pytest.mark.parametrize("cut", range(1, 16 + 64))
def test_a_stream_cut_in_a_frame_is_found_again_at_the_next(cut: int) -> None:
    reader = FrameReader()
    seen = reader.feed(STREAM[:cut]) + reader.feed(STREAM + pack_frame(ROWS, 3, bytes(MAX_PAYLOAD_BYTES)))
    assert [frame[1] for frame in seen] == [1, 0, 2, 3]


def test_bytes_that_look_like_a_magic_do_not_hide_a_frame() -> None:
    reader = FrameReader()
    assert reader.feed(b"JBJBJ" + pack_frame(JSON, 0, b"{}")) == [(JSON, 0, b"{}")]


def test_frames_are_kept_until_acked_and_sent_once() -> None:
    outbox = Outbox()
    for _ in range(4):
        outbox.rows(bytes(32))
    assert sent(outbox) == [1, 2, 3, 4]
    assert sent(outbox) == []
    assert outbox.unacked_bytes == 4 * (16 + 32)
    outbox.ack(3, resend=False)
    assert outbox.unacked_bytes == 16 + 32
    outbox.ack(9, resend=False)
    assert outbox.unacked_bytes == 0


def test_a_resend_request_repeats_everything_that_is_not_acked() -> None:
    outbox = Outbox()
    for _ in range(4):
        outbox.rows(bytes(32))
    sent(outbox)
    outbox.ack(1, resend=True)
    assert sent(outbox) == [2, 3, 4]


def test_an_old_ack_takes_nothing_back() -> None:
    outbox = Outbox()
    for _ in range(3):
        outbox.rows(bytes(32))
    sent(outbox)
    outbox.ack(2, resend=False)
    outbox.ack(1, resend=False)
    assert sent(outbox) == []
    assert outbox.unacked_bytes == 16 + 32


def test_frames_without_an_ack_are_sent_again_after_a_second() -> None:
    outbox = Outbox()
    outbox.rows(bytes(32))
    assert sent(outbox, now_ns=10**9) == [1]
    assert outbox.next_chunk(2 * 10**9) == b""
    assert outbox.next_chunk(2 * 10**9 + 1) == pack_frame(ROWS, 1, bytes(32))


def test_what_the_port_did_not_take_goes_first_next_time() -> None:
    outbox = Outbox()
    outbox.rows(bytes(32))
    chunk = outbox.next_chunk(0)
    outbox.give_back(chunk[10:])
    outbox.control({"hello": True})
    assert outbox.pending
    reader = FrameReader()
    reader.feed(chunk[:10])
    assert [frame[0] for frame in reader.feed(outbox.next_chunk(0))] == [ROWS]
    assert [frame[0] for frame in reader.feed(outbox.next_chunk(0))] == [JSON]


def test_a_cleared_outbox_numbers_from_one_and_finishes_the_frame_half_written() -> None:
    outbox = Outbox()
    outbox.rows(b"x" * 32)
    outbox.rows(b"y" * 32)
    chunk = outbox.next_chunk(0)
    outbox.give_back(chunk[10:48])
    outbox.clear()
    outbox.rows(b"z" * 32)
    reader = FrameReader()
    reader.feed(chunk[:10])
    assert reader.feed(outbox.next_chunk(0)) == [(ROWS, 1, b"x" * 32)]
    assert reader.feed(outbox.next_chunk(0)) == [(ROWS, 1, b"z" * 32)]


def test_replies_that_nobody_takes_are_bounded() -> None:
    outbox = Outbox()
    for _ in range(10_000):
        outbox.control({"hello": True})
    assert len(outbox.next_chunk(0)) < 10_000
