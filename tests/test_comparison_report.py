"""The report of a comparison opens anywhere, treats all text as text, and leads to the runs."""

import csv
import json
import re
import subprocess
from pathlib import Path

import pytest
from comparisons import MODELS, save, summary, table
from fabricate import failing_run
from sim_run import simulate
from test_report_page import EVIL, Page

from jepsen_blk.assumptions import ASSUMPTIONS
from jepsen_blk.errors import UserError
from jepsen_blk.report.comparison import write_report

CELLS = (
    table("requeue", "uus")
    + table("drain", "son")
    + table("epoch", "sus", frontend="blkfront", nemesis="migrate")
)


def page_of(folder: Path) -> tuple[Page, str]:
    source = write_report(folder).read_text(encoding="utf-8")
    return Page(source), source


def test_the_page_leads_with_the_claim_and_every_cell_can_be_gone_into(tmp_path):
    page, _ = page_of(save(tmp_path, CELLS))
    assert "2 of 3 policies are unsafe." in page.text[:400]
    ids = page.ids()
    assert len(ids) == len(set(ids))
    links = [
        attrs["href"] for tag, attrs in page.tags if tag == "a" and attrs.get("href", "").startswith("#")
    ]
    drills = {f"cell-{number}" for number in range(1, len(CELLS) + 1)}
    assert drills < {link[1:] for link in links} <= set(ids)
    assert "40/50" in page.text
    assert "67 % to 89 %" in page.text
    assert "at most 15 %" in page.text


def test_colour_is_never_the_only_sign_of_a_judgement(tmp_path):
    _, source = page_of(save(tmp_path, CELLS))
    for name, symbol in (("unsafe", "✗"), ("safe", "✓"), ("undecided", "~"), ("unknown", "?")):
        squares = re.findall(rf'<td class="heat {name}">.*?</td>', source, re.DOTALL)
        assert len(squares) == sum(cell.judgement == name for cell in CELLS) > 0
        assert all(f">{symbol}<" in square and f">{name}<" in square for square in squares)


def test_the_page_loads_nothing_and_text_never_becomes_markup(tmp_path):
    evil = summary(
        EVIL,
        EVIL,
        "unsafe",
        frontend=EVIL,
        nemesis=EVIL,
        decided=EVIL,
        kinds={},
        why_unknown={EVIL: 1},
        repeat=EVIL,
    )
    folder = save(tmp_path, [evil], name=EVIL, about=EVIL, command=EVIL, begun=EVIL)
    (folder / "matrix.toml").write_text(EVIL)
    page, source = page_of(folder)
    assert "<script>alert" not in source
    assert [tag for tag, _ in page.tags].count("script") == 1
    for tag, attrs in page.tags:
        assert tag not in ("img", "link", "iframe", "object", "embed", "base")
        assert not attrs.get("src")
        assert "onerror" not in attrs
        assert not (attrs.get("href") or "").startswith(("http", "//"))
    assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//|fetch\(|XMLHttpRequest", source)


def test_every_policy_is_told_with_what_it_relies_on_and_the_command_that_breaks_it(tmp_path):
    page, source = page_of(save(tmp_path, CELLS))
    for assumption in ASSUMPTIONS:
        shown = assumption.policy in ("requeue", "drain", "epoch")
        assert (assumption.removed in page.text) == shown
        assert (tmp_path / "assumptions" / f"{assumption.run}.toml").exists() == shown
    assert f"jepsen-blk test {tmp_path}/assumptions/drain-write-in-network.toml" in page.text
    assert 'href="assumptions/epoch-ignored-write.toml"' in source
    strange, _ = page_of(save(tmp_path, [summary("our-own-policy")]))
    assert "What it relies on is not known to jepsen-blk." in strange.text


