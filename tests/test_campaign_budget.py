"""Which run comes next: decided cells have no more, and undecided ones what is left."""

from collections.abc import Callable
from typing import Any

import pytest

from jepsen_blk.campaign.budget import Budget
from jepsen_blk.campaign.matrix import make_matrix
from jepsen_blk.errors import SpecError
from jepsen_blk.spec import Verdict

Verdicts = Callable[[int, int], Verdict]


def play(budget: Budget, verdict: Verdicts, at_once: int = 1) -> list[list[int]]:
    """Make every run; return the seeds that each cell had, in order. The newest run in flight ends first."""
    seeds: list[list[int]] = [[] for _ in budget.courses]
    flying: list[tuple[int, int]] = []
    budget.begin()
    while True:
        while len(flying) < at_once and (run := budget.next()):
            flying.append(run)
        if not flying:
            return [sorted(of_cell) for of_cell in seeds]
        number, seed = flying.pop()
        seeds[number].append(seed)
        budget.take(number, seed, verdict(number, seed))


def budget_of(cells: int, **matrix: Any) -> Budget:
    return Budget(make_matrix({"lab": ["sim"], "seeds": 20, **matrix}), cells)


def decisions(budget: Budget) -> list[str]:
    return [course.decided for course in budget.courses]


def test_a_cell_that_fails_is_decided_at_the_first_look_and_one_that_passes_by_all_its_runs() -> None:
    budget = budget_of(2)
    seeds = play(budget, lambda cell, seed: "fail" if cell == 0 else "pass")
    assert seeds == [list(range(5)), list(range(20))]
    assert decisions(budget) == [
        "unsafe: 5 of 5 runs failed, and 3 decide it",
        "safe: all 20 runs passed, as many as were asked for",
    ]


def test_rare_failures_are_sought_until_there_are_enough() -> None:
    budget = budget_of(1)
    assert play(budget, lambda cell, seed: "fail" if seed in (2, 9, 17) else "pass") == [list(range(20))]
    assert decisions(budget) == ["unsafe: 3 of 20 runs failed, and 3 decide it"]


def test_a_cell_of_which_nothing_can_be_judged_is_given_up() -> None:
    budget = budget_of(1)
    assert play(budget, lambda cell, seed: "unknown") == [list(range(5))]
    assert decisions(budget) == ["unknown: none of 5 runs could be judged, and after 5 it is given up"]


def test_an_undecided_cell_has_as_many_runs_again_of_those_that_others_did_not_need() -> None:
    def verdict(cell: int, seed: int) -> Verdict:
        return "fail" if cell or seed in (19, 33, 34) else "pass"

    budget = budget_of(3)
    assert [len(seeds) for seeds in play(budget, verdict)] == [40, 5, 5]
    assert decisions(budget)[0] == "unsafe: 3 of 40 runs failed, and 3 decide it"


def test_where_nothing_is_left_an_undecided_cell_stays_so() -> None:
    budget = budget_of(2)
    seeds = play(budget, lambda cell, seed: "unknown" if seed == 3 else "pass")
    assert [len(of_cell) for of_cell in seeds] == [20, 20]
    assert decisions(budget) == ["", ""]


def test_fewer_runs_in_all_are_shared_equally_and_too_few_are_refused() -> None:
    budget = budget_of(4, runs=30)
    assert [len(seeds) for seeds in play(budget, lambda cell, seed: "pass")] == [7] * 4
    with pytest.raises(SpecError, match="runs: 3 is less than one for each of the 4 cells"):
        budget_of(4, runs=3)


def test_without_early_stopping_every_cell_has_all_its_runs() -> None:
    budget = budget_of(2, stop={"early": False})
    assert [len(seeds) for seeds in play(budget, lambda cell, seed: "fail")] == [20, 20]


@pytest.mark.parametrize("at_once", [2, 3, 7, 50])
def test_which_seeds_are_run_does_not_depend_on_how_many_run_at_once(at_once: int) -> None:
    def verdict(cell: int, seed: int) -> Verdict:
        verdicts: list[Verdict] = ["fail", "pass", "unknown", "pass", "pass"]
        return verdicts[(seed * 7 + cell) % 5] if cell % 2 else "pass"

    alone, together = budget_of(6), budget_of(6)
    assert play(alone, verdict) == play(together, verdict, at_once)
    assert decisions(alone) == decisions(together)


def test_what_is_known_from_before_is_not_run_again() -> None:
    budget = budget_of(1)
    for seed in (0, 1, 2, 4, 7):
        budget.know(0, seed, "pass")
    assert play(budget, lambda cell, seed: "pass") == [[3, 5, 6, *range(8, 20)]]
    again = budget_of(1)
    for seed in range(20):
        again.know(0, seed, "pass")
    assert play(again, lambda cell, seed: "pass") == [[]]
    assert decisions(again) == decisions(budget)


def test_what_is_left_is_told_at_most() -> None:
    budget = budget_of(2)
    budget.begin()
    assert budget.most_left() == 40
    run = budget.next()
    assert run == (0, 0)
    budget.take(0, 0, "pass")
    assert budget.most_left() == 39
