"""The tests of the checker, tested: break its code in every small way and see that a test notices.

`python bench/mutate_checker.py [MODULE ...]` takes the modules of jepsen_blk/checker named (default: those
that decide verdicts, kinds and witnesses), makes one small change at a time (a comparison, a sum, a constant,
a statement left out), runs the module's tests on it and prints each change that no test noticed, with its
number: `registers:95-` goes on there, `registers:97,99` tries those two again. docs/proof.md says of each
survivor why it does not matter. The exit code is that of the tests on the checker as it is; survivors are
for a person to judge.

It is a script of our own because the tests are few and quick: a fork of a process that has loaded numpy,
pytest and hypothesis judges a change in a second or two, without a copy of the tree on disk.
"""

import argparse
import ast
import copy
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import resource
import sys
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest

ROOT = Path(__file__).parent.parent
TESTS = {
    "registers": ("brute_force", "registers", "anomalies", "verdict", "durability"),
    "effect": ("brute_force", "registers", "clocks"),
    "clusters": ("anomalies", "classify", "witness", "brute_force", "planting", "golden"),
    "classify": ("classify", "kinds", "anomalies", "planting", "golden"),
    "witness": ("witness", "anomalies", "planting", "golden"),
    "lost_tail": ("lost_tail", "verdict"),
    "verdict": ("verdict", "anomalies", "durability", "clocks", "brute_force"),
    "durability": ("durability", "anomalies", "verdict", "clocks"),
    "eras": ("durability", "anomalies", "clocks"),
    "clocks": ("clocks", "verdict"),
    "findings": ("registers", "brute_force"),
    "index": ("index", "registers", "brute_force"),
    "written": ("index", "online"),
    "online": ("online", "online_edges"),
    "windows": ("online_edges:WindowChecker", "online:WindowChecker", "follow", "large"),
    "open_clusters": ("online_edges:WindowChecker or share", "online:WindowChecker", "follow"),
}
"""Of each module the tests that are about it; the first to notice most changes comes first."""
LOADED = (
    "numpy",
    "networkx",
    "pydantic",
    "typer",
    "rich",
    "jepsen_blk.spec",
    "jepsen_blk.history.interchange",
)
"""What each child would load anew otherwise; nothing of the checker."""
LONGEST_CPU_S = 90
MOST_BYTES = 6 << 30

SWAPPED: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE,),
    ast.LtE: (ast.Lt,),
    ast.Gt: (ast.GtE,),
    ast.GtE: (ast.Gt,),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.FloorDiv,),
    ast.FloorDiv: (ast.Mult,),
    ast.Div: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
}
RENAMED = {"minimum": "maximum", "min": "max", "argmin": "argmax", "any": "all", "left": "right"}
RENAMED |= {new: old for old, new in RENAMED.items()}
UNTOUCHED_FIELDS = {"annotation", "returns", "decorator_list"}


class Mutant(NamedTuple):
    """One change: `new` in place of what stands in `parent.field`, at `place` if that is a list."""

    parent: ast.AST
    field: str
    place: int | None
    old: ast.AST
    new: ast.AST
    line: int


def mutants(tree: ast.Module) -> Iterator[Mutant]:
    """Yield every change of a module's code."""
    todo: list[tuple[ast.AST, int]] = [(tree, 0)]
    while todo:
        parent, line = todo.pop(0)
        for field, value in ast.iter_fields(parent):
            if field in UNTOUCHED_FIELDS or (isinstance(parent, ast.keyword) and parent.arg == "strict"):
                continue
            for place, old in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if not isinstance(old, ast.AST):
                    continue
                at = getattr(old, "lineno", line)
                todo.append((old, at))
                for new in variants(old, parent):
                    yield Mutant(parent, field, place, old, new, at)


def variants(node: ast.AST, parent: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in a node's place."""
    for other in SWAPPED.get(type(node), ()):
        yield other()
    if isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Constant) and node.value in ("left", "right"):
        yield ast.Constant(RENAMED[node.value])
    elif isinstance(node, ast.Attribute) and node.attr in RENAMED:
        yield ast.Attribute(node.value, RENAMED[node.attr], node.ctx)
    elif isinstance(node, ast.Name) and node.id in RENAMED and isinstance(parent, ast.Call):
        yield ast.Name(RENAMED[node.id], node.ctx)
    elif isinstance(node, ast.If | ast.IfExp):
        negated = copy.copy(node)
        negated.test = ast.UnaryOp(ast.Not(), node.test)
        yield negated
    elif _is_effect(node):
        yield ast.Pass()


def _is_effect(node: ast.AST) -> bool:
    """Tell whether this is a statement that can be left out: a call, or a change of something in place."""
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Subscript | ast.Attribute)
    return isinstance(node, ast.AugAssign) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    )


