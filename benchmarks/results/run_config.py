"""The configuration of a run: typed fields, set by a TOML file or by `--set field=value`."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, SerializeAsAny, ValidationError

from benchmarks.base.errors import UsageError, suggest
from benchmarks.base.files import read_file
from benchmarks.data.graph_table import GraphSettings
from sen.config import Config, SENConfig
from sen.registry import block_names, guard, load_block

__all__ = [
    "RunConfig",
    "TrainingConfig",
    "build_config",
    "build_graph_settings",
    "check_block_name",
    "get_block",
    "restore_config",
]

_PROVIDED = Path(__file__).parent / "configs"


class TrainingConfig(Config):
    """The training recipe; the paper does not state it, see docs/decisions.md."""

    epochs: int = Field(60, ge=1, description="Passes over the training rows.")
    batch_size: int = Field(32, ge=1, description="Crystals in a batch.")
    edge_budget: int = Field(
        65536, ge=1, description="A batch is closed before its nodes have more neighbours than this in all."
    )
    learning_rate: float = Field(7e-4, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(
        3.0, ge=0, description="Decoupled weight decay of AdamW, on matrices only; less above 1,000 training rows."
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises from 0.")
    clip_norm: float = Field(1.0, gt=0, description="The gradient is scaled down to this norm when it is larger.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Decay per step of the averaged weights that predict.")
    patience: int = Field(30, ge=1, description="Epochs without a better validation error after which to stop.")
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32", description="tf32 multiplies matrices with 10 bits on a GPU; bfloat16 trains under autocast."
    )


class RunConfig(Config):
    """Everything that determines a result, apart from the data, the fold and the seed."""

    task: str
    block_name: str
    graph: GraphSettings
    sen: SENConfig
    block: SerializeAsAny[Config]
    training: TrainingConfig
    limit: int | None = Field(None, ge=2, description="Training rows of each fold to use; test rows are never dropped.")

    def settle(self, training_rows: int) -> RunConfig:
        """Return the configuration for this number of training rows of a fold, without its validation rows.

        Unless they were given, weight decay and dropout fall with a power of the number of rows above 1,000: from 3.0
        and 0.3 to 1.0 and 0.1 at 7,355 rows, see docs/decisions.md.
        """
        share = min(1, (1000 / training_rows) ** 0.55)
        settled = {}
        for name, field in (("sen", "dropout"), ("training", "weight_decay")):
            section = getattr(self, name)
            if field not in section.model_fields_set:
                value = float(f"{type(section).model_fields[field].default * share:.2g}")
                settled[name] = section.model_copy(update={field: value})
        return self.model_copy(update=settled)

    def digest(self, data_digest: str) -> str:
        """Return the hash in the name of the run, of the configuration and the data: 10 hexadecimal digits."""
        identity = {"format": 1, "data": data_digest, "config": self.model_dump(mode="json")}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]


def check_block_name(name: str) -> None:
    """Check that a block of this name is installed.

    Raises:
        UsageError: There is none; the message has the nearest names.
    """
    if name not in block_names():
        raise UsageError(f"There is no block called {name!r}. {suggest(name, block_names())}")


def get_block(name: str) -> Any:
    """Return the block class called `name`.

    Raises:
        UsageError: There is no such block, and the message has the nearest names; or a plug-in cannot be imported, or
            has no Config.
    """
    check_block_name(name)

    def explain(error: Exception) -> UsageError:
        return UsageError(f"The block {name!r} cannot be loaded ({type(error).__name__}: {error}).")

    with guard(f"The block {name!r} cannot be loaded.", explain):
        block = load_block(name)
    declared = getattr(block, "Config", None)
    if not (isinstance(declared, type) and issubclass(declared, Config)):
        raise UsageError(f"The block {name!r} cannot be used: its Config is not a subclass of sen.config.Config.")
    return block


def build_config(
    task: str,
    block_name: str,
    *,
    file: Path | None = None,
    defaults: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    assignments: Iterable[str] = (),
) -> RunConfig:
    """Build a configuration from defaults, those of the task, a TOML file, flags, and `--set`; later sources win.

    Args:
        task: Name of the task.
        block_name: Name of the block.
        defaults: Value of each dotted field for which the task has a default.
        file: TOML file with the tables graph, sen, block and training, or the name of one that comes with sen-bench.
        flags: Value of each dotted field that has a command-line option; None if it was not given.
        assignments: Strings like "training.epochs=50"; the value is read as JSON, else as text.

    Raises:
        UsageError: The file cannot be read, a field does not exist or a value does not fit.
    """
    block = get_block(block_name)
    sections = _sections(block)
    values: dict[str, Any] = {}
    for field, value in (defaults or {}).items():
        _assign(values, field, value, sections, f"the defaults of {task}")
    for field, value, source in _all_assignments(file, flags or {}, assignments):
        _assign(values, field, value, sections, source)
    built = {name: _validate(name, model, values.get(name, {})) for name, model in sections.items()}
    if block.needs_vectors:
        built["graph"] = built["graph"].model_copy(update={"cells": "full"})
    return RunConfig(task=task, block_name=block_name, limit=values.get("limit"), **built)


def restore_config(content: Mapping[str, Any]) -> RunConfig:
    """Return the configuration that a run recorded (`RunConfig.model_dump`).

    Raises:
        UsageError: Its block is not installed, or it has the fields of another version.
    """
    try:
        sections = _sections(get_block(content["block_name"]))
        built = {name: _validate(name, model, content[name]) for name, model in sections.items()}
        return RunConfig(task=content["task"], block_name=content["block_name"], limit=content["limit"], **built)
    except KeyError as missing:
        raise UsageError(f"The configuration of the run has no {missing}: it was written by another version.") from None
    except (AttributeError, TypeError, ValueError):
        raise UsageError("The configuration of the run, its config.json, is altered or from another version.") from None


def _sections(block: Any) -> dict[str, type[BaseModel]]:
    return {"graph": GraphSettings, "sen": SENConfig, "block": block.Config, "training": TrainingConfig}


def build_graph_settings(*, file: Path | None = None, assignments: Iterable[str] = ()) -> GraphSettings:
    """Build only the graph table of a configuration, as `build_config` does.

    This loads no block and hence no torch. Other tables of the file are ignored.

    Raises:
        UsageError: See `build_config`; also if an assignment is to another table.
    """
    sections: dict[str, type[BaseModel]] = {"graph": GraphSettings}
    values: dict[str, Any] = {}
    for field, value, source in _all_assignments(file, {}, assignments):
        if source == "--set" or field.startswith("graph."):
            _assign(values, field, value, sections, source)
    settings: GraphSettings = _validate("graph", GraphSettings, values.get("graph", {}))
    return settings


def _all_assignments(
    file: Path | None, flags: Mapping[str, Any], assignments: Iterable[str]
) -> Iterator[tuple[str, Any, str]]:
    """Yield (field, value, source); later ones override earlier ones."""
    if file is not None:
        for section, content in _read_toml(file).items():
            if isinstance(content, dict):
                yield from ((f"{section}.{field}", value, str(file)) for field, value in content.items())
            else:
                yield section, content, str(file)
    yield from ((field, value, "the command line") for field, value in flags.items() if value is not None)
    for assignment in assignments:
        field, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set takes FIELD=VALUE, such as training.epochs=50, not {assignment!r}.")
        yield field.strip(), _value(text.strip()), "--set"


def _validate(section: str, model: type[BaseModel], values: Mapping[str, Any]) -> Any:
    try:
        # As JSON, because a strict field then accepts a list for a tuple, which neither TOML nor config.json has.
        return model.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join([section, *map(str, first["loc"])])
        raise UsageError(f"{name}: {first['msg']} (given: {first['input']!r}).") from None


def _read_toml(file: Path) -> dict[str, Any]:
    provided = {path.stem: path for path in sorted(_PROVIDED.glob("*.toml"))}
    try:
        return tomllib.loads(read_file(file if file.is_file() else provided.get(str(file), file)).decode())
    except OSError as error:
        raise UsageError(
            f"The configuration file {file} cannot be read: {error.strerror}. Those that come with sen-bench are "
            f"called {', '.join(provided)}."
        ) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The configuration file {file} is not valid TOML: {error}.") from None


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _assign(
    values: dict[str, Any], field: str, value: Any, sections: Mapping[str, type[BaseModel]], source: str
) -> None:
    section, _, name = field.partition(".")
    if field == "limit" and "training" in sections:
        if type(value) is not int or value < 2:
            raise UsageError(f"limit: the least is 2 rows, one to train on and one to validate on (given: {value!r}).")
        values["limit"] = value
        return
    known = [f"{s}.{f}" for s, model in sections.items() for f in model.model_fields]
    if field not in known:
        raise UsageError(f"There is no configuration field {field!r} ({source}). {suggest(field, known)}")
    values.setdefault(section, {})[name] = value
