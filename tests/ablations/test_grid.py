from __future__ import annotations

from pathlib import Path

import pytest

from ablations.grid import (
    Setting,
    build_settings,
    check_interfaces,
    check_limits,
    check_validated,
    parse_axes,
    parse_configs,
    parse_variants,
)
from benchmarks.base.errors import UsageError
from sen.registry import block_names, model_names
from tests.benchmarks.conftest import BLOCK, Install
from tests.reports.made_runs import official


def build(variants: list[str], *assignments: str) -> list[Setting]:
    fixed, axes = parse_axes(assignments)
    return build_settings(
        "prototypes", variants, axes, recipe="own", defaults={}, files={}, flags={}, assignments=fixed
    )


def settings(blocks: list[str], *assignments: str) -> list[str]:
    return [str(setting) for setting in build(blocks, *assignments)]


def test_blocks_and_then_models_in_the_order_given_or_all() -> None:
    assert parse_variants(" mlp, capsule,", None) == ["mlp", "capsule"]
    assert parse_variants("all", None) == parse_variants(None, None) == block_names()
    others = [name for name in model_names() if name != "sen"]
    assert parse_variants(None, "all") == others
    assert parse_variants("mlp", "all") == ["mlp", *others]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no block"),
        (" , ", "names no block"),
        ("mlp,capsule,mlp", "names mlp 2 times"),
        ("all,mlp", "all stands by itself"),
        ("mlp,capsul", "no block called 'capsul'. Did you mean capsule or capsule_released?"),
    ],
)
def test_bad_lists_of_blocks_are_reported(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        parse_variants(text, None)


def test_sen_is_no_variant_among_models() -> None:
    with pytest.raises(UsageError, match="SEN is compared by its blocks: name them with --blocks"):
        parse_variants(None, "sen")
    with pytest.raises(UsageError, match="no model called 'mlp'"):
        parse_variants(None, "mlp")


def test_values_separated_by_commas_are_an_axis() -> None:
    assert parse_axes(["sen.rounds=1,3, 5", "training.epochs=4"]) == (
        ["training.epochs=4"],
        {"sen.rounds": ["1", "3", "5"]},
    )
    assert parse_axes(['block.name="a,b"', "block.sizes=[1,2]", 'block.map={"a":1,"b":2}'])[1] == {}
    assert parse_axes(["block.sizes=[[1,2],[3]]"])[1] == {}
    assert parse_axes(["block.sizes=[1,2],[3]"])[1] == {"block.sizes": ["[1,2]", "[3]"]}


@pytest.mark.parametrize("assignments", [["sen.rounds=1,1"], ["sen.rounds=1,,2"], ["sen.rounds=1", "sen.rounds=2"]])
def test_bad_axes_are_reported(assignments: list[str]) -> None:
    with pytest.raises(UsageError, match=r"sen\.rounds"):
        parse_axes(assignments)


def test_grid_is_every_block_with_every_combination() -> None:
    assert settings(["mlp", "capsule"], "sen.rounds=1,2", "sen.dropout=0,0.5", "training.epochs=2") == [
        f"{block}, sen.rounds={rounds}, sen.dropout={dropout}"
        for block in ("mlp", "capsule")
        for rounds in (1, 2)
        for dropout in ("0", "0.5")
    ]
    assert settings(["mlp"]) == ["mlp"]


def test_limits_are_an_axis_of_which_all_is_the_end(tmp_path: Path) -> None:
    grid = build(["mlp"], "limit=30,40,all")
    assert [setting.config.limit for setting in grid] == [30, 40, None]
    assert [str(setting) for setting in grid] == ["mlp, limit=30", "mlp, limit=40", "mlp, limit=all"]
    assert build(["mlp"], "limit=all")[0].config == build(["mlp"])[0].config
    dataset = official(tmp_path)  # 52 and 48 rows to train on
    check_limits(grid, dataset, [0, 1])
    with pytest.raises(UsageError, match=r"^limit=48 and limit=all leave the same 48 rows of fold 1 to train on"):
        check_limits(build(["mlp"], "limit=30,48,all"), dataset, [0, 1])
    for text in ("limit=1,30", "limit=few,30", "limit=2.5,30"):
        with pytest.raises(UsageError, match=r"^limit: the least is 2 rows, .* and all is no limit \(given: "):
            build(["mlp"], text)


def test_field_of_one_block_alone_names_the_block_that_lacks_it() -> None:
    assert len(settings(["mlp"], "block.hidden=32,64")) == 2
    with pytest.raises(UsageError, match=r"capsule: There is no configuration field 'block\.hidden'"):
        settings(["mlp", "capsule"], "block.hidden=32,64")


def test_values_written_differently_are_one_configuration() -> None:
    with pytest.raises(UsageError, match=r"mlp, sen\.dropout=0 and mlp, sen\.dropout=0\.0 are the same configuration"):
        settings(["mlp"], "sen.dropout=0,0.0")


def test_what_trains_on_all_rows_cannot_be_judged_by_validation_rows() -> None:
    check_validated(build(["mlp", "megnet"], "training.validation=0.1"))
    with pytest.raises(UsageError, match=r"^mlp trains on all rows, .* set training\.validation=0\.1"):
        check_validated(build(["mlp", "megnet"]))
    with pytest.raises(UsageError, match=r"^trees is fitted to all training rows at once and has no validation error"):
        check_validated(build(["trees"], "training.validation=0.1"))


def test_broken_interface_is_reported_with_its_contract(install: Install) -> None:
    install("tensor", f"{BLOCK}\n    def forward(self, env, graph): return super().forward(env, graph).material\n")
    install("raises", f'{BLOCK}\n    def forward(self, env, graph): raise ValueError("singular")\n')
    check_interfaces(["mlp"])
    with pytest.raises(UsageError, match=r"'tensor' breaks .* has the declared shapes' \(forward returns Tensor"):
        check_interfaces(["mlp", "tensor"])
    with pytest.raises(UsageError, match=r"'raises' breaks the contract 'interface: .*ValueError: singular"):
        check_interfaces(["raises"])


def test_a_configuration_file_is_for_all_variants_or_for_one(tmp_path: Path) -> None:
    names = ["mlp", "capsule"]
    assert parse_configs([], names) == {}
    assert parse_configs(["paper"], names) == {"mlp": Path("paper"), "capsule": Path("paper")}
    assert parse_configs(["mlp=a=b.toml", "paper"], names) == {"mlp": Path("a=b.toml"), "capsule": Path("paper")}
    (with_sign := tmp_path / "a=b.toml").touch()
    assert parse_configs([str(with_sign)], ["mlp"]) == {"mlp": with_sign}


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        (["egnn=a.toml"], r"^--config egnn=a\.toml: egnn is not compared\. .*Available: mlp\.$"),
        (["mlp="], r"^--config mlp= names no file: give FILE, or X=FILE for the variant X\.$"),
        (["=a.toml"], r"^--config =a\.toml names no variant: give X=FILE for the variant X, or FILE for all\.$"),
        (["mlp=a.toml", "mlp=b.toml"], "^--config gives mlp two files: leave out one of them"),
        (["a.toml", "paper"], "^--config gives all variants 2 files: name one, or X=FILE for the variant X"),
    ],
)
def test_configuration_files_that_do_not_fit_are_reported(configs: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_configs(configs, ["mlp"])
