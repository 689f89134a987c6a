"""The global side of a cloud, opened as a file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from cell_service.config import load
from cell_service.context import SYSTEM_CLOCK
from cell_service.errors import Invalid
from mapping_db.cells.guard import Guard
from mapping_db.global_database import GlobalDatabase
from tools.services.configured import configured_cloud


def guards(tmp_path: Path, cells: str) -> list[Guard]:
    file = tmp_path / "nova.conf"
    own = f"[DEFAULT]\ntransport_url = memory://a@b\n[api_database]\nconnection = sqlite:///{tmp_path / 'top.db'}\n"
    file.write_text(own + cells)
    opened = configured_cloud(load([str(file)]), SYSTEM_CLOCK)
    opened.close()
    assert isinstance(opened.cloud.db, GlobalDatabase)
    return [opened.superconductors.guard, opened.cloud.db.guard]


@pytest.mark.parametrize(("cells", "patience"), [("", 1.0), ("[cells]\nserver_patience = 2.5\n", 2.5)])
def test_the_patience_with_servers_is_an_option(tmp_path: Path, cells: str, patience: float) -> None:
    assert [guard._patience for guard in guards(tmp_path, cells)] == [patience, patience]


@pytest.mark.parametrize("text", ["0", "-1", "many"])
def test_a_patience_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Invalid):
        guards(tmp_path, f"[cells]\nserver_patience = {text}\n")
