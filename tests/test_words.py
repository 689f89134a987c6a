"""Names and prose say what the field says: a private word for a public thing is found here, wherever it comes in."""

from __future__ import annotations

import ast
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
NEVER_IN_PROSE = (
    "asked",
    "told",
    "tell",
    "tells",
    "telling",
    "errand",
    "errands",
    "luggage",
    "wish",
    "wishes",
    "picture",
    "hurry",
    "silent",
    "servant",
    "owe",
    "owes",
    "owed",
    "bury",
    "buried",
    "unburden",
    "verdict",
    "verdicts",
    "overtaken",
    "parcel",
    "parcels",
    "flies",
    "anew",
    "beside",
    "standing",
    "whoever",
    "nobody",
    "let go",
    "give back",
    "gives back",
    "given back",
    "take back",
    "takes back",
    "taken back",
)
DOCS = sorted(
    path
    for path in (*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md")
    if path.name != "STATUS.md"
)
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "revisions" not in path.parts)


PART_OF_A_NAME = re.compile(rf"(?<![^\W_])({'|'.join(INSTEAD)})(?![^\W_])")
AS_A_NOUN = re.compile(r'"""\s*(What|Who|Whom|Whose|That which|Of what)\b')
IN_PROSE = re.compile(rf"\b({'|'.join(NEVER_IN_PROSE)})\b".replace(" ", r"\s+"), re.IGNORECASE)


def private_words(path: Path) -> list[str]:
    """The names of the file that have one of the words among their parts. Texts, which may be stored, are left out."""
    source = path.read_text(encoding="utf-8")
    if not has_private_part(source):
        return []
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return sorted({each.string for each in tokens if each.type == tokenize.NAME and has_private_part(each.string)})


def has_private_part(text: str) -> bool:
    return PART_OF_A_NAME.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).lower()) is not None


def private_prose(path: Path) -> list[str]:
    """`line: word` of each such word in a comment or a docstring. Other texts may be stored, and are left out."""
    source = path.read_text(encoding="utf-8")
    if IN_PROSE.search(source) is None:
        return []
    texts = [
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            texts.append((node.lineno, ast.get_source_segment(source, node.value) or ""))
    return [found for line, text in sorted(texts) for found in words_in(text, line)]


def riddles(path: Path) -> list[str]:
    """`line: words` of each docstring that begins with a pronoun in place of a noun or a verb."""
    source = path.read_text(encoding="utf-8")
    if AS_A_NOUN.search(source) is None:
        return []
    return [
        f"{node.lineno}: {' '.join(node.value.value.split()[:4])}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if AS_A_NOUN.match(f'"""{node.value.value}')
    ]


def private_words_of_page(path: Path) -> list[str]:
    """`line: word` of each such word in a page. What is in backquotes or in a block of code may be stored."""
    text = path.read_text(encoding="utf-8")
    return words_in(
        re.sub(r"(?ms)^```(?!mermaid).*?^```$|`[^`\n]*`", lambda match: "\n" * match.group().count("\n"), text)
    )


def words_in(text: str, first_line: int = 1) -> list[str]:
    return [
        f"{first_line + text.count(chr(10), 0, match.start())}: {match.group()}" for match in IN_PROSE.finditer(text)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_are_of_the_field(path: Path) -> None:
    assert private_words(path) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_is_of_the_field(path: Path) -> None:
    assert private_prose(path) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_begin_with_what_they_are_about(path: Path) -> None:
    assert riddles(path) == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_are_of_the_field(path: Path) -> None:
    assert private_words_of_page(path) == []


def test_a_private_word_is_found_in_any_name(tmp_path: Path) -> None:
    path = tmp_path / "some.py"
    path.write_text(
        "class AskedFor: ...\n\n\ndef let_go_of(silently: str) -> None:\n    told_at = 'luggage'\n", "utf-8"
    )
    assert private_words(path) == ["AskedFor", "let_go_of", "told_at"]


def test_a_private_word_is_found_in_comments_and_docstrings_only(tmp_path: Path) -> None:
    path = tmp_path / "some.py"
    path.write_text(
        '"""Nobody\nwas told."""\n\nSTORED = (\n    "luggage"\n    "parcels"\n)\n'
        "# The claim is taken\nLIMIT = 3  # or given  back\n",
        "utf-8",
    )
    assert private_prose(path) == ["1: Nobody", "2: told", "9: given  back"]


def test_a_private_word_is_found_in_pages_but_not_in_their_code(tmp_path: Path) -> None:
    path = tmp_path / "some.md"
    path.write_text("# Nobody\n\n`luggage` is stored, and\ntold.\n\n```\nluggage\n```\n\nTaken\nback\n", "utf-8")
    assert private_words_of_page(path) == ["1: Nobody", "4: told", "10: Taken\nback"]


def test_a_docstring_that_begins_with_a_pronoun_is_found(tmp_path: Path) -> None:
    path = tmp_path / "some.py"
    path.write_text('def f():\n    """What is done."""\n\n\nWHO = 1\n"""The one."""\nX = """What"""\n', "utf-8")
    assert riddles(path) == ["2: What is done."]
