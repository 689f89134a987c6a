"""Run a public suite: python -m tests.public.run SUITE [--work DIR] [-- more words for pytest]

Downloads the suite's source distribution in the version of the installed client, installs what it needs into an
environment of its own over this one's, brings a cloud of simulated hosts up, runs the tests, and compares their
failures with `known/SUITE.txt`: lines of a test and, after two spaces, why it fails. 0 all is as known; 1 a test failed
that is not known, or a known one passed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import openstack
import requests
import yaml

from tests.public.suites import SUITES, TOOLS, Suite
from tests.real.databases import free_ports
from tools.up.plan import RESERVED_PORTS
from tools.up.tiny_image import tiny_qcow2

ROOT = Path(__file__).parents[2]
KNOWN = Path(__file__).parent / "known"
STAND_INS = Path(__file__).parent / "stand_ins"
BIN = Path(sys.executable).parent
IMAGE = "cirros-0-disk"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--work", type=Path, default=ROOT / ".polycell" / "public", metavar="DIR")
    words = sys.argv[1:]
    own, more = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    args = parser.parse_args(own)
    suite, work = SUITES[args.suite], args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    python = _environment(work)
    if suite.runner:
        return _compared(suite, _outcomes(suite, python, work), partial=False)
    source = _source(suite, work)
    state = work / f"state-{suite.name}"
    polycell = [sys.executable, "-m", "tools.up.main"]
    options = ["--port-base", str(free_ports(RESERVED_PORTS)), "--driver", "simulated", "--detach"]
    subprocess.run([*polycell, "up", "--state", str(state), *options], cwd=ROOT, env=_with_root(), check=True)
    try:
        results = _run(suite, python, source, _prepared(suite, state), more)
    finally:
        subprocess.run([*polycell, "down", "--state", str(state)], cwd=ROOT, env=_with_root(), check=False)
    return _compared(suite, results, partial=bool(more))


def _environment(work: Path) -> Path:
    """The Python of an environment that has the suites' tools over all that this one has."""
    made = work / "venv"
    python = made / "bin" / "python"
    done = made / ".installed"
    if not done.exists():
        venv.create(made, with_pip=True)
        own = next((made / "lib").glob("python*/site-packages"))
        here = next((Path(sys.prefix) / "lib").glob("python*/site-packages"))
        (own / "polycell.pth").write_text(f"{here}\n", encoding="utf-8")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *TOOLS], check=True)
        done.touch()
    return python


def _source(suite: Suite, work: Path) -> Path:
    """The directory with the suite's source distribution."""
    name = f"{suite.distribution}=={version(suite.distribution)}"
    unpacked = work / name
    if not unpacked.exists():
        words = ["download", "--quiet", "--no-deps", "--no-binary", suite.distribution, "--dest", str(work), name]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
        pattern = f"{suite.distribution.replace('-', '[-_]')}-{version(suite.distribution)}.tar.gz"
        (archive,) = work.glob(pattern)
        draft = work / f"{name}.part"
        draft.mkdir(exist_ok=True)
        subprocess.run(["tar", "-xzf", str(archive), "--strip-components=1", "-C", str(draft)], check=True)
        draft.rename(unpacked)
    return unpacked


def _with_root() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _prepared(suite: Suite, state: Path) -> Path:
    """A directory with a clouds.yaml of the names that the suites use, for the users of the cloud, which has what the
    suite counts on."""
    document = json.loads((state / "polycell.json").read_text(encoding="utf-8"))
    admin, demo = document["credentials"]["admin"], document["credentials"]["user"]
    alternative = _alternative(admin)
    _stock(suite, admin)
    system = {**admin, "system_scope": "all"}
    del system["project_name"]
    clouds = {
        name: {"auth": _by_ids(known), "region_name": "RegionOne", "identity_api_version": "3"}
        for name, known in (("devstack-admin", admin), ("functional_admin", admin), ("devstack", demo),
                            ("devstack-alt", alternative), ("devstack-system-admin", system))
    }  # fmt: skip
    directory = state / "public"
    directory.mkdir(exist_ok=True)
    (directory / "clouds.yaml").write_text(yaml.safe_dump({"clouds": clouds}), encoding="utf-8")
    return directory


