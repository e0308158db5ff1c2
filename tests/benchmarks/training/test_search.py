from __future__ import annotations

import math

import pytest

from benchmarks.base.errors import UsageError
from benchmarks.results.run_config import build_config, is_fitted
from benchmarks.training.search import propose, search_space, value_of
from sen.config import Range
from sen.registry import block_names, model_names
from tests.benchmarks.conftest import BLOCK, Install


@pytest.mark.parametrize("variant", [*block_names(), *model_names()])
def test_every_variant_has_a_space_with_its_own_recipe_in_it(variant: str) -> None:
    config = build_config("prototypes", variant)
    space = search_space(config, {})
    assert ("training.learning_rate" in space) is not is_fitted(config.variant)
    assert len(space) >= 3
    for field, values in space.items():
        value = value_of(config, field)
        assert values.low <= value <= values.high if isinstance(values, Range) else value in values
        build_config("prototypes", variant, flags={field: value})  # the field exists


def test_what_is_given_is_not_searched() -> None:
    config = build_config("prototypes", "mlp")
    space = search_space(config, {"training.epochs": 5, "limit": 100})
    assert {"block.hidden", "sen.dropout", "graph.max_neighbors"} < space.keys()
    assert "training.epochs" not in space
    with pytest.raises(UsageError, match="Every field that is searched for mlp is given"):
        search_space(config, space | {"training.epochs": 5})


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ('{"hiden": (1, 2)}', r"names 'hiden', which its Config lacks\. Did you mean hidden\?"),
        ('{"hidden": ()}', None),
        ('{"hidden": [1, 2]}', r"has \[1, 2\] for hidden, which is 1024; it takes a sen\.config\.Range"),
        ('{"hidden": Range(2, 1)}', "for hidden"),
        ('{"hidden": Range(0, 2000, log=True)}', "for hidden"),
        ('{"hidden": ((1, 2), 3)}', "for hidden"),
    ],
)
def test_a_space_that_is_not_sound_is_refused(install: Install, space: str, message: str | None) -> None:
    install("searched", f"from sen.config import Range\n{BLOCK}\n    space = {space}\n")
    config = build_config("prototypes", "searched")
    if message is None:  # the value of the configuration is added
        assert search_space(config, {})["block.hidden"] == (1024,)
    else:
        with pytest.raises(UsageError, match=rf"^The block 'searched' cannot be tuned: its space .*{message}"):
            search_space(config, {})


def test_proposals_follow_from_the_seed_and_the_trials_and_come_closer() -> None:
    space = {"a": Range(1e-5, 1e-1, log=True), "b": (None, 12, 24), "c": Range(1, 100)}
    ended: list[tuple[dict[str, object], float]] = []
    for number in range(30):
        fields = propose(space, ended, [], number)
        assert propose(space, ended, [], number) == fields
        assert isinstance(fields["c"], int)
        distance = abs(math.log10(fields["a"]) + 3) + (fields["b"] != 24) + abs(fields["c"] - 50) / 50
        ended.append((fields, math.inf if fields["a"] > 1e-2 else distance))  # a failed trial is the worst
    first, last = ([loss for _, loss in part] for part in (ended[:10], ended[-10:]))
    assert sorted(last)[5] < sorted(first)[5] / 1.5
    assert propose(space, ended, [ended[0][0]], 3) != propose(space, [], [], 3)