def test_a_kept_run_gets_a_report_that_shares_one_chart_library(tmp_path):
    failing_run(tmp_path / "runs" / "a run")
    cells = [summary("requeue", "arrival-order", "unsafe", failing="runs/a run")]
    page, _ = page_of(save(tmp_path, cells))
    assert ("a", {"class": "go", "href": "runs/a%20run/report.html"}) in page.tags
    report = (tmp_path / "runs" / "a run" / "report.html").read_text()
    assert '<script src="../../plotly.min.js"></script>' in report
    assert len(report) < 1_000_000 < (tmp_path / "plotly.min.js").stat().st_size
    before = (tmp_path / "runs" / "a run" / "report.html").stat().st_mtime_ns
    write_report(tmp_path)
    assert (tmp_path / "runs" / "a run" / "report.html").stat().st_mtime_ns == before


def test_a_run_that_cannot_be_shown_does_not_cost_the_page(tmp_path):
    run_dir = failing_run(tmp_path / "runs" / "1")
    (run_dir / "results.json").unlink()
    failing_run(tmp_path.parent / "elsewhere")
    cells = [summary("requeue", "arrival-order", "unsafe", failing="runs/1", passing="../elsewhere")]
    page, _ = page_of(save(tmp_path, cells))
    assert "The failing run runs/1 cannot be shown: " in page.text
    assert "check the run first with: jepsen-blk check RUN" in page.text
    assert "it lies outside of the comparison's folder" in page.text


def test_what_was_left_out_is_named_with_its_reason(tmp_path):
    cells = [summary("drain", MODELS[0]), summary("drain", MODELS[1]), summary("epoch", MODELS[0])]
    left_out = {"cell": summary("epoch", MODELS[1]).cell, "why": "it needs <fencing>"}
    page, source = page_of(save(tmp_path, cells, skipped=[left_out]))
    assert 'title="it needs &lt;fencing&gt;">not run' in source
    assert f"it needs <fencing>: {left_out['cell']}" in page.text
    assert "Left out, it needs <fencing>: sim / qemu" in (tmp_path / "comparison.md").read_text()


def test_markdown_and_csv_say_what_the_page_says(tmp_path):
    write_report(save(tmp_path, CELLS))
    text = (tmp_path / "comparison.md").read_text()
    assert (
        "| requeue | ✗ 40 of 50, 67 % to 89 % | ✗ 40 of 50, 67 % to 89 % | ✓ 0 of 50, at most 6 % |" in text
    )
    assert (
        "| drain | ✓ 0 of 50, at most 6 % | ~ 0 of 20, at most 15 %; 30 unknown | ? 0 of 0; 50 unknown |"
        in text
    )
    assert "- **requeue** is unsafe on every conflict model but serialize" in text
    rows = list(csv.DictReader((tmp_path / "comparison.csv").read_text().splitlines()))
    assert len(rows) == len(CELLS)
    assert (rows[0]["policy"], rows[0]["failed"], rows[0]["kinds"]) == (
        "requeue",
        "40",
        "stale-overwrite: 40",
    )
    assert [float(row["failed_high"]) for row in rows] == [cell.failed.high for cell in CELLS]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told["cells"][0].pop("runs"), r"missing required field `runs` - at `\$.cells\[0\]`"),
        (lambda told: told["cells"][1].update(judgement="fine"), r"'fine' - at `\$.cells\[1\].judgement`"),
        (lambda told: told["cells"].append(told["cells"][0]), "has the cell sim / qemu / .* twice"),
        (lambda told: told.update(cells=[]), "has no cell"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, change, said):
    path = save(tmp_path, CELLS) / "comparison.json"
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    with pytest.raises(UserError, match=rf"comparison\.json: .*{said}"):
        write_report(tmp_path)


def test_a_folder_without_a_comparison_is_named(tmp_path):
    with pytest.raises(UserError, match=r"comparison\.json: cannot read the comparison \(No such file"):
        write_report(tmp_path)


