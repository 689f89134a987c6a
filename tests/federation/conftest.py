"""A federation for all tests here: they share it, and what they make in it is their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mapping_db.locating.shared_cache import CacheSettings
from tests.federation.cloud import Federation
from tests.real.databases import mariadb_in
from tests.real.memcached import Memcached
from tests.real.rabbitmq import RabbitMq


@pytest.fixture
def cloud(shared_cloud: Federation) -> Iterator[Federation]:
    """The one that all tests share; its time passes during tests only."""
    with shared_cloud.running():
        yield shared_cloud


@pytest.fixture(
    scope="session", params=["embedded", pytest.param("real", marks=[pytest.mark.real, pytest.mark.timeout(400)])]
)
def shared_cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Embedded parts; and a MariaDB and a RabbitMQ for each cell, with memcached in front."""
    directory = tmp_path_factory.mktemp("cloud")
    if request.param == "embedded":
        made = Federation(directory)
        made.pause()
        yield made
        with made.running():
            made.close()
        return
    with real_parts(directory) as made:
        yield made


@pytest.fixture
def own_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """One that a test may break."""
    made = Federation(tmp_path_factory.mktemp("cloud"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def small_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Two cells with one host each, for the tests of a file."""
    made = Federation(tmp_path_factory.mktemp("cloud"), hosts=1)
    made.pause()
    yield made
    with made.running():
        made.close()


@pytest.fixture
def small(small_shared: Federation) -> Iterator[Federation]:
    """That cloud; its time passes during tests only, and afterwards its cells answer again."""
    with small_shared.running():
        yield small_shared
        for name in small_shared.names[1:]:
            small_shared.wake(name)


@contextmanager
def real_parts(directory: Path) -> Iterator[Federation]:
    """A federation on servers of its own: MariaDB for global and cell0, cell1, cell2; RabbitMQ for each but cell0."""
    with ExitStack() as stack:
        databases, queues = {}, {}
        for name in ("global", "cell1", "cell2"):
            server = mariadb_in(Path(stack.enter_context(TemporaryDirectory(prefix="db"))))
            server.start()
            stack.callback(server.stop)
            databases[name] = server.create_database()
            if name == "global":
                databases["cell0"] = server.create_database()
        for name in ("cell1", "cell2"):
            broker = RabbitMq(Path(stack.enter_context(TemporaryDirectory(prefix="mq"))))
            stack.callback(broker.stop)
            broker.start()
            broker.add_user()
            queues[name] = broker.new_vhost()
            if name == "cell1":
                queues["global"], queues["cell0"] = broker.new_vhost(), broker.new_vhost()
        memcached = Memcached()
        memcached.start()
        stack.callback(memcached.stop)
        cache = CacheSettings(enabled=True, backend="dogpile.cache.pymemcache", memcache_servers=(memcached.address,))
        made = Federation(directory, database=databases.__getitem__, queue=queues.__getitem__, cache=cache)
        stack.callback(made.close)
        yield made
