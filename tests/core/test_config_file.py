"""Configurations: strict, typed the same from file and command line, errors with their place."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from l1kd.core import config_file
from l1kd.core.config import Config
from l1kd.core.errors import UserError
from l1kd.core.fpga_parts import share
from l1kd.data.calorimeter import CaloData

MANY_KEYS = "data: {source: mnist}\n" + "\n".join(f"key{n}: 1" for n in range(60_000))
MANY_ITEMS = "data: {source: mnist}\nstudents: [" + "s, " * 100_000 + "]"


def load(tmp_path: Path, text: str, *overrides: str) -> Config:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return config_file.load(path, overrides)


def test_only_data_is_required_and_the_rest_suits_the_source(tmp_path: Path) -> None:
    toy = load(tmp_path, "data: {source: l1toy}")
    assert toy.name == "mine"
    assert toy.teacher.square_root == 1
    assert toy.choose.by == "band"
    images = load(tmp_path, "data: {source: mnist}")
    assert [student.name for student in images.students] == [f"s{i}" for i in range(1, 8)]
    assert images.choose.by == "auc"


def test_what_a_file_says_is_laid_over_the_defaults_key_by_key(tmp_path: Path) -> None:
    config = load(tmp_path, "data: {source: l1toy}\nteacher: {latent: 3}")
    assert (config.teacher.latent, config.teacher.standardise) == (3, True)


def test_scientific_notation_without_a_point_is_a_number(tmp_path: Path) -> None:
    text = "data: {source: l1toy}\ndistillation: {learning_rate: 2e-3}"
    assert load(tmp_path, text).distillation.learning_rate == 2e-3
    config = load(tmp_path, text, "distillation.learning_rate=5e-4", "students.0.weight_bits=6")
    assert config.distillation.learning_rate == 5e-4
    assert config.students[0].weight_bits == 6


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-.5E+2", -50.0),
        (".inf", float("inf")),
        ("0o17", 15),
        ("0x1F", 31),
        ("017", 17),
        ("+3", 3),
        ("~", None),
        ("", None),
        ("True", True),
        ("yes", "yes"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("<<", "<<"),
        ("'7'", "7"),
    ],
)
def test_plain_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    (found, _) = config_file._plain(f"key: {text}")
    assert found == {"key": value}
    assert type(found["key"]) is type(value)


@pytest.mark.parametrize("name", ["1e3", "0o7", "0x1F", "1_0", "on", "2020-01-01", "7", "0777"])
def test_texts_like_numbers_are_texts_again_for_every_reader(tmp_path: Path, name: str) -> None:
    config = load(tmp_path, f"data: {{source: mnist}}\nname: '{name}'")
    config_file.save(config, tmp_path / "config.yaml")
    assert config_file.load_resolved(tmp_path / "config.yaml").name == name
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["name"] == name


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(UserError, match="not a regular file"):
        config_file.load_resolved(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {source: l1toy}\ndistilation: {}", ["mine.yaml:2", "'distillation'"]),
        ("data: {source: l1toy}\ndistillation:\n  epohcs: 1", ["mine.yaml:3", "'epochs'"]),
        ("data: {source: l1toi}", ["'l1toi'", "did you mean 'l1toy'"]),
        ("data: {source: l1toy, normal: 1}", ["data.normal", "unknown key"]),
        ("data: {source: mnist, normal: ten}", ["data.normal", "integer"]),
        ("data: {source: mnist}\nseed: true", ["seed", "number"]),
        ("data: {source: mnist}\nseed: [1]", ["seed", "a list"]),
        ("data: {source: mnist}\nname: ../up", ["name", "'../up'"]),
        ("data: {source: mnist}\nname: .hidden", ["name"]),
        ("data: {source: mnist}\nstudents: [s1, s1]", ["students", "'s1'", "unique"]),
        ("data: {source: mnist}\nstudents: [s9]", ["'s9'", "known are"]),
        ("data: {source: mnist}\nstudents: []", ["students"]),
        ("data: {source: mnist}\nstudents: [{name: a/b, architecture: s1}]", ["students.0.name"]),
        ("data: {source: mnist}\nteacher: {architecture: papr}", ["'papr'", "'paper'"]),
        ("data: {source: mnist}\ndistillation: {target: fittd}", ["'fitted'"]),
        ("data: {source: mnist}\ndistillation: {exposure: [noise, noise]}", ["twice"]),
        ("data: {source: mnist}\ndistillation: {score: {word: 8, integer: 8}}", ["score"]),
        ("data: {source: calo, background: x, split: [0.5, 0.5, 0.5]}", ["data.split", "add up"]),
        ("data: {source: calo, background: []}", ["data.background"]),
        ("data: {source: calo, background: x, signals: {a/b: y}}", ["data.signals"]),
        ("data: {source: mnist}\nseed: 1\nseed: 2", ["mine.yaml:3", "twice"]),
        ("data: !!python/object/apply:os.getcwd []", ["mine.yaml:1", "plain YAML"]),
        ("data: !mine {source: mnist}", ["mine.yaml:1", "plain YAML"]),
        ("data: &a {source: mnist}\nteacher: *a", ["aliases"]),
        ("data: {source: mnist", ["mine.yaml"]),
        ("- 1", ["a list"]),
        ("", ["nothing"]),
        ("seed: 3", ["data", "required"]),
        ("data: {normal: 3}", ["data", "source"]),
        ("[" * 5000, ["mine.yaml"]),
        ("data: {source: mnist}\nseed: 2020-13-45", ["mine.yaml:2", "integer", "2020-13-45"]),
        ("data: {source: mnist}\nseed: 1:30:00", ["mine.yaml:2", "integer", "'1:30:00'"]),
        (
            f"data: {{source: mnist}}\nseed: 1{':30' * 100_000}",
            ["mine.yaml:2", "integer", ":30..."],
        ),
        ("data: {source: mnist}\nseed: !!int 1:30:00", ["mine.yaml:2", "no int"]),
        ("data: {source: mnist}\nseed: !!timestamp 2020-01-01", ["mine.yaml:2", "plain YAML"]),
        (f"data: {{source: mnist}}\nseed: 0x{'f' * 300_000}", ["mine.yaml:2", "too long"]),
        (f"data: {{source: mnist}}\nseed: 1.{'0' * 300_000}", ["mine.yaml:2", "too long"]),
        (f"data: {{source: mnist}}\nseed: '{'9' * 300_000}'", ["mine.yaml:2", "'999"]),
        ("data: {source: mnist}\nteacher: {latent: 1e400}", ["mine.yaml:2", "teacher.latent"]),
        (MANY_KEYS, ["mine.yaml:9999", "more than 20000 values"]),
        (MANY_ITEMS, ["mine.yaml:2", "more than 20000 values"]),
        ("data: {source: mnist}\n" + "\n".join(f"k{n}: 1" for n in range(999)), ["(and 989 more)"]),
        ("data: {source: mnist}\nname: " + "x" * (1 << 20), ["more than the 1048576 that"]),
        ("data: {source: mnist}\nseed: !!int x", ["mine.yaml:2", "plain YAML"]),
        ("data: {source: mnist}\nseed: 0x_", ["mine.yaml:2", "integer", "'0x_'"]),
        (f"data: {{source: mnist}}\nseed: {'9' * 5000}", ["mine.yaml:2", "999..."]),
        ("data: {source: calo, background: ~nobody_of_this_name/x}", ["data.background", "home"]),
        ('data: {source: calo, background: "x\\0"}', ["data.background", "null byte"]),
        (f"data: {{source: calo, background: {'x' * 5000}}}", ["data.background", "too long"]),
        (f"data: {{source: mnist}}\nname: {'x' * 5000}", ["xxx..."]),
        ("data: {source: mnist}\nteacher: [1]", ["teacher", "mapping", "a list"]),
        (
            "data: {source: mnist}\nfirmware:\n  part: xcvu31p-flga2577-2-e",
            ["mine.yaml:3", "did you mean 'xcvu13p'", "xc7z020", "{name: xcvu31p-flga2577-2-e,"],
        ),
        ("data: {source: mnist}\nfirmware: {part: {name: x, lut: 1}}", ["ff", "required"]),
        ("data: {source: mnist}\nfirmware: {part: {name: x, lut: 1, ff: 1, f: 2}}", ["'ff'"]),
    ],
)
def test_mistakes_are_one_line_with_their_place(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    for word in ["mine.yaml", *words]:
        assert word in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("distillation.epohcs=3", ["--set", "'epochs'"]),
        ("distillation.epochs=three", ["--set", "integer"]),
        ("seed", ["KEY=VALUE"]),
        ("students.9.weight_bits=3", ["'9'", "list"]),
        ("seed.x=3", ["seed", "no keys"]),
        ("name=!!python/name:os.system ", ["plain YAML"]),
        ("seed=2020-13-45", ["--set", "integer", "2020-13-45"]),
        ("seed=1" + ":30" * 100_000, ["--set", "integer", ":30..."]),
        ("seed=" + "9" * 300_000, ["--set seed=999", "too long"]),
        ("students=[" + "s1," * 30_000 + "]", ["--set", "more than 20000 values"]),
        ("seed=*a", ["--set", "aliases"]),
        ("seed=" + "[" * 5000, ["--set", "plain YAML"]),
        ("data..source=mnist", ["KEY=VALUE"]),
        ("students.\u00b2=s1", ["no item"]),
    ],
)
def test_mistakes_in_overrides_name_the_option(
    tmp_path: Path, override: str, words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, "data: {source: mnist}\nseed: 1\nstudents: [s1]", override)
    for word in words:
        assert word in str(caught.value)


def test_relative_paths_are_meant_from_here_or_from_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "there" / "x.h5").touch()
    monkeypatch.chdir(tmp_path / "here")
    config = load(tmp_path / "there", "data: {source: calo, background: x.h5, test: y.h5}")
    assert isinstance(config.data, CaloData)
    assert config.data.background == [str(tmp_path / "there" / "x.h5")]
    assert config.data.test == [str(tmp_path / "here" / "y.h5")]


def test_a_resolved_configuration_reads_back_as_itself(tmp_path: Path) -> None:
    config = load(tmp_path, "data: {source: fashion_mnist, normal: 4}\nseed: 9")
    config_file.save(config, tmp_path / "config.yaml")
    assert config_file.load_resolved(tmp_path / "config.yaml") == config


def test_shipped_configurations_are_found_by_name_and_valid() -> None:
    names = config_file.shipped()
    assert {"l1toy", "mnist", "fashion_mnist", "cicada_v1", "cicada_v2"} <= set(names)
    for path in names.values():
        assert config_file.load(path).name == path.stem


def test_an_unknown_name_is_told_apart_from_a_missing_file() -> None:
    with pytest.raises(UserError, match="did you mean 'mnist'"):
        config_file.find("mnits")
    with pytest.raises(UserError, match="no configuration file at"):
        config_file.find("mnist.yaml")


def test_the_contract_s_own_example_is_read(tmp_path: Path) -> None:
    text = """
