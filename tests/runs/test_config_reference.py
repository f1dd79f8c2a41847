"""The configuration described: every key, the schema, the page, what `list` and `describe` say."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from l1kd.core import config_file
from l1kd.core.config import Config
from l1kd.core.errors import UserError
from l1kd.data.sources import SOURCES
from l1kd.report.tables import QUALITIES
from l1kd.runs import config_reference
from l1kd.training.exposure import EXPOSURES
from l1kd.training.target_transform import TARGETS

Call = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]
KEYS = config_reference.keys()
SCHEMA = jsonschema.Draft202012Validator(config_reference.schema())


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.name} {key.sources}".strip())
def test_every_key_is_described_in_one_plain_sentence(key: config_reference.Key) -> None:
    assert re.match(r"[A-Z].{8,}\.$", key.about), key
    assert "\n" not in key.about
    assert key.values


def test_every_key_is_named_by_a_test_or_a_shipped_configuration() -> None:
    files = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    files += config_file.shipped().values()
    said = set(re.findall(r"\w+", "\n".join(path.read_text(encoding="utf-8") for path in files)))
    assert not {key.name for key in KEYS if key.name.rpartition(".")[2] not in said}


def test_the_page_is_current() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == config_reference.markdown() + "\n", "l1kd schema --format markdown > docs/..."
    assert all(f"`{key.name}`" in page for key in KEYS)


def test_values_with_a_meaning_are_those_that_exist() -> None:
    """Architectures: tests/networks."""
    known = {
        "distillation.exposure": {"dataset", *EXPOSURES},
        "distillation.target": set(TARGETS),
        "choose.by": {quality.name for quality in QUALITIES},
        "data.source": set(SOURCES),
    }
    meanings = {key: set(values) for key, values in config_reference._values().items()}
    assert meanings.keys() == known.keys() | {"teacher.architecture", "students.architecture"}
    assert known.items() <= meanings.items()


def test_a_value_that_has_no_meaning_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {source: l1toy}\nteacher: {architecture: ensemble, of: [ensemble, pca]}")
    with pytest.raises(UserError, match=r"mine.yaml:2: teacher\.of\.0"):
        config_file.load(path)
    path.write_text("data: {source: l1toy}\nteacher: {architecture: densee}")
    with pytest.raises(UserError, match=r"unknown 'densee' \(did you mean 'dense'\?\); known are"):
        config_file.load(path)
    path.write_text("data: {source: l1toy}\nteacher: {architecture: contrast, against: [dataset]}")
    with pytest.raises(UserError, match=r"against\.0: unknown 'dataset'; known are noise"):
        config_file.load(path)


@pytest.mark.parametrize("name", config_file.shipped())
def test_a_shipped_configuration_fits_the_schema(name: str) -> None:
    path = config_file.shipped()[name]
    given, _ = config_file._plain(path.read_text(encoding="utf-8"))
    SCHEMA.validate(given)
    resolved = config_file.load(path).model_dump(mode="json")
    SCHEMA.validate(json.loads(json.dumps(resolved)))


@pytest.mark.parametrize(
    "text",
    [
        "seed: 3",
        "data: {source: calo}",
        "data: {source: mnist, background: x.h5}",
        "data: {source: mnist, normal: 10}",
        "data: {source: mnist}\nseed: -1",
        "data: {source: mnist}\nstudents: [s9]",
        "data: {source: mnist}\nstudents: [{architecture: s1, weight_bits: 25}]",
        "data: {source: mnist}\nfirmware: {part: {name: xc, lut: 1}}",
        "data: {source: mnist}\nfirmware: {clock_ns: 0}",
        "data: {source: mnist}\nepochs: 3",
    ],
)
def test_the_schema_refuses_what_the_models_refuse(text: str, tmp_path: Path) -> None:
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(yaml.safe_load(text))
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError):
        config_file.load(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "data: {source: calo, background: x.h5, signals: {a: [b.h5]}}\nteacher: {latent: 3}",
        "data: {source: l1toy}\nstudents: [dense, {architecture: conv, kernel: 3, stride: [1, 2]}]",
        "data: {source: l1toy}\nfirmware: {part: {name: xcku15p-ffve1517-2-e, lut: 5, ff: 9}}",
    ],
)
def test_short_forms_fit_the_schema(text: str, tmp_path: Path) -> None:
    SCHEMA.validate(yaml.safe_load(text))
    (tmp_path / "mine.yaml").write_text(text)
    assert isinstance(config_file.load(tmp_path / "mine.yaml"), Config)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("conv", ["conv (student)", "biases"]),
        ("dense", ["dense (teacher)", "dense (student)"]),
        ("xcvu13p-flga2577-2-e", ["(part)", "1,728,000 LUT"]),
        ("calo", ["calo (source)"]),
        ("l1toy", ["l1toy (config)", "The demo", "l1toy (source)"]),
        ("distillation.exposure", ["list of: dataset | noise", "  patch: deposits"]),
        ("students.0.weight_bits", ["students.weight_bits: Bits", "from 1 to 24"]),
        ("students.layers.size", ["students.layers.NAME.size"]),
        ("clock_ns", ["firmware.clock_ns", "default 5.0", "in ns"]),
        ("normal", ["data.normal (source mnist, fashion_mnist)"]),
        ("warp", ["warp (distillation.exposure)"]),
    ],
)
def test_describe(name: str, words: list[str], l1kd: Call) -> None:
    said = l1kd("describe", name)
    assert said.returncode == 0
    for word in words:
        assert word in said.stdout


def test_what_has_no_meaning_is_refused_with_the_nearest(l1kd: Call) -> None:
    said = l1kd("describe", "distilation.epochs")
    assert said.returncode == 2
    assert "did you mean 'distillation.epochs'" in said.stderr


@pytest.mark.parametrize("kind", ["teachers", "students", "parts", "configs", "sources"])
def test_list_has_all_of_a_kind(kind: str, l1kd: Call) -> None:
    said = l1kd("list", kind, COLUMNS="60")
    assert said.returncode == 0
    for name, about in config_reference.names()[kind].items():
        assert len(about) > 10
        assert name in said.stdout


def test_schema_prints_json_and_the_page(l1kd: Call) -> None:
    assert json.loads(l1kd("schema").stdout) == config_reference.schema()
    page = l1kd("schema", "--format", "markdown").stdout
    assert page == config_reference.markdown() + "\n"
