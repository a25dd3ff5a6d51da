"""The stream of one boot: whole, in order, each frame once, and no second version unseen."""

from workloads.stream import Arrival, RowStream


def test_frames_in_order_are_next_and_repeated_ones_known() -> None:
    stream = RowStream(0)
    assert [stream.arrive(number, b"%d" % number) for number in (1, 2, 3)] == [Arrival.NEXT] * 3
    assert stream.arrive(2, b"2") is Arrival.KNOWN
    assert stream.received == 3


def test_a_missing_frame_is_a_gap_and_what_follows_it_is_not_taken() -> None:
    stream = RowStream(0)
    stream.arrive(1, b"1")
    assert stream.arrive(3, b"3") is Arrival.GAP
    assert stream.received == 1


def test_a_second_version_of_a_frame_diverges() -> None:
    stream = RowStream(0)
    stream.arrive(1, b"1")
    assert stream.arrive(1, b"other") is Arrival.DIVERGED
    assert stream.overhear("x", 1, b"other") is Arrival.DIVERGED
    assert stream.overhear("x", 1, b"1") is Arrival.KNOWN


def test_a_frame_overheard_before_its_time_is_compared_when_the_stream_gets_there() -> None:
    stream = RowStream(0)
    stream.overhear("x", 1, b"same")
    stream.overhear("x", 2, b"other")
    stream.arrive(1, b"same")
    assert stream.contradiction() is None
    stream.arrive(2, b"2")
    assert stream.contradiction() == ("x", b"other")
    assert stream.contradiction() is None


def test_what_is_overheard_ahead_is_bounded() -> None:
    stream = RowStream(0)
    for number in range(1, 10_000):
        stream.overhear("x", number, b"other")
    for number in range(1, 10_000):
        stream.arrive(number, b"mine")
        heard = stream.contradiction()
        assert (heard is not None) == (number <= 256)
