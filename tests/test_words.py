"""Names say what the field says: a private word for a public thing is found here, wherever it comes in."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("api_cell", "cell_service", "compute_host", "mapping_db", "tools")
INSTEAD = {
    "hands": "host context",
    "means": "dependencies",
    "asked": "requested",
    "errand": "host task",
    "errands": "host tasks",
    "luggage": "migrate data",
    "told": "reported",
    "tell": "notify",
    "telling": "reporting",
    "wish": "request view",
    "wishes": "properties",
    "picture": "snapshot",
    "hurry": "trigger",
    "silent": "unreachable",
    "servant": "endpoint",
    "owe": "deferred clean-up",
    "owed": "deferred clean-up",
    "bury": "fail into cell0",
    "unburden": "detach from the dead host",
    "verdict": "decision",
    "verdicts": "decisions",
    "overtaken": "superseded",
    "parcel": "bundle",
    "parcels": "bundles",
    "anew": "again",
    "beside": "alongside",
    "whoever": "caller",
    "nobody": "none",
    "let_go": "release",
    "give_back": "restore",
    "take_back": "roll back",
}
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "revisions" not in path.parts)


def private_words(path: Path) -> list[str]:
    """The names of the file that have one of the words among their parts. Texts, which may be stored, are left out."""
    found = set()
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.NAME:
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", token.string).lower()
            if any(f"_{word}_" in f"_{name}_" for word in INSTEAD):
                found.add(token.string)
    return sorted(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_are_of_the_field(path: Path) -> None:
    assert private_words(path) == []


def test_a_private_word_is_found_in_any_name(tmp_path: Path) -> None:
    path = tmp_path / "some.py"
    path.write_text(
        "class AskedFor: ...\n\n\ndef let_go_of(silently: str) -> None:\n    told_at = 'luggage'\n", "utf-8"
    )
    assert private_words(path) == ["AskedFor", "let_go_of", "told_at"]
