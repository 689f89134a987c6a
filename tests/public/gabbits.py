"""The reference placement service's own tests of its HTTP API, against ours: python -m tests.public.gabbits REPORT

They are requests and answers in YAML, and fixtures that fill a database by placement's objects. Here those objects are
replaced by writes to our database, and placement's application by a relay to our server. Writes {test: outcome}.
"""

from __future__ import annotations

import http.client
import json
import logging
import sys
import tempfile
import unittest
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import gabbi.driver
import placement
import yaml
from oslo_utils import uuidutils
from oslo_utils.fixture import uuidsentinel
from placement import deploy
from placement.objects import project, resource_class, user
from placement.tests import fixtures as their_fixtures
from placement.tests.functional.db import test_base
from placement.tests.functional.fixtures import gabbits
from placement.tests.unit import policy_fixture
from sqlalchemy import Connection

from api_cell.config import ApiSection, ApiSettings, CorsSection, PolicySection
from api_cell.edge import edge
from api_cell.edge.auth import Identity
from api_cell.edge.server import ApiServer
from api_cell.placement.app import make_placement_app
from cell_service.db.sql.engine import Database
from cell_service.errors import Unauthenticated
from mapping_db import schema
from mapping_db.placement import aggregates, allocations, inventories, providers, resource_classes, traits
from mapping_db.placement.allocations import Claim
from mapping_db.placement.inventories import Inventory
from tests.suites.clouds import cloud_in_memory

T = TypeVar("T")
NOW = datetime.now(UTC)
TESTS = Path(placement.__file__).parent / "tests" / "functional" / "gabbits"


@dataclass
class Here:
    """What the fixture of the present file has made."""

    directory: Path
    db: Database
    policy_file: str | None = None
    server: ApiServer | None = None


_here: list[Here] = []


def run(work: Callable[[Connection], T]) -> T:
    return _here[-1].db.run(work)


class HeaderIdentity:
    """Who calls is in headers, as with placement's own middleware for tests."""

    challenge = 'Keystone uri=""'

    def authenticate(self, token: str, service_token: str | None) -> Identity:
        known = json.loads(token)
        user_id, _, project_id = known["token"].partition(":")
        roles = known["roles"].split(",") if known["roles"] else ["admin"] if user_id == "admin" else []
        of_project = "" if known["system"] else known["project"] or project_id or user_id
        return Identity(user_id, of_project, tuple(roles), user_id, system_scope=known["system"])


def credentials(headers: Mapping[str, str]) -> tuple[str, str | None]:
    token = headers.get("X-Auth-Token")
    if not token:
        raise Unauthenticated()
    names = {"roles": "X-Roles", "system": "Openstack-System-Scope", "project": "X-Project-Id"}
    return json.dumps({"token": token, **{key: headers.get(name) or "" for key, name in names.items()}}), None


class DatabaseFixture:
    def __init__(self, conf_fixture: Any, set_config: bool = False) -> None:
        conf_fixture.config(group="placement_database", connection="sqlite://")  # demanded, and never opened
        self._directory = tempfile.TemporaryDirectory()

    def setUp(self) -> None:
        directory = Path(self._directory.name)
        db = Database(f"sqlite:///{directory / 'global.sqlite'}")
        schema.metadata.create_all(db.engine)
        _here.append(Here(directory, db))

    def cleanUp(self) -> None:
        gone = _here.pop()
        if gone.server is not None:
            gone.server.drain(0)
        gone.db.dispose()
        self._directory.cleanup()


class PolicyFixture:
    def __init__(self, conf_fixture: Any) -> None:
        """Our defaults hold until rules are set."""

    def setUp(self) -> None:
        """Nothing is to be loaded."""

    cleanUp = setUp

    @staticmethod
    def set_rules(rules: Mapping[str, str], overwrite: bool = True) -> None:
        file = _here[-1].directory / "policy.yaml"
        own = {name: check for name, check in rules.items() if name.startswith("placement:")}
        file.write_text(yaml.safe_dump(own), encoding="utf-8")
        _here[-1].policy_file = str(file)


@dataclass
class Provider:
    uuid: str

    def set_aggregates(self, uuids: Iterable[str]) -> None:
        def work(tx: Connection) -> None:
            aggregates.put(tx, providers.get(tx, self.uuid), set(uuids), None, NOW)

        run(work)


@dataclass
class Named:
    """A user, a project, or a resource class, which we make at its first use."""

    context: object = None
    external_id: str = ""
    name: str = ""

    def create(self) -> None:
        if self.name:
            ensure_rc(self.context, self.name)


@dataclass
class Consumer:
    uuid: str
    user: Named
    project: Named
    has: dict[str, dict[str, int]] = field(default_factory=dict)