def exchange(mutant: Mutant, node: ast.AST) -> None:
    """Put a node at the mutant's place."""
    if mutant.place is None:
        setattr(mutant.parent, mutant.field, node)
    else:
        getattr(mutant.parent, mutant.field)[mutant.place] = node


class Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from code instead of from its file."""

    def __init__(self, module: str, code: types.CodeType) -> None:
        self._module = module
        self._code = code

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Claim the module, and no other."""
        return importlib.util.spec_from_loader(name, self) if name == self._module else None

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the changed code."""
        exec(self._code, module.__dict__)


class Fewer:
    """A pytest plugin: one seed instead of several, no random search where the brute force does it."""

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        """Reduce what was collected."""
        items[:] = [
            item
            for item in items
            if item.path.stem != "test_registers" or not hypothesis.is_hypothesis_test(item.obj)
        ]
        for item in items:
            if hasattr(item.module, "SEEDS"):
                item.module.SEEDS = 1 if isinstance(item.module.SEEDS, int) else item.module.SEEDS[:1]


def run_tests(module: str, code: types.CodeType) -> int:
    """Run the tests on a module's code in a child; return their exit code, or -signal."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_CPU_S, LONGEST_CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    sys.meta_path.insert(0, Planted(module, code))
    hypothesis.settings.register_profile("quick", phases=[hypothesis.Phase.generate], database=None)
    hypothesis.settings.load_profile("quick")
    options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    for test in TESTS[module.rpartition(".")[2]]:
        name, _, chosen = test.partition(":")
        path = ROOT / "tests" / f"test_{name}.py"
        if status := int(pytest.main([*options, "-k", chosen, str(path)], plugins=[Fewer()])):
            os._exit(status)
    os._exit(0)


def judge(name: str, wanted: Sequence[slice]) -> tuple[int, int]:
    """Try some changes of a module; print the survivors; return how many there were, and how many lived."""
    module, path = f"jepsen_blk.checker.{name}", ROOT / "jepsen_blk" / "checker" / f"{name}.py"
    tree = ast.parse(path.read_text())
    begun = time.monotonic()
    if status := run_tests(module, compile(tree, str(path), "exec")):
        sys.exit(f"the tests of {name}.py fail on it as it is (status {status})")
    tried = lived = 0
    every = list(enumerate(mutants(tree)))
    for number, mutant in (one for part in wanted for one in every[part]):
        exchange(mutant, mutant.new)
        code = compile(ast.fix_missing_locations(tree), str(path), "exec")
        shown = show(mutant)
        exchange(mutant, mutant.old)
        tried += 1
        if run_tests(module, code) == 0:
            lived += 1
            print(f"survived: {name}:{number}, line {mutant.line}: {shown}", flush=True)
    print(f"{name}: {tried - lived} of {tried} killed in {time.monotonic() - begun:.0f} s", flush=True)
    return tried, lived


def show(mutant: Mutant) -> str:
    """Show the changed expression, or the changed statement's first line."""
    by_parent = isinstance(mutant.parent, ast.expr) or not isinstance(mutant.new, ast.expr | ast.stmt)
    whole = mutant.parent if by_parent else mutant.new
    after = ast.unparse(whole).splitlines()[0]
    exchange(mutant, mutant.old)
    before = ast.unparse(mutant.parent if whole is mutant.parent else mutant.old).splitlines()[0]
    return f"{before}  ->  {after}"


def asked(text: str) -> tuple[str, list[slice]]:
    """Read MODULE or MODULE:NUMBERS, a number with a dash meaning all from there."""
    name, colon, numbers = text.partition(":")
    if name not in TESTS:
        raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(TESTS)}")
    if not colon:
        return name, [slice(None)]
    firsts = [(int(number.removesuffix("-")), number.endswith("-")) for number in numbers.split(",")]
    return name, [slice(first, None if onward else first + 1) for first, onward in firsts]


def main() -> int:
    """Judge the modules that the command line names."""
    parser = argparse.ArgumentParser(
        description="Break the checker in small ways and see which tests notice."
    )
    parser.add_argument(
        "modules",
        nargs="*",
        type=asked,
        metavar="MODULE[:NUMBERS]",
        help=f"of {', '.join(TESTS)}; all of them by default",
    )
    modules = parser.parse_args().modules or [asked(name) for name in TESTS]
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    for loaded in LOADED:
        importlib.import_module(loaded)
    counts = [judge(*module) for module in modules]
    tried, lived = (sum(column) for column in zip(*counts, strict=True))
    print(f"{tried - lived} of {tried} changes killed, {lived} survived")
    return 0


if __name__ == "__main__":
    sys.exit(main())
