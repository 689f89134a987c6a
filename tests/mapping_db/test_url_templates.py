from __future__ import annotations

import pytest

from cell_service.errors import Invalid
from mapping_db.cells.url_templates import fill

OWN = "rabbit://bob:s3kret@myhost:123/nova?sync=true#extra"
TWO = "rabbit://ann:one@h1:5671,ben:two@[fd00::2]:5672/nova"


@pytest.mark.parametrize(
    ("template", "own", "filled"),
    [
        ("rabbit://{username}:{password}@otherhost/{path}", OWN, "rabbit://bob:s3kret@otherhost/nova"),
        ("{scheme}://{hostname}:{port}/{path}?{query}#{fragment}", OWN, "rabbit://myhost:123/nova?sync=true#extra"),
        ("rabbit://{username2}:{password1}@{hostname2}:{port2}/", TWO, "rabbit://ben:one@[fd00::2]:5672/"),
        ("rabbit://{username}@{hostname_1}/", TWO, "rabbit://ann@h1/"),
        ("mysql://u:p%7Bcell%7D@h/{path}", OWN, "mysql://u:p%7Bcell%7D@h/nova"),
        ("sqlite:////var/lib/cell1.db", "", "sqlite:////var/lib/cell1.db"),
        ("mysql://{username}@h/x", "mysql+pymysql://svc%40a:x@top/nova_cell0", "mysql://svc%40a@h/x"),
    ],
)
def test_variables_take_what_the_own_url_has(template: str, own: str, filled: str) -> None:
    assert fill(template, own) == filled


@pytest.mark.parametrize(("template", "own"), [("{port}", "rabbit://u:p@h/"), ("{username2}", OWN), ("{hostname}", "")])
def test_a_variable_that_the_own_url_lacks_is_named(template: str, own: str) -> None:
    with pytest.raises(Invalid, match=template.strip("{}")):
        fill(template, own)


@pytest.mark.parametrize("template", ["rabbit://{user}:{password}@h/", "mysql://u:p@{cell}/nova", "{Scheme}://h/x"])
def test_a_variable_that_there_is_not_is_named(template: str) -> None:
    with pytest.raises(Invalid, match="there is no such variable"):
        fill(template, OWN)
