"""The release gate: what does an update lose, and is that within what may be lost?

from results.gate import Layout, Policy, compare
report = compare("old.csv", "new.csv", policy=Policy(max_nfr=0.01))
"""

from __future__ import annotations

from results.gate.api import compare
from results.gate.checks import Check
from results.gate.groups import GroupRow
from results.gate.layout import Layout
from results.gate.policy import Policy
from results.gate.report import GateReport

__all__ = ["Check", "GateReport", "GroupRow", "Layout", "Policy", "compare"]
