"""The configuration of a run: typed fields, set by a TOML file or by `--set field=value`."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo

from benchmarks.base.errors import UsageError, suggest
from benchmarks.base.files import read_file
from benchmarks.data.graph_table import GraphSettings
from benchmarks.results.recorded import completed, config_digest, recorded_variant
from sen.config import Config
from sen.registry import block_names, class_code, guard, load_block, load_model, model_names

if TYPE_CHECKING:
    from sen.blocks import SymmetryBlock
    from sen.models import CrystalModel

__all__ = [
    "Pretrained",
    "Recipe",
    "RunConfig",
    "TrainingConfig",
    "Tuned",
    "Without",
    "all_fields",
    "build_config",
    "build_graph_settings",
    "check_variant",
    "get_variant",
    "given_fields",
    "is_fitted",
    "restore_config",
]

Recipe = Literal["own", "common"]
T = TypeVar("T")

_PROVIDED = Path(__file__).parent / "configs"

# Fields in which what the user names is treated in another way than the same value from a recipe: a split may name
# another share than a publication, and a classification minimises no loss of regressions.
_FROM_USER = {"validation", "loss"}


class TrainingConfig(Config):
    """The training recipe.

    The defaults are those of a model that has no recipe of its own. Models have that of their publication, and SEN,
    whose paper does not state one, that of docs/recipe.md.
    """

    epochs: int = Field(60, ge=1, description="Passes over the training rows.")
    batch_size: int = Field(32, ge=1, description="Crystals in a batch.")
    edge_budget: int = Field(
        65536,
        ge=1,
        description="A batch is closed before its nodes have more neighbours than this in all, or what the model "
        "counts in their place (alignn: pairs of neighbours).",
    )
    loss: Literal["mae", "mse"] = Field(
        "mae", description="What a regression minimises; a classification minimises the binary cross-entropy."
    )
    optimizer: Literal["adamw", "adam"] = Field(
        "adamw", description="adamw decouples weight decay from the gradient, adam adds it to the gradient."
    )
    learning_rate: float = Field(7e-4, gt=0, description="Peak learning rate.")
    schedule: Literal["cosine", "linear", "one-cycle"] = Field(
        "cosine",
        description="How the learning rate falls. one-cycle rises and falls along cosines, and momentum against it.",
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    hold: float = Field(0.0, ge=0, lt=1, description="Share of the steps at the peak, before the learning rate falls.")
    final_learning_rate: float = Field(0.0, ge=0, description="Learning rate at the end.")
    weight_decay: float = Field(
        3.0, ge=0, description="Weight decay, on matrices only; less for SEN above 1,000 training rows."
    )
    clip_norm: float | None = Field(
        1.0, gt=0, description="The gradient is scaled down to this norm when it is larger; None: it never is."
    )
    ema_decay: float = Field(
        0.99, ge=0, lt=1, description="Decay per step of the averaged weights that predict; 0: they are the last ones."
    )
    validation: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share of the training rows of a fold that are held out as validation rows, to choose the epoch; "
        "0: none, all rows train and the last epoch predicts; None: 0.1, or the share that a holdout split names.",
    )
    calibration: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of the validation rows that calibrate intervals and do not choose the epoch; 0: none, and "
        "predictions have no interval; 1: all, and the last epoch predicts.",
    )
    patience: int = Field(30, ge=1, description="Epochs without a better validation error after which to stop.")
    frozen_epochs: int = Field(
        0,
        ge=0,
        description="First epochs in which the weights that were taken from another run (--init-from) do not change, "
        "except those of the head.",
    )
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32", description="tf32 multiplies matrices with 10 bits on a GPU; bfloat16 trains under autocast."
    )

    @property
    def chooses_epoch(self) -> bool:
        """Whether validation rows choose the epoch; otherwise the last one predicts."""
        return self.validation != 0 and self.calibration != 1

    @model_validator(mode="after")
    def _rises_and_holds(self) -> TrainingConfig:
        if self.warmup + self.hold >= 1:
            raise ValueError(f"warmup ({self.warmup:g}) and hold ({self.hold:g}) leave no step in which it falls")
        return self

    @model_validator(mode="before")
    @classmethod
    def _calibrates_by_validation_rows(cls, fields: Any) -> Any:
        """Let no row calibrate where there are no validation rows: a recipe without them needs not say so."""
        return {"calibration": 0.0, **fields} if fields.get("validation") == 0 else fields

    @model_validator(mode="after")
    def _has_rows_to_calibrate(self) -> TrainingConfig:
        if self.validation == 0 and self.calibration:
            raise ValueError(
                f"of the validation rows calibration={self.calibration:g} is to calibrate, and validation=0 leaves "
                "none: give training.validation=0.1 as well"
            )
        return self


class Tuned(Config):
    """By which rows `sen-bench tune` chose a recipe: the table `tuned` of a recipe file."""

    variant: str = Field(description="Block or model that the recipe is for.")
    recipe: Recipe = Field(description="Whose values the fields have that the file does not name (--recipe).")
    task: str = Field(description="Task whose rows chose it.")
    data: str = Field(description="Hash of the crystals of the task, their targets and their split.")
    folds: tuple[int, ...] = Field(min_length=1, description="Folds of which no test row was used.")
    trials: int = Field(ge=1, description="Number of recipes that were tried.")
    without: str | None = Field(
        None, description="Hash of the crystals of the task whose formulas neither trained nor judged (--without)."
    )

    @model_serializer(mode="wrap")
    def _record(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what older recipe files, and so the names of their runs, do not have."""
        content: dict[str, Any] = dump(self)
        return {name: value for name, value in content.items() if value is not None}


