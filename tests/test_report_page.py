"""The page is complete, self-contained, bounded, and treats all text of a run as text."""

import json
import re
from html.parser import HTMLParser

import pytest
from fabricate import failing_run, journal_rows, long_run, passing_run, unknown_run, write_journal
from plotly.offline import get_plotlyjs

from jepsen_blk.errors import HistoryError, UserError
from jepsen_blk.judge import judge_run, write_results
from jepsen_blk.report.html import render_report

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
SECTIONS = ("story", "latency", "migrations", "faults", "deadlines", "events", "specification", "environment")


class Page(HTMLParser):
    """The elements of a page: tags with their attributes, in order, and text outside scripts."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and tag == self.open[-1]:
            self.open.pop()

    def handle_data(self, data):
        if not self.open:
            self.text += data

    def ids(self) -> list[str]:
        return [attrs["id"] for _, attrs in self.tags if attrs.get("id")]


def page_of(run_dir) -> tuple[Page, str]:
    source = render_report(run_dir).read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    return Page(source), source


@pytest.mark.parametrize("make", [failing_run, passing_run, unknown_run])
def test_every_section_is_present_and_no_id_is_used_twice(make, tmp_path):
    page, _ = page_of(make(tmp_path / "run"))
    ids = page.ids()
    assert set(SECTIONS) <= set(ids)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("make", [failing_run, passing_run, unknown_run])
def test_the_page_loads_nothing(make, tmp_path):
    page, source = page_of(make(tmp_path / "run"))
    for tag, attrs in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert not attrs.get("src")
        assert not (attrs.get("href") or "").startswith(("http", "//"))
    assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//|fetch\(|XMLHttpRequest", source)


def test_the_page_carries_its_chart_library(tmp_path):
    assert get_plotlyjs() in render_report(passing_run(tmp_path / "run")).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("make", "word"), [(failing_run, "FAIL"), (passing_run, "PASS"), (unknown_run, "UNKNOWN")]
)
def test_the_verdict_and_its_reasons_lead_the_page(make, word, tmp_path):
    run_dir = make(tmp_path / "run")
    page, _ = page_of(run_dir)
    assert word in page.text[:1200]
    for reason in json.loads((run_dir / "results.json").read_text())["reasons"]:
        assert reason in page.text


def test_the_witness_and_the_text_of_an_anomaly_are_shown(tmp_path):
    run_dir = failing_run(tmp_path / "run")
    page, _ = page_of(run_dir)
    anomaly = json.loads((run_dir / "results.json").read_text())["anomalies"][0]
    assert anomaly["text"] in page.text
    assert anomaly["blame"] in page.text
    assert all(str(line) in page.text for line in anomaly["ops"])


def test_the_first_anomaly_that_was_seen_is_on_the_charts_and_the_stop_beside_the_verdict(tmp_path):
    run_dir = failing_run(tmp_path / "run")
    assert '"seen":null' in page_of(run_dir)[1]
    events = (run_dir / "events.jsonl").read_text().splitlines()
    seen = json.loads(events[-1])
    seen |= {"source": "checker", "phase": "seen", "data": {"why": "conflict on block 17"}}
    (run_dir / "events.jsonl").write_text("\n".join([*events, json.dumps(seen)]) + "\n")
    results = json.loads((run_dir / "results.json").read_text())
    (run_dir / "results.json").write_text(json.dumps(results | {"notes": ["stopped at the first anomaly"]}))
    page, source = page_of(run_dir)
    assert re.search(r'"seen":\d+\.\d+', source)
    assert "stopped at the first anomaly" in page.text[:1200]
    assert "conflict on block 17" in page.text


def test_text_of_a_run_never_becomes_markup(tmp_path):
    run_dir = failing_run(tmp_path / "run", proof=EVIL)
    events = (run_dir / "events.jsonl").read_text().replace("lost-path-migration", f"path-{EVIL}")
    (run_dir / "events.jsonl").write_text(events)
    results = json.loads((run_dir / "results.json").read_text())
    results["reasons"] = [EVIL]
    results["anomalies"][0] |= {"text": EVIL, "blame": EVIL, "kind": EVIL}
    results["migrations"][0]["source"] = EVIL
    results["faults"][0] |= {"name": EVIL, "why": EVIL}
    (run_dir / "results.json").write_text(json.dumps(results))
    (run_dir / "spec.toml").write_text(EVIL)
    (run_dir / "environment.json").write_text(json.dumps({EVIL: EVIL}))
    rows = journal_rows((run_dir / "history.blk").read_bytes())
    write_journal(run_dir / "history.blk", rows, EVIL)
    page, source = page_of(run_dir)
    assert "<script>alert" not in source
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert not any(tag == "img" or "onerror" in attrs for tag, attrs in page.tags)


def test_chart_data_is_what_it_was_after_parsing(tmp_path):
    run_dir = passing_run(tmp_path / "run")
    events = (
        (run_dir / "events.jsonl").read_text().replace('"name":"migrate"', json.dumps({"name": EVIL})[1:-1])
    )
    (run_dir / "events.jsonl").write_text(events)
    _, source = page_of(run_dir)
    data = json.loads(re.search(r'id="charts">(.*?)</script>', source, re.DOTALL).group(1))
    assert EVIL in [band["name"] for band in data["bands"]]


def stands_through(run_dir):
    """Have a slow link stand from before the first fault of a run until after its last one."""
    events = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    number = 1
    for event in events:
        if event["source"] == "fault":
            number += event["phase"] == "setup"
            event["number"] = number
            event["data"] |= {"during": 1} if event["phase"] == "setup" else {}
    link = {"source": "fault", "name": "slow-link", "node": "x", "number": 1}
    first, last = events[0]["time_ns"] - 10**8, events[-1]["time_ns"]
    ended = {"proven": True, "healed": True, "why": ""}
    before = [
        {**link, "time_ns": first, "phase": phase, "data": {}} for phase in ("setup", "inject", "proven")
    ]
    after = [{**link, "time_ns": last, "phase": phase, "data": ended} for phase in ("healed", "over")]
    lines = [*before, *events[:-1], *after, events[-1]]
    (run_dir / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_fault_that_stands_is_drawn_above_those_that_come_during_it(tmp_path):
    run_dir = passing_run(tmp_path / "run")
    flat, _ = page_of(run_dir)
    stands_through(run_dir)
    write_results(run_dir, judge_run(run_dir))
    page, source = page_of(run_dir)
    bands = json.loads(re.search(r'id="charts">(.*?)</script>', source, re.DOTALL).group(1))["bands"]
    faults = [(band["name"], band["depth"]) for band in bands if band["kind"] == "fault"]
    assert faults == [("slow-link", 0), *[("migrate", 1)] * 3]
    outer, *inner = (band for band in bands if band["kind"] == "fault")
    assert all(outer["x0"] < band["x0"] and band["x1"] <= outer["x1"] for band in inner)
    drawn = [float(attrs["y"]) for tag, attrs in page.tags if tag == "rect" and attrs.get("class") == "fault"]
    assert len(set(drawn)) == 2
    assert sorted(drawn)[1] - sorted(drawn)[0] >= 28
    assert len({attrs["y"] for tag, attrs in flat.tags if attrs.get("class") == "fault"}) == 1
    assert page.text.count("#1") == 3


def test_a_migration_is_shown_with_what_overlapped_and_what_stayed_indeterminate(tmp_path):
    run_dir = passing_run(tmp_path / "run")
    results = json.loads((run_dir / "results.json").read_text())
    results["migrations"][0] |= {"overlap": 4711, "indeterminate": 4712}
    results["migrations"][1] |= {"overlap": None, "indeterminate": None}
    for key in ("overlap", "indeterminate"):  # as of an earlier version
        del results["migrations"][2][key]
    (run_dir / "results.json").write_text(json.dumps(results))
    _, source = page_of(run_dir)
    rows = re.findall(r"<tr><td>\d</td><td>[xy]</td>.*?</tr>", source)
    cells = [re.findall(r'<td class="n">([^<]*)</td>', row)[-2:] for row in rows]
    assert cells == [["4711", "4712"], ["-", "-"], ["-", "-"]]


def test_every_picture_has_a_title_and_a_description(tmp_path):
    page, _ = page_of(failing_run(tmp_path / "run"))
    ids = set(page.ids())
    for tag, attrs in page.tags:
        if tag == "svg":
            assert set((attrs.get("aria-labelledby") or "none").split()) <= ids


def test_a_million_operations_make_a_page_of_bounded_size(tmp_path):
    path = render_report(long_run(tmp_path / "run", operations=1_000_000))
    assert path.stat().st_size < 8_000_000


def test_the_history_graph_shows_every_operation_of_the_witness_and_the_conflict(tmp_path):
    page, _ = page_of(failing_run(tmp_path / "run"))
    looks = [attrs.get("class") or "" for _, attrs in page.tags]
    assert sum(look.startswith("node witness") for look in looks) == 4
    assert any(look.startswith("edge conflict") for look in looks)


@pytest.mark.parametrize(
    ("make", "verdict"), [(failing_run, "fail"), (passing_run, "pass"), (unknown_run, "unknown")]
)
def test_a_run_judged_by_the_checker_has_its_page(make, verdict, tmp_path):
    run_dir = make(tmp_path / "run")
    results = judge_run(run_dir)
    write_results(run_dir, results)
    page, _ = page_of(run_dir)
    assert results["verdict"] == verdict
    assert ("graph" in page.ids()) == (verdict == "fail")
    for anomaly in results["anomalies"]:
        assert anomaly["text"] in page.text


def test_a_run_without_results_is_refused_with_the_remedy(tmp_path):
    run_dir = passing_run(tmp_path / "run")
    (run_dir / "results.json").unlink()
    with pytest.raises(UserError, match="jepsen-blk check"):
        render_report(run_dir)


def test_results_of_another_history_are_refused(tmp_path):
    run_dir = failing_run(tmp_path / "run")
    results = json.loads((run_dir / "results.json").read_text())
    results["anomalies"][0]["ops"] = [10**9]
    (run_dir / "results.json").write_text(json.dumps(results))
    with pytest.raises(HistoryError, match="check the run again"):
        render_report(run_dir)


def test_a_damaged_storage_log_does_not_cost_the_report(tmp_path):
    run_dir = failing_run(tmp_path / "run")
    with (run_dir / "target.jsonl").open("a") as log:
        log.write('{"f":"write","id":')
    page, _ = page_of(run_dir)
    assert "story" in page.ids()


def test_a_run_with_neither_events_nor_operations_still_has_a_page(tmp_path):
    run_dir = passing_run(tmp_path / "run")
    write_journal(run_dir / "history.blk", journal_rows((run_dir / "history.blk").read_bytes())[:0])
    for name in ("events.jsonl", "target.jsonl", "environment.json", "spec.toml"):
        (run_dir / name).unlink()
    results = {"verdict": "unknown", "ops": 0, "anomalies": [], "reasons": ["the harness failed"]}
    (run_dir / "results.json").write_text(json.dumps(results))
    page, _ = page_of(run_dir)
    assert "the harness failed" in page.text