def create_provider(context: object, name: str, *uuids: str, **more: Any) -> Provider:
    made = Provider(more.get("uuid") or getattr(uuidsentinel, name))
    run(lambda tx: providers.add(tx, made.uuid, name, NOW, parent_uuid=more.get("parent")))
    if uuids:
        made.set_aggregates(uuids)
    return made


def ensure_rc(context: object, name: str) -> None:
    def work(tx: Connection) -> None:
        if resource_classes.unknown(tx, [name]):
            resource_classes.add(tx, name)

    run(work)


def add_inventory(provider: Provider, name: str, total: int, **more: Any) -> None:
    def work(tx: Connection) -> None:
        inventories.add(tx, providers.get(tx, provider.uuid), name, Inventory(total, **more), None, NOW)

    ensure_rc(None, name)
    more.setdefault("max_unit", total)
    run(work)


def set_traits(provider: Provider, *names: str) -> None:
    def work(tx: Connection) -> None:
        for name in names:
            traits.add(tx, name)
        traits.put(tx, providers.get(tx, provider.uuid), set(names), None, NOW)

    run(work)


def ensure_consumer(context: object, by: Named, of: Named, consumer_id: str | None = None) -> Consumer:
    return Consumer(consumer_id or uuidutils.generate_uuid(), by, of)


def set_allocation(context: object, provider: Provider, consumer: Consumer, amounts: Mapping[str, int]) -> None:
    consumer.has.setdefault(provider.uuid, {}).update(amounts)
    claim = Claim(consumer.uuid, consumer.has, consumer.project.external_id, consumer.user.external_id)
    run(lambda tx: allocations.write(tx, [claim], NOW))


def create_user_and_project(context: object, prefix: str = "fake") -> tuple[Named, Named]:
    return Named(external_id=f"{prefix}-user"), Named(external_id=f"{prefix}-project")


def loadapp(conf: Any) -> Callable[..., list[bytes]]:
    """Our server for the present fixture, and a WSGI application that relays requests to it."""
    here = _here[-1]
    allowed = tuple(conf.cors.allowed_origin or ()) if "cors" in conf else ()
    policy = PolicySection(here.policy_file, enforce_new_defaults=conf.oslo_policy.enforce_new_defaults)
    settings = ApiSettings(api=ApiSection(auth_strategy="noauth2"), policy=policy, cors=CorsSection(allowed))
    here.server = ApiServer(make_placement_app(cloud_in_memory(here.db), settings, HeaderIdentity()))
    here.server.start()
    port = here.server.port

    def relay(environ: Mapping[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        headers = {name[5:].replace("_", "-"): text for name, text in environ.items() if name.startswith("HTTP_")}
        headers |= {
            name.replace("_", "-"): environ[name] for name in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(name)
        }
        path = quote(environ["PATH_INFO"].encode()) + ("?" if environ.get("QUERY_STRING") else "")
        body = environ["wsgi.input"].read()
        if body:
            headers.setdefault("CONTENT-LENGTH", str(len(body)))
        server = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        server.putrequest(
            environ["REQUEST_METHOD"], path + environ.get("QUERY_STRING", ""), skip_host=True, skip_accept_encoding=True
        )
        for name, text in headers.items():
            server.putheader(name, text)
        server.endheaders(body or None)
        reply = server.getresponse()
        content = reply.read()
        start_response(f"{reply.status} {reply.reason}", reply.getheaders())
        server.close()
        return [content]

    return relay


def replace_theirs() -> None:
    edge.credentials = credentials
    deploy.loadapp = loadapp
    their_fixtures.Database = DatabaseFixture
    policy_fixture.PolicyFixture = PolicyFixture
    user.User = project.Project = resource_class.ResourceClass = Named
    for ours in (create_provider, ensure_rc, add_inventory, set_traits, ensure_consumer, set_allocation,
                 create_user_and_project):  # fmt: skip
        setattr(test_base, ours.__name__, ours)


def main(report: Path) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    replace_theirs()
    tests = gabbi.driver.build_tests(
        str(TESTS),
        unittest.TestLoader(),
        test_loader_name="gabbits",
        intercept=gabbits.setup_app,
        fixture_module=gabbits,
    )
    names = [_name(test) for group in tests for test in group]
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=0).run(tests)
    failed = {_name(test) for test, _ in (*result.failures, *result.errors)}
    skipped = {_name(test) for test, _ in result.skipped}
    outcomes = {name: "failed" if name in failed else "skipped" if name in skipped else "passed" for name in names}
    report.write_text(json.dumps(outcomes | dict.fromkeys(failed, "failed")), encoding="utf-8")


def _name(test: object) -> str:
    return f"placement.tests.functional.gabbits.{type(test).__name__}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
