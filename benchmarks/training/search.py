"""What `sen-bench tune` searches, and what it tries next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.base.errors import UsageError, printable, suggest
from benchmarks.results.run_config import RunConfig, get_variant, is_fitted
from sen.config import Config, Range, Space

__all__ = ["propose", "search_space", "value_of"]

_SCALARS = (bool, int, float, str, type(None))


def search_space(config: RunConfig, given: Mapping[str, Any]) -> dict[str, Range | tuple[Any, ...]]:
    """Return what is searched, by dotted fields: that of every recipe, that of the model, and that of the block.

    Every range and every list has the value of the configuration, too.

    Args:
        config: A settled configuration.
        given: Dotted fields that the user has given, which are not searched.

    Raises:
        UsageError: A model or block has a space that is not sound, or nothing is left to search.
    """
    model, block = get_variant(config.variant)
    declared: dict[str, Range | tuple[Any, ...]] = {"graph.max_neighbors": (12, 16, 24)}
    if not is_fitted(config.variant):
        epochs, rate = config.training.epochs, config.training.learning_rate
        declared |= {
            "training.learning_rate": Range(rate / 5, rate * 5, log=True),
            "training.weight_decay": (0.0, 1e-5, 1e-3, 0.1, 1.0, 3.0),
            "training.epochs": Range(max(1, epochs // 2), 2 * epochs),
        }
    declared |= _declared(f"The model {config.model_name!r}", model.space, config.model_name, config.model)
    if block is not None and config.block is not None:
        declared |= _declared(f"The block {config.variant!r}", block.space, "block", config.block)
    space = {
        field: _including(values, value_of(config, field)) for field, values in declared.items() if field not in given
    }
    if not space:
        raise UsageError(f"Every field that is searched for {config.variant} is given: leave out some of them.")
    return space


def _declared(owner: str, space: Space, table: str, config: Config) -> dict[str, Range | tuple[Any, ...]]:
    """Return the space that a block or model declares, by dotted fields, after a check."""
    for field, values in space.items():
        if field not in type(config).model_fields:
            known = suggest(field, type(config).model_fields)
            raise UsageError(f"{owner} cannot be tuned: its space names {field!r}, which its Config lacks. {known}")
        value = getattr(config, field)
        if isinstance(values, Range):
            sound = isinstance(value, int | float) and values.low <= values.high
            sound = sound and (not values.log or min(values.low, value) > 0)
        else:
            sound = isinstance(values, tuple) and all(isinstance(each, _SCALARS) for each in (value, *values))
        if not sound:
            raise UsageError(
                f"{owner} cannot be tuned: its space has {printable(values)} for {field}, which is {printable(value)}; "
                "it takes a sen.config.Range for a number, or a tuple of numbers and texts."
            )
    return {f"{table}.{field}": values for field, values in space.items()}


def _including(values: Range | tuple[Any, ...], value: Any) -> Range | tuple[Any, ...]:
    """Return values with one more, if they lack it."""
    if isinstance(values, Range):
        ends = values.low, values.high, value
        exact = ends if all(isinstance(end, int) for end in ends) else tuple(map(float, ends))
        return replace(values, low=min(exact), high=max(exact))
    return values if value in values else (*values, value)


def value_of(config: RunConfig, field: str) -> Any:
    """Return the value of a dotted field of a configuration."""
    table, _, name = field.rpartition(".")
    return getattr(getattr(config, "model" if table == config.model_name else table), name)


def propose(
    space: Mapping[str, Range | tuple[Any, ...]],
    ended: Sequence[tuple[Mapping[str, Any], float]],
    under_way: Sequence[Mapping[str, Any]],
    seed: int,
) -> dict[str, Any]:
    """Return the next fields to try, by a tree-structured Parzen estimator (Bergstra et al., NIPS 2011).

    Args:
        space: What is searched.
        ended: Fields and loss of the trials that have ended; the loss of a failed one is infinite.
        under_way: Fields of the trials that run at the same time.
        seed: Determines what is random.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {field: _distribution(values) for field, values in space.items()}
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True))
    for fields, loss in ended:
        study.add_trial(create_trial(params=dict(fields), distributions=distributions, value=loss))
    for fields in under_way:
        study.add_trial(create_trial(params=dict(fields), distributions=distributions, state=TrialState.RUNNING))
    return dict(study.ask(distributions).params)


def _distribution(values: Range | tuple[Any, ...]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, tuple):
        return CategoricalDistribution(values)
    if isinstance(values.low, int) and isinstance(values.high, int):
        return IntDistribution(values.low, values.high, log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)
