"""polycell-policy: a sample that is a policy file, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.policy import main


def test_files_of_a_directory_are_checked_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text('"mine": "role:a"\n', encoding="utf-8")
    (tmp_path / "b.yaml").write_text('"os_compute_api:servers:show": "rule:mine"\n', encoding="utf-8")
    assert main(["check", str(tmp_path / "b.yaml")]) == 1
    assert main(["check", str(tmp_path)]) == 0
    assert main(["check", str(tmp_path / "none.yaml")]) == 1
    assert "is not there" in capsys.readouterr().out


def test_the_sample_is_a_file_that_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample"]) == 0
    file = tmp_path / "policy.yaml"
    text = capsys.readouterr().out
    file.write_text("\n".join(line.removeprefix("#") for line in text.splitlines() if line.startswith('#"')))
    assert main(["check", str(file)]) == 0
    assert main(["list"]) == 0


@pytest.mark.parametrize("text", ['"no:such": "@"', '"os_compute_api:servers:show": "role:a and and"', "- a", "{{{"])
def test_what_is_wrong_is_said(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    assert main(["check", str(file)]) == 1
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('"os_compute_api:servers:show": "rule:none"', ["os_compute_api:servers:show: refers to rule:none"]),
        ('"os_compute_api:servers:show": "not rule:none"', ["os_compute_api:servers:show: refers to rule:none"]),
        ('"mine": "role:a or (role:b and rule:none)"', ["mine: refers to rule:none"]),
        ('"admin_api": "rule:admin_api"', ["admin_api: refers to itself"]),
        (
            '"project_reader_api": "rule:mine"\n"mine": "role:x or not rule:project_reader_api"',
            ["project_reader_api: refers to itself", "mine: refers to itself"],
        ),
    ],
)
def test_references_to_none_and_circles_are_named(
    tmp_path: Path, text: str, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    assert main(["check", str(file)]) == 1
    said = capsys.readouterr().out
    assert all(name in said for name in names), said


def test_names_of_ones_own_and_deprecated_names_are_no_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(
        '"mine": "role:x"\n"os_compute_api:os-hosts": "rule:mine or rule:mine"\n"placement:usages": "rule:mine"'
    )
    assert main(["check", str(file)]) == 0
    assert (
        "os_compute_api:os-hosts: a deprecated name, which sets os_compute_api:os-hosts:list" in capsys.readouterr().out
    )