def test_two_simulated_policies_are_compared_and_their_runs_are_one_click_away(tmp_path):
    founding = {"nemesis": [{"fault": "lost-path-migration"}], "storage": {"conflict": "ignore-second"}}
    cells = []
    for policy, judgement, kind in (("requeue", "unsafe", "failing"), ("drain", "safe", "passing")):
        outcome = simulate(tmp_path / "runs", name=policy, handoff={"policy": policy}, **founding)
        (outcome.run_dir / "report.html").unlink()
        where = str(outcome.run_dir.relative_to(tmp_path))
        cells.append(summary(policy, "ignore-second", judgement, **{kind: where}))
    page, _ = page_of(save(tmp_path, cells))
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a" and attrs.get("class") == "go"]
    verdicts = [Page((tmp_path / link).read_text()).text for link in links]
    assert ["FAIL" in verdicts[0][:800], "PASS" in verdicts[1][:800]] == [True, True]


DRIVE = """
<script>
const said = [];
const rows = () => [...document.querySelectorAll("#table tbody tr")].filter((row) => !row.hidden);
const column = (number) => rows().map((row) => row.cells[number].textContent).join(" ");
const head = (name) => [...document.querySelectorAll("#table th")].find((th) => th.textContent === name);
const form = document.getElementById("filters");
const say = (what) => said.push(what);
const fill = (name, value) => {
  form.elements[name].value = value;
  form.dispatchEvent(new Event("input", { bubbles: true }));
};
head("blackout p50").querySelector("button").click();
say(column(4)); say(head("blackout p50").getAttribute("aria-sort"));
head("blackout p50").querySelector("button").click();
say(column(4)); say(head("blackout p50").getAttribute("aria-sort"));
head("policy").querySelector("button").click();
say(column(4)); say(String(head("blackout p50").getAttribute("aria-sort")));
fill("judgement", "unsafe");
say(column(4)); say(form.elements.count.value);
fill("judgement", ""); fill("words", "DRAIN safe");
say(column(4)); say(form.elements.count.value);
form.reset();
addEventListener("load", () => setTimeout(() => {
  say(form.elements.count.value);
  const square = document.querySelector("td.heat a");
  square.focus(); square.click();
  setTimeout(() => {
    const drill = document.querySelector(square.hash);
    say(document.activeElement === drill ? drill.querySelector("h2").textContent : "not focused");
    say(getComputedStyle(drill).display);
    dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
    setTimeout(() => {
      say(getComputedStyle(drill).display); say(String(document.activeElement === square));
      const out = document.createElement("pre");
      out.id = "said"; out.textContent = said.join("|");
      document.body.append(out);
    }, 50);
  }, 50);
}, 50));
</script>
"""


def test_in_a_browser_the_table_sorts_and_filters_and_a_cell_opens_and_closes_by_keyboard(tmp_path):
    def cost(p50_ms):
        return type(summary().cost)(p50_ms, p50_ms, None, None, None, None, None)

    cells = [
        summary("requeue", "arrival-order", "unsafe", cost=cost(100.0)),
        summary("drain", cost=cost(3000.0)),
        summary("epoch", "ignore-second", "unsafe", cost=cost(20.0)),
    ]
    source = write_report(save(tmp_path, cells)).read_text(encoding="utf-8")
    driven = tmp_path / "driven.html"
    driven.write_text(source.replace("</body>", f"{DRIVE}</body>"), encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'chromium'}", "--virtual-time-budget=5000", driven.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = re.search(r'<pre id="said">(.*?)</pre>', done.stdout)
    assert said, done.stderr
    assert said.group(1).split("|") == [
        *("epoch requeue drain", "ascending", "drain requeue epoch", "descending"),
        *("drain epoch requeue", "null"),
        *("epoch requeue", "2 of 3 cells", "drain", "1 of 3 cells", "3 of 3 cells"),
        *("drain on arrival-order", "block", "none", "true"),
    ]
