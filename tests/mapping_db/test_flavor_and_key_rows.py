"""Flavors and key pairs as rows, on each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cell_service.db.sql.engine import Database
from cell_service.errors import FlavorAccessExists, FlavorExists, FlavorIdExists, FlavorNotFound, KeypairExists
from cell_service.model.instance import Flavor
from mapping_db import flavors, key_pairs
from mapping_db.flavors import FlavorQuery
from mapping_db.key_pairs import KeyPair
from mapping_db.schema import metadata

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SMALL = Flavor("s", "small", 1, 512, 1, description="klein ü", extra_specs={"a": "1"})


@pytest.fixture
def db(empty_url: str) -> Iterator[Database]:
    made = Database(empty_url)
    metadata.create_all(made.engine)
    yield made
    made.dispose()


def test_what_is_stored_comes_back(db: Database) -> None:
    with db.begin() as tx:
        flavors.insert_flavor(tx, SMALL, NOW)
        assert flavors.get(tx, "s") == SMALL
        assert flavors.put_extra_specs(tx, "s", {"b": "2"}, NOW) == {"a": "1", "b": "2"}
        flavors.remove_extra_spec(tx, "s", "a", NOW)
        assert flavors.get(tx, "s").extra_specs == {"b": "2"}
        with pytest.raises(FlavorNotFound):
            flavors.get(tx, "S")


def test_a_taken_name_or_id_leaves_the_transaction_usable(db: Database) -> None:
    with db.begin() as tx:
        flavors.insert_flavor(tx, SMALL, NOW)
        with pytest.raises(FlavorExists):
            flavors.insert_flavor(tx, replace(SMALL, flavorid="t"), NOW)
        with pytest.raises(FlavorIdExists):
            flavors.insert_flavor(tx, replace(SMALL, name="other"), NOW)
        flavors.insert_flavor(tx, replace(SMALL, flavorid="S", name="Small"), NOW)
        assert len(flavors.page(tx, FlavorQuery())) == 2


def test_access_and_removal(db: Database) -> None:
    with db.begin() as tx:
        flavors.insert_flavor(tx, replace(SMALL, is_public=False), NOW)
        flavors.add_project(tx, "s", "p")
        with pytest.raises(FlavorAccessExists):
            flavors.add_project(tx, "s", "p")
        assert flavors.projects_of(tx, "s") == ["p"]
        assert [f.flavorid for f in flavors.page(tx, FlavorQuery(seen_by="p", own_project="p"))] == ["s"]
        assert flavors.page(tx, FlavorQuery(seen_by="q", own_project="q")) == []
        flavors.remove(tx, "s")
        assert flavors.page(tx, FlavorQuery(is_public=None)) == []


def test_every_sort_key_orders(db: Database) -> None:
    with db.begin() as tx:
        for name in "bac":
            flavors.insert_flavor(tx, replace(SMALL, flavorid=name, name=name, description=None), NOW)
        for key in flavors.SORT_KEYS:
            found = [
                [f.flavorid for f in flavors.page(tx, FlavorQuery(sort_key=key, descending=way))]
                for way in (True, False)
            ]
            assert found[0] == found[1][::-1], key


def test_key_pairs(db: Database) -> None:
    pair = KeyPair("ann", "k", "ssh", "aa:bb", "ssh-rsa AAAA", NOW)
    with db.begin() as tx:
        key_pairs.insert_key_pair(tx, pair)
        with pytest.raises(KeypairExists):
            key_pairs.insert_key_pair(tx, pair)
        key_pairs.insert_key_pair(tx, replace(pair, name="K"))
        stored = key_pairs.get(tx, "ann", "k")
        assert replace(stored, id=None) == pair
        assert [one.name for one in key_pairs.page(tx, "ann", "K")] == ["k"]
        key_pairs.remove(tx, "ann", "k")
        assert key_pairs.count(tx, "ann") == 1
