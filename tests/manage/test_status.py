"""polycell-status upgrade check."""

from __future__ import annotations

from tests.manage.conftest import Site


def check(site: Site) -> tuple[int, dict[str, str]]:
    ran = site.status("upgrade", "check", "-f", "json")
    return ran.code, {row["check"]: row["result"] for row in ran.json}


def whole(site: Site) -> None:
    site.run("cell_v2", "map_cell0", "--database_connection", site.url("cell0"))
    site.add_cell("c1")
    site.run("db", "sync")
    site.add_host("c1", "h1")
    site.run("cell_v2", "discover_hosts")


def test_a_whole_cloud_is_0(site: Site) -> None:
    whole(site)
    assert check(site) == (
        0,
        dict.fromkeys(
            ("Global database", "Cell mappings", "Cell cell0", "Cell c1", "Host mappings", "Placement API"), "Success"
        ),
    )


def test_the_table_has_three_lines_a_check(site: Site) -> None:
    whole(site)
    lines = site.status("upgrade", "check").out.splitlines()
    assert "Upgrade Check Results" in lines[1]
    assert [line.split(":")[0].strip("| ") for line in lines[3:7]] == ["Check", "Result", "Details", lines[0]]
    assert len({len(line) for line in lines}) == 1


def test_a_host_that_is_not_mapped_is_a_warning(site: Site) -> None:
    whole(site)
    site.add_host("c1", "h2")
    code, results = check(site)
    assert (code, results["Host mappings"]) == (1, "Warning")


def test_hosts_without_any_mapping_are_a_failure(site: Site) -> None:
    site.add_cell("c1")
    site.add_host("c1", "h1")
    code, results = check(site)
    assert (code, results["Host mappings"], results["Cell mappings"]) == (2, "Failure", "Failure")


def test_a_global_database_that_is_not_synced_is_a_failure(site: Site) -> None:
    site.configure(api_database__connection=site.url("fresh"))
    code, results = check(site)
    assert (code, results["Global database"]) == (2, "Failure")


def test_a_cell_that_is_not_synced_is_a_failure(site: Site) -> None:
    whole(site)
    site.run("cell_v2", "create_cell", "--name", "c2", "--transport-url", "memory://c2",
             "--database_connection", site.url("c2"))  # fmt: skip
    code, results = check(site)
    assert (code, results["Cell c2"], results["Cell c1"]) == (2, "Failure", "Success")


def test_a_cell_that_does_not_answer_is_a_failure_unless_it_is_disabled(site: Site) -> None:
    whole(site)
    lost = site.add_cell("c2")
    words = ("cell_v2", "update_cell", "--cell_uuid", lost.uuid)
    site.run(*words, "--database_connection", "sqlite:////nowhere/x")
    code, results = check(site)
    assert (code, results["Cell c2"]) == (2, "Failure")
    site.run(*words, "--disable")
    code, results = check(site)
    assert (code, results["Cell c2"]) == (1, "Warning")


def test_a_placement_that_does_not_answer_is_a_failure(site: Site) -> None:
    whole(site)
    site.configure(placement__auth_type="none", placement__endpoint_override="http://127.0.0.1:1/placement")
    code, results = check(site)
    assert (code, results["Placement API"]) == (2, "Failure")


def test_without_configuration_it_is_255(site: Site) -> None:
    site.configure(api_database__connection="")
    assert site.status("upgrade", "check").code == 255