name: my_trigger
seed: 7
data:
  source: calo
  background: [zerobias.h5]
  test: [held_out.h5]
  signals: {ttbar: [ttbar.h5]}
  split: [0.5, 0.1, 0.4]
teacher: {architecture: cicada, latent: 8, standardise: true, residual_power: 2}
students:
  - {name: v2, architecture: cicada_v2, weight_bits: 8, activation_bits: 10,
     layers: {dense1: {weight_bits: 6}}}
distillation:
  mode: colearning
  epochs: 40
  exposure: [dataset, patch]
  target: fitted
  score: {word: 16, integer: 8}
firmware: {backend: Vitis, part: xcvu13p-flga2577-2-e, clock_ns: 5.0, io_type: io_parallel,
           strategy: latency, reuse: 1}
choose: {by: auc, max_lut: null, max_latency_ns: null, max_interval_ns: null}
verify: {events: null, corners: true, max_auc_loss: 0.05}
"""
    config = load(tmp_path, text)
    assert config.students[0].layers["dense1"].weight_bits == 6
    assert yaml.safe_load(text)["firmware"].items() <= config.firmware.model_dump().items()


def test_a_part_that_is_not_known_is_told_by_what_it_has(tmp_path: Path) -> None:
    part = "{name: xcku15p-ffve1517-2-e, lut: 522720, ff: 1045440, dsp: 1968, uram: 128}"
    config = load(tmp_path, f"data: {{source: mnist}}\nfirmware: {{part: {part}}}")
    assert config.firmware.part == "xcku15p-ffve1517-2-e"
    has = config.firmware.part_has
    assert has is not None
    found = share(config.firmware.part, has, lut=52_272, ff=None, dsp=0, bram=3, uram=64)
    assert found == {"lut": 0.1, "dsp": 0.0, "uram": 0.5}
    config_file.save(config, tmp_path / "config.yaml")
    assert config_file.load_resolved(tmp_path / "config.yaml") == config
    # a run of before may have any part
    text = (tmp_path / "config.yaml").read_text().replace("xcku15p", "xcnothing")
    (tmp_path / "config.yaml").write_text(text)
    assert config_file.load_resolved(tmp_path / "config.yaml").firmware.part.startswith("xcnothing")


def test_all_mistakes_are_said_at_once_each_with_its_place(tmp_path: Path) -> None:
    text = "data: {source: mnist}\nseed: x\nteacher:\n  latent: many\nrtl: {maxlut: 3}\n"
    with pytest.raises(UserError) as caught:
        load(tmp_path, text, "distillation.epochs=0")
    said = re.findall(r"(?:^|; )(?:\S*mine\.yaml)?(:\d|--set): (\S+):", str(caught.value))
    assert said == [
        (":2", "seed"),
        (":4", "teacher.latent"),
        ("--set", "distillation.epochs"),
        (":5", "rtl.maxlut"),
    ]


@pytest.mark.parametrize(
    "setting", ["starts: 2", "sparsity: 0.5", "logic_penalty: 1e-2", "learning_rate: 1e-3"]
)
def test_beside_a_student_from_a_file_nothing_is_dropped_in_silence(
    setting: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    other = f"{{architecture: set, hidden: [4], {setting}}}"
    path.write_text(f"data: {{source: l1toy}}\nstudents: [{{name: a, file: a.keras}}, {other}]\n")
    key = setting.partition(":")[0]
    with pytest.raises(UserError, match=rf"students\.1\.{key} is not for a run with students from"):
        config_file.load(path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", "a b", "'a b' is no name: letters, digits"),
        ("teacher.file", "mine.txt", "mine.txt' is no model file: its name ends in .keras"),
        ("firmware.part", "xc vu", "'xc vu' is no part: letters, digits, '_', '-'"),
    ],
)
def test_a_text_of_another_form_is_told_which_form(
    key: str, value: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        load(tmp_path, "data: {source: mnist}", f"{key}={value}")