class Pretrained(Config):
    """The training from whose weights a run starts: the table `pretrained` of its configuration."""

    run: str = Field(description="Name of its run.")
    task: str = Field(description="Task of its run.")
    seed: int = Field(ge=0, description="Its seed.")
    fold: int = Field(ge=0, description="Its fold.")
    weights: str = Field(description="Hash of its weights.")
    allow_overlap: bool = Field(description="Whether it may have seen test rows in training (--allow-overlap).")


class Without(Config):
    """The task whose formulas no training row has (--without): the table `without` of a configuration."""

    task: str = Field(description="The task.")
    data: str = Field(description="Hash of its crystals.")


class RunConfig(Config):
    """Everything that determines a result, apart from the data, the fold and the seed.

    It is recorded as {"task", "model_name", "graph", "training", "limit"} and the hyper-parameters of the model under
    the name of the model; as {"task", "block_name", "graph", "sen", "block", "training", "limit"} if the model is SEN.
    A recipe that `sen-bench tune` chose adds "tuned", weights of another run to start from add "pretrained", a task
    whose formulas do not train adds "without", and a model or block that was given as a class adds the hash of its
    source as "code".
    """

    task: str
    model_name: str
    model: SerializeAsAny[Config]
    block_name: str | None
    block: SerializeAsAny[Config] | None
    graph: GraphSettings
    training: TrainingConfig
    limit: int | None = Field(None, ge=2, description="Training rows of each fold to use; test rows are never dropped.")
    tuned: Tuned | None = None
    pretrained: Pretrained | None = None
    code: str | None = None
    without: Without | None = None

    @property
    def variant(self) -> str:
        """What is compared: the name of the block of SEN, or of another model."""
        return self.block_name or self.model_name

    @model_serializer(mode="wrap")
    def _record(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        content[self.model_name] = content.pop("model")
        left_out = ["block_name", "block"] if self.block_name is None else ["model_name"]
        for field in (*left_out, *(name for name in (*_OPTIONAL_TABLES, "code") if content[name] is None)):
            del content[field]
        return content

    def settle(self, training_rows: int) -> RunConfig:
        """Return the configuration for this number of training rows of a fold, without its validation rows.

        Fields that depend on it have their default times the model's factor (`CrystalModel.shrink`), unless given.
        """
        settled: dict[str, Config] = {"model": self.model, "training": self.training}
        for name, factor in self.by_rows(training_rows).items():
            table, _, field = name.rpartition(".")
            section = "training" if table == "training" else "model"
            default = type(settled[section]).model_fields[field].default
            value = float(f"{default * factor:.2g}")
            settled[section] = settled[section].model_copy(update={field: value})
        return self.model_copy(update=settled)

    def by_rows(self, training_rows: int) -> dict[str, float]:
        """Return the factor on the default of each field that `settle` sets, by dotted fields."""
        tables = {"training": self.training, self.model_name: self.model}
        given = {f"{table}.{field}" for table, fields in tables.items() for field in fields.model_fields_set}
        factors = load_model(self.model_name).shrink(training_rows)
        return {name: factor for name, factor in factors.items() if name not in given}

    def digest(self, data_digest: str) -> str:
        """Return the hash in the name of the run, of the configuration and the data: 10 hexadecimal digits."""
        return config_digest(self.model_dump(mode="json"), data_digest)


# Tables that a configuration has only where there is something to say in them.
_OPTIONAL_TABLES: dict[str, type[BaseModel]] = {"tuned": Tuned, "pretrained": Pretrained, "without": Without}


def check_variant(name: str, *kinds: Literal["block", "model"]) -> None:
    """Check that a block or model of this name is installed.

    Args:
        name: The name.
        kinds: What it may be; by default either.

    Raises:
        UsageError: There is none, and the message has the nearest names; or a block and a model have the same name, or
            a model that of another part of the configuration.
    """
    installed = {"block": block_names(), "model": model_names()}
    kinds = kinds or ("block", "model")
    known = [known for kind in kinds for known in installed[kind]]
    if name not in known:
        raise UsageError(f"There is no {' or '.join(kinds)} called {name!r}. {suggest(name, known)}")
    if all(name in names for names in installed.values()):
        raise UsageError(f"A block and a model are both called {name!r}: one of the packages must rename its own.")
    if name in installed["model"] and name in RunConfig.model_fields:
        raise UsageError(f"A part of every configuration is called {name!r}, too: rename the model.")


def get_variant(name: str) -> tuple[type[CrystalModel], type[SymmetryBlock] | None]:
    """Return the model of this name and no block, or SEN and the block of this name.

    Raises:
        UsageError: See `check_variant`; or a plug-in cannot be imported, or has no Config.
    """
    check_variant(name)
    if name in block_names():
        return _load("model", "sen", load_model), _load("block", name, load_block)
    return _load("model", name, load_model), None


def is_fitted(name: str) -> bool:
    """Whether a variant is fitted at once, as trees are, and not trained by a recipe; false if it is not installed."""
    from sen.models import FittedModel

    try:
        return issubclass(get_variant(name)[0], FittedModel)
    except UsageError:
        return False


def _load(kind: str, name: str, load: Callable[[str], type[T]]) -> type[T]:
    def explain(error: Exception) -> UsageError:
        return UsageError(f"The {kind} {name!r} cannot be loaded ({type(error).__name__}: {error}).")

    with guard(f"The {kind} {name!r} cannot be loaded.", explain):
        loaded = load(name)
    declared = getattr(loaded, "Config", None)
    if not (isinstance(declared, type) and issubclass(declared, Config)):
        raise UsageError(f"The {kind} {name!r} cannot be used: its Config is not a subclass of sen.config.Config.")
    return loaded


def build_config(
    task: str,
    variant: str,
    *,
    recipe: Recipe = "own",
    file: Path | None = None,
    defaults: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    assignments: Iterable[str] = (),
) -> RunConfig:
    """Build a configuration from defaults, those of the model and the task, a TOML file, flags, and `--set`.

    Later sources win.

    Args:
        task: Name of the task.
        variant: Name of a block, for SEN, or of a model; `sen` is SEN with the capsule block.
        recipe: "own": that of the model's publication; "common": one and the same for every model.
        defaults: Value of each dotted field for which the task has a default. Those of other models are ignored, and so
            are those that the recipe names, except the epochs.
        file: TOML file with the tables graph, training, block and one of the name of the model, or the name of a file
            that comes with sen-bench. A recipe file of `sen-bench tune` has the table tuned as well.
        flags: Value of each dotted field that has a command-line option; None if it was not given.
        assignments: Strings like "training.epochs=50"; the value is read as JSON, else as text.

    Raises:
        UsageError: The file cannot be read or is a recipe of another variant, a field does not exist, or a value does
            not fit.
    """
    if variant == "sen":
        variant = "capsule"
    model, block = get_variant(variant)
    name = variant if block is None else "sen"
    sections: dict[str, type[BaseModel]] = {**_sections(name, model, block), "tuned": Tuned}
    values: dict[str, Any] = {}
    published = model.recipe if recipe == "own" else _read_toml(Path("common"))["training"]
    for table, content in (("graph", model.graph), ("training", published)):
        for field, value in content.items():
            _assign(values, f"{table}.{field}", value, sections, f"the defaults of the model {name}")
    for field, value in (defaults or {}).items():
        table, _, key = field.rpartition(".")
        # A task may ask for fewer epochs of any model; the rest of a published recipe is kept.
        if table in sections and (key == "epochs" or key not in values.get(table, {})):
            _assign(values, field, value, sections, f"the defaults of {task}")
    given = set()
    assigned = list(_all_assignments(file, flags or {}, assignments))
    _check_tuned(assigned, variant, recipe)
    for field, value, source in assigned:
        _assign(values, field, value, sections, source)
        if source != str(file) or Path(source).is_file():  # what comes with sen-bench is no statement of the user
            given.add(field)
    built = {
        table: _validate(table, fields, values.get(table, {}))
        for table, fields in sections.items()
        if fields is not Tuned or table in values
    }
    training = built["training"]
    fields_set = training.model_fields_set - {field for field in _FROM_USER if f"training.{field}" not in given}
    built["training"] = TrainingConfig.model_construct(_fields_set=fields_set, **dict(training))
    if model.cells == "full" if block is None else block.needs_vectors:
        built["graph"] = built["graph"].model_copy(update={"cells": "full"})
    return _assemble(task, name, variant if block else None, values.get("limit"), built, class_code(variant))


def _check_tuned(assigned: Iterable[tuple[str, Any, str]], variant: str, recipe: Recipe) -> None:
    """Refuse the recipe of another variant before its fields, which this one may lack, and one with other defaults.

    What a recipe file says about its choice decides about labels and ranks, and `--set` cannot change it.
    """
    told = [each for each in assigned if each[0].startswith("tuned.")]
    for field, value, source in told:
        if field == "tuned.variant" and value != variant:
            raise UsageError(f"{source} is a recipe that was tuned for {value}, not for {variant}.")
        if field == "tuned.recipe" and value != recipe and source != "--set":
            raise UsageError(f"{source} is a recipe that was tuned with --recipe {value}: give that option here, too.")
        if source == "--set" and (file := told[0][2]) != source:
            raise UsageError(f"{file} says how its recipe was chosen: leave out --set {field}, or that file.")


def given_fields(
    *, file: Path | None = None, flags: Mapping[str, Any] | None = None, assignments: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the dotted fields that the user has chosen a value for, in one of these ways of `build_config`.

    Raises:
        UsageError: The file cannot be read, or an assignment has no value.
    """
    return {field: value for field, value, _ in _all_assignments(file, flags or {}, assignments)}


def all_fields() -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield what every field is of (a block, a model or all of them), its dotted name, and its default and meaning.

    Raises:
        UsageError: A block or model cannot be loaded.
    """
    tables: list[tuple[str, str, type[BaseModel]]] = [
        ("every model", "graph", GraphSettings),
        ("every model", "training", TrainingConfig),
        *(("model", name, get_variant(name)[0].Config) for name in model_names()),
        *((f"block {name}", "block", _load("block", name, load_block).Config) for name in block_names()),
    ]
    yield "every model", "limit", RunConfig.model_fields["limit"]
    for owner, table, fields in tables:
        for name, field in fields.model_fields.items():
            yield owner if owner != "model" else f"model {table}", f"{table}.{name}", field


def restore_config(content: Mapping[str, Any]) -> RunConfig:
    """Return the configuration that a run recorded (`RunConfig.model_dump`).

    Raises:
        UsageError: Its block or model is not installed, or was given as a class that this process does not have; or it
            has the fields of another version.
    """
    try:
        variant = recorded_variant(content)
        if (code := content.get("code")) and code != class_code(variant):
            has = "defines in another way" if class_code(variant) else "does not define"
            raise UsageError(
                f"The run needs the class {variant}, which was given to `train` and which this process {has}: define "
                f"it as it was (code {code}), and repeat that call."
            )
        model, block = get_variant(variant)
        name = variant if block is None else "sen"
        sections = _sections(name, model, block)
        recorded = completed(content)
        sections |= {table: fields for table, fields in _OPTIONAL_TABLES.items() if table in recorded}
        built = {table: _validate(table, fields, recorded[table]) for table, fields in sections.items()}
        return _assemble(content["task"], name, variant if block else None, content["limit"], built, code)
    except KeyError as missing:
        raise UsageError(f"The configuration of the run has no {missing}: it was written by another version.") from None
    except (AttributeError, TypeError, ValueError):
        raise UsageError("The configuration of the run, its config.json, is altered or from another version.") from None


def _sections(name: str, model: type[CrystalModel], block: type[SymmetryBlock] | None) -> dict[str, type[BaseModel]]:
    """Return the tables of the configuration of a variant."""
    of_block = {} if block is None else {"block": block.Config}
    return {"graph": GraphSettings, name: model.Config, **of_block, "training": TrainingConfig}


def _assemble(
    task: str, name: str, block_name: str | None, limit: int | None, sections: Mapping[str, Any], code: str | None
) -> RunConfig:
    return RunConfig(
        task=task,
        model_name=name,
        model=sections[name],
        block_name=block_name,
        block=sections.get("block"),
        graph=sections["graph"],
        training=sections["training"],
        limit=limit,
        tuned=sections.get("tuned"),
        pretrained=sections.get("pretrained"),
        code=code,
        without=sections.get("without"),
    )


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
    section, _, name = field.rpartition(".")  # the name of a model may have dots
    if field == "limit" and "training" in sections:
        if value != "all" and (type(value) is not int or value < 2):
            raise UsageError(
                "limit: the least is 2 rows, one to train on and one to validate on, and all is no limit "
                f"(given: {value!r})."
            )
        values["limit"] = None if value == "all" else value
        return
    known = [f"{s}.{f}" for s, model in sections.items() for f in model.model_fields]
    if field not in known:
        fields = [name for name in known if not name.startswith("tuned.")]  # which only a recipe file says
        near = suggest(_in_own_table(field, sections), fields)
        raise UsageError(f"There is no configuration field {field!r} ({source}). {near}")
    values.setdefault(section, {})[name] = value


def _in_own_table(field: str, sections: Mapping[str, type[BaseModel]]) -> str:
    """Return a field of another model or block as if it were in the table of this one that has the nearest field.

    Otherwise the names of the tables would decide what is near. Any other field is returned as it is.
    """
    section, _, name = field.rpartition(".")
    own = [
        (s, f) for s, model in sections.items() if s not in ("graph", "training", "tuned") for f in model.model_fields
    ]
    if not own or section in sections or section not in {"block", *block_names(), *model_names()}:
        return field
    table, _ = max(own, key=lambda each: difflib.SequenceMatcher(None, name, each[1]).ratio())
    return f"{table}.{name}"
