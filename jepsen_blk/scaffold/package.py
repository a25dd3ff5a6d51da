"""Writes the package: a folder that pip can install and pytest can test as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from jepsen_blk import __version__
from jepsen_blk.errors import UserError
from jepsen_blk.scaffold import Kind
from jepsen_blk.scaffold.naming import Names


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the package: from which template, and what it is for."""

    path: str
    template: str
    about: str


_COMMON = (
    _File("pyproject.toml", "pyproject.toml.tmpl", "the entry point by which it is found"),
    _File("$module/py.typed", "", ""),
)
_FILES: Mapping[Kind, tuple[_File, ...]] = {
    Kind.NEMESIS: (
        _File("$module/__init__.py", "nemesis/fault.py.tmpl", "the fault's whole life, step by step"),
        _File("tests/test_$module.py", "nemesis/test_fault.py.tmpl", "plays it without QEMU"),
        _File("README.md", "nemesis/README.md.tmpl", "how to make it your own"),
        *_COMMON,
    ),
    Kind.WORKLOAD: (
        _File("$module/__init__.py", "workload/options.py.tmpl", "its options in a specification"),
        _File("$module/agent.py", "workload/agent.py.tmpl", "what draws the operations, in the guest"),
        _File("tests/test_$module.py", "workload/test_workload.py.tmpl", "looks at what is drawn"),
        _File("spec.toml", "workload/spec.toml.tmpl", "a test with it"),
        _File("README.md", "workload/README.md.tmpl", "how to make it your own"),
        *_COMMON,
    ),
}


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written, below the package's folder; `about` is empty where that says nothing."""

    path: str
    about: str


def write_package(names: Names, folder: Path) -> list[Written]:
    """Write a package into a folder that is empty or not there yet.

    Raises UserError if there is something in it, or if it cannot be written.
    """
    words = {
        "what": names.what,
        "name": names.name,
        "module": names.module,
        "class": names.class_,
        "package": names.package,
        "group": names.group,
        "version": __version__,
    }
    templates = files("jepsen_blk.scaffold") / "templates"
    texts = {
        Template(file.path).substitute(words): Template(
            (templates / file.template).read_text("utf-8") if file.template else ""
        ).substitute(words)
        for file in _FILES[names.kind]
    }
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            what = "there is something in it already" if folder.is_dir() else "it is no folder"
            raise UserError(f"{folder}: {what}; name another folder with --into")
        for path, text in texts.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written: {error.strerror}; name another folder with --into"
        ) from error
    return [Written(path, file.about) for path, file in zip(texts, _FILES[names.kind], strict=True)]
