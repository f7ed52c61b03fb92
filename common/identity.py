"""The identity of a run: the hash at the end of its id, and its label, both from its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

NOT_CONTENT = frozenset({"id", "label", "shown", "method_code", "trial", "tuned"})
"""Fields of a run's document that do not decide its weights."""
_canonical = json.JSONEncoder(sort_keys=True, check_circular=False).encode


def content_hash(document: Mapping[str, Any]) -> str:
    """12 hexadecimal digits of the SHA-256 of all that decides a run's weights."""
    content = {name: value for name, value in document.items() if name not in NOT_CONTENT}
    return hashlib.sha256(_canonical(content).encode()).hexdigest()[:12]


def run_label(document: Mapping[str, Any]) -> str:
    """The name in tables: `old`, `reference 0`, `mpt-kl`, or with what was changed `mpt-kl[k=2]`."""
    if document["role"] == "old":
        return "old"
    if document["role"] == "reference":
        return f"reference {document['index']}"
    if document["role"] == "holdout":
        return f"holdout {document['method']}"
    shown = ",".join(
        f"{name.rstrip('_')}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in document["shown"]
    )
    return f"{document['method']}[{shown}]" if shown else str(document["method"])


def possible_ids(document: Mapping[str, Any]) -> set[str]:
    """The ids that a run of this content may have: with its stem, or without where that is the default."""
    model, role = document["model"], document["role"]
    method = document["method"]
    others = {"old": "old", "reference": f"reference{document['index']}", "holdout": f"holdout-{method}"}
    name = others.get(role, method)
    embedding = f"-e{model['embedding']}" if model.get("embedding") else ""
    return {
        f"{document['dataset']}-{model['arch'].replace(':', '-')}{stem}{embedding}"
        f"-{name}-s{document['seed']}-{content_hash(document)}"
        for stem in ("", f"-{model['stem']}")
    }
