"""The published samples acted out: each request is answered as published, in the shape of the sample of its answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.edge import reference
from tests.surface.gallery import Gallery
from tests.surface.sample_report import OTHERWISE, REMOVED, wrong
from tests.surface.samples import Exchange, differences, exchanges, index

pytestmark = pytest.mark.wide


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    reference.demand()
    made = Gallery(tmp_path_factory.mktemp("gallery"))
    yield made
    made.close()


@pytest.mark.parametrize("exchange", exchanges(), ids=lambda exchange: exchange.name)
def test_a_sample_is_reproduced(gallery: Gallery, exchange: Exchange) -> None:
    if exchange.name in OTHERWISE:
        assert wrong(gallery, exchange), "it is as published: it needs no excuse"
    else:
        assert not wrong(gallery, exchange)


def test_every_sample_is_acted_out_or_belongs_to_no_request_that_is_served() -> None:
    reference.demand()
    seen = {name for exchange in exchanges() for name in exchange.samples}
    left = {name for name in index() if name not in seen}
    assert all(name.startswith(REMOVED) for name in left), sorted(left)


@pytest.mark.parametrize(
    ("sample", "answer"),
    [
        ({"a": 1}, {}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": "1"}),
        ({"a": True}, {"a": 1}),
        ({"a": [{"b": 1}]}, {"a": []}),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1}, {"c": 1}]}),
        ({"a": {}}, {"a": []}),
        ({"metadata": {"x": "y"}}, {"metadata": {"z": 1}}),
    ],
)
def test_another_shape_is_seen(sample: object, answer: object) -> None:
    assert differences(sample, answer)


@pytest.mark.parametrize(
    ("sample", "answer"),
    [
        ({"a": None}, {"a": "x"}),
        ({"a": 1}, {"a": 2.5}),
        ({"a": [{"b": 1}, {"c": 1}]}, {"a": [{"c": 3}]}),
        ({"a": 1}, {"a": 1, "a_links": []}),
        ({"metadata": {"x": "y"}}, {"metadata": {"z": "w"}}),
        ({"a": [{"b": [1]}]}, {"a": [{"b": []}, {"b": [2]}]}),
    ],
)
def test_the_same_shape_is_no_difference(sample: object, answer: object) -> None:
    assert differences(sample, answer) == []
