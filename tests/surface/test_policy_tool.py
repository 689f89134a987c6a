"""polycell-policy: a sample that is a policy file, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.policy import main


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
