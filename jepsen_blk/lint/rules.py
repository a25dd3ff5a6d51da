"""All rules, by name."""

from __future__ import annotations

from jepsen_blk.errors import UserError
from jepsen_blk.lint.disk_rules import DISK_RULES
from jepsen_blk.lint.drbd_rules import DRBD_RULES
from jepsen_blk.lint.findings import Rule
from jepsen_blk.lint.guard_rules import GUARD_RULES
from jepsen_blk.lint.spec_rules import SPEC_RULES
from jepsen_blk.mistakes import unknown_name

RULES = {rule.id: rule for rule in (*DISK_RULES, *GUARD_RULES, *SPEC_RULES, *DRBD_RULES)}


def rule_named(name: str) -> Rule:
    """Return a rule; raises UserError naming the choices."""
    if name not in RULES:
        raise UserError(unknown_name("rule", name, RULES))
    return RULES[name]
