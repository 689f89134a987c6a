"""The public suites: what is downloaded, which of its tests are run, and what they need to find a cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TOOLS = ("ddt", "fixtures", "oslotest", "pytest", "pytest-timeout", "testscenarios", "testtools", "tempest")
"""What the suites import beyond the clients and their requirements."""


@dataclass(frozen=True, slots=True)
class Suite:
    """`distribution` is the source distribution of the installed version. `tests`: paths in it. `environment`: more
    variables; {bin} is where the clients' programs are.
    `left_out`: files that are not run, and why. `without_flavors`: those of the cloud that the suite counts as none.
    `external_network`: the name of one that it takes addresses from, "" for none. With a `runner` the suite needs no
    cloud: that module runs the tests of what `installs` names, and writes their outcomes to the file it is given."""

    name: str
    distribution: str
    tests: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    without_flavors: tuple[str, ...] = ()
    external_network: str = ""
    runner: str = ""
    installs: tuple[str, ...] = ()


SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "placement",
            "openstack-placement",
            (),
            runner="tests.public.gabbits",
            installs=("openstack-placement==16.0.0", "gabbi==4.2.3", "wsgi-intercept"),
        ),
        Suite("osc-placement", "osc-placement", ("osc_placement/tests/functional",)),
        Suite(
            "novaclient",
            "python-novaclient",
            ("novaclient/tests/functional",),
            {
                "OS_NOVACLIENT_EXEC_DIR": "{bin}",
                "TOX_ENV_DIR": "{bin}/..",
                "OS_LOG_CAPTURE": "0",
                "OS_TEST_TIMEOUT": "120",
            },
            {
                "novaclient/tests/functional/v2/test_trigger_crash_dump.py": (
                    "it waits for messages of a guest's kernel, and simulated hosts run none"
                )
            },
        ),
        Suite(
            "openstacksdk",
            "openstacksdk",
            (
                "openstack/tests/functional/compute",
                "openstack/tests/functional/placement",
                "openstack/tests/functional/cloud/test_compute.py",
                "openstack/tests/functional/cloud/test_inventory.py",
            ),
            {"OPENSTACKSDK_FUNC_TEST_TIMEOUT": "120", "OPENSTACKSDK_IMAGE": "tiny", "OS_TEST_TIMEOUT": "300"},
            without_flavors=("m1.nano", "m1.micro"),
            external_network="public",
        ),
        Suite(
            "openstackclient",
            "python-openstackclient",
            ("openstackclient/tests/functional/compute/v2", "openstackclient/tests/functional/common"),
            external_network="public",
        ),
    )
}
