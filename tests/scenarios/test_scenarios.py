"""Conversations with the Compute API, a file each (in gabbi's format), held with a cloud in this process."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import pytest
from gabbi import suitemaker
from gabbi.handlers import RESPONSE_HANDLERS
from gabbi.utils import load_yaml

from tests.federation.cloud import Federation

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.yaml"))


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("scenarios"), move_seconds=0, live_seconds=0)
    yield made
    made.close()


def nothing(cloud: Federation, project: str) -> Mapping[str, str]:
    return {}


def a_cell_is_down(cloud: Federation, project: str) -> Mapping[str, str]:
    """The project has a server in each of two cells; then the second cell does not answer."""
    user = cloud.user("admin", project)
    near, far = (cloud.boot(user, cell=cell, name=cell) for cell in ("cell1", "cell2"))
    cloud.silence("cell2")
    return {"NEAR": near, "FAR": far}


PREPARATIONS: dict[str, Callable[[Federation, str], Mapping[str, str]]] = {"down_cell": a_cell_is_down}
"""By the file's name: what has happened before, and what the file calls it (as $ENVIRON)."""


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_scenario(cloud: Federation, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = uuid4().hex
    known = {"PROJECT": project, "IMAGE": cloud.image_id, "NO_SUCH_ID": str(uuid4())}
    known |= PREPARATIONS.get(file.stem, nothing)(cloud, project)
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    handlers = [handler() for handler in RESPONSE_HANDLERS]
    suite = suitemaker.test_suite_from_dict(
        unittest.defaultTestLoader, file.stem, load_yaml(yaml_file=str(file)), str(HERE), "127.0.0.1", cloud.api.port,
        None, None, prefix="/v2.1", handlers=handlers, test_loader_name="scenario",
    )  # fmt: skip
    result = unittest.TestResult()
    result.failfast = True
    try:
        suite.run(result)
    finally:
        cloud.wake("cell2")
    wrong = [f"{request}: {trace}" for request, trace in (*result.failures, *result.errors)]
    assert not wrong, "\n".join(wrong)
    assert result.testsRun == suite.countTestCases() > 0
    assert not result.skipped