def _stock(suite: Suite, admin: Mapping[str, str]) -> None:
    """A public image by whose name openstackclient's tests find one, with the content of the tiny one; the external
    network of the suite; and no flavors that it does not know."""
    with openstack.connect(**admin) as cloud:
        if cloud.image.find_image(IMAGE) is None:
            known = {"disk_format": "qcow2", "container_format": "bare", "visibility": "public"}
            cloud.image.create_image(IMAGE, data=tiny_qcow2(), **known)
        name = suite.external_network
        if name and cloud.network.find_network(name) is None:
            network = cloud.network.create_network(name=name, is_router_external=True)
            cloud.network.create_subnet(name=name, network_id=network.id, ip_version=4, cidr="203.0.113.0/24")
        for flavor in cloud.compute.flavors():
            if flavor.name in suite.without_flavors:
                cloud.compute.delete_flavor(flavor)


def _by_ids(known: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in known.items() if not name.endswith("_domain_name")}
    return kept | {"user_domain_id": "default"} | ({"project_domain_id": "default"} if "project_name" in kept else {})


def _alternative(admin: Mapping[str, str]) -> dict[str, str]:
    """A second user, who is a member of a project of their own."""
    url = admin["auth_url"].removesuffix("/v3") + "/v3"
    user = {"name": admin["username"], "password": admin["password"], "domain": {"id": "default"}}
    scope = {"project": {"name": admin["project_name"], "domain": {"id": "default"}}}
    identity = {"methods": ["password"], "password": {"user": user}}
    body = {"auth": {"identity": identity, "scope": scope}}
    token = requests.post(f"{url}/auth/tokens", json=body, timeout=30).headers["X-Subject-Token"]

    def ask(method: str, path: str, body: object = None) -> Any:
        answer = requests.request(method, f"{url}{path}", json=body, headers={"X-Auth-Token": token}, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    known = {"username": "alt", "password": "alt-password", "project_name": "alt", "auth_url": admin["auth_url"]}
    if ask("GET", "/users?name=alt")["users"]:
        return known
    project = ask("POST", "/projects", {"project": {"name": "alt"}})["project"]["id"]
    user = ask("POST", "/users", {"user": {"name": "alt", "password": known["password"]}})["user"]["id"]
    role = ask("GET", "/roles?name=member")["roles"][0]["id"]
    ask("PUT", f"/projects/{project}/users/{user}/roles/{role}")
    return known


def _outcomes(suite: Suite, python: Path, work: Path) -> dict[str, str]:
    """Test → passed, skipped, failed, as the suite's own runner says."""
    subprocess.run([python, "-m", "pip", "install", "--quiet", *suite.installs], check=True)
    report = work / f"{suite.name}.json"
    subprocess.run([python, "-m", suite.runner, str(report)], cwd=ROOT, env=_with_root(), check=True)
    found: dict[str, str] = json.loads(report.read_text(encoding="utf-8"))
    return found


def _run(suite: Suite, python: Path, source: Path, directory: Path, more: list[str]) -> dict[str, str]:
    """Test → passed, skipped, failed."""
    report = directory / "report.xml"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    environment |= {name: value.format(bin=BIN) for name, value in suite.environment.items()}
    environment |= {
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": os.pathsep.join((str(STAND_INS), str(ROOT))),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    tests = [str(source / path) for path in suite.tests] + [f"--ignore={source / path}" for path in suite.left_out]
    options = ["-q", "-p", "no:cacheprovider", "-p", "pytest_timeout", "--timeout=1800", f"--rootdir={source}",
               "--tb=short", f"--junitxml={report}", "-c", os.devnull]  # fmt: skip
    subprocess.run([python, "-m", "pytest", *options, *tests, *more], cwd=directory, env=environment, check=False)
    found = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found[f"{case.get('classname')}.{case.get('name')}"] = outcome
    return found


def known_failures(suite: str) -> dict[str, str]:
    """Test → why it fails."""
    file = KNOWN / f"{suite}.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    pairs = (line.split(None, 1) for line in lines if line and not line.startswith("#"))
    return dict(pairs)


def _compared(suite: Suite, results: Mapping[str, str], *, partial: bool) -> int:
    known, counts = known_failures(suite.name), Counter(results.values())
    failed = {test for test, outcome in results.items() if outcome == "failed"}
    new = sorted(failed - known.keys())
    gone = sorted(test for test in known if results.get(test, "passed" if not partial else "") == "passed")
    counted = f"{counts['passed']} passed, {counts['skipped']} skipped, {len(failed)} failed"
    lines = [f"{suite.name}: {counted} ({len(failed & known.keys())} of them known)"]
    lines += [f"not run: {path}: {why}" for path, why in suite.left_out.items()]
    lines += [f"FAILED, and not known: {test}" for test in new]
    lines += [f"known as failing, and passed: {test}" for test in gone]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if new or gone or not results else 0


if __name__ == "__main__":
    sys.exit(main())
