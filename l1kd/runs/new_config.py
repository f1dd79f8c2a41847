"""`l1kd init`: a commented configuration of a source, its files checked."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l1kd.core import config_file
from l1kd.core.config import Config
from l1kd.core.config_types import NAME_PATTERN
from l1kd.core.errors import UserError, did_you_mean
from l1kd.core.files import atomic, content_hash, read_bytes
from l1kd.data.sources import SOURCES, open_dataset
from l1kd.runs.config_reference import commented, schema

_HEAD = "# Written by `l1kd init` ({}); it is replaced only while nobody has edited it.\n"
_SCHEMA = "l1kd.schema.json"
_PLACEHOLDER = "background.h5"


def init(
    directory: Path, source: str, background: Sequence[str] = (), signals: Sequence[str] = ()
) -> tuple[Path, list[str]]:
    """Write `l1kd.yaml` and its schema; its path, and what was found in the files.

    `signals` are `NAME=FILE`. UserError, the file written, if events are not as they should be.
    """
    if source not in SOURCES:
        near = did_you_mean(source, SOURCES)
        raise UserError(f"unknown source {source!r}{near}; known are {', '.join(SOURCES)}")
    data: dict[str, Any] = {"source": source}
    by_role = "background" in SOURCES[source].section.model_fields
    if by_role:
        # relative to where this runs; a `path:key` stays one
        data["background"] = [str(Path(file).absolute()) for file in background] or [_PLACEHOLDER]
        data["signals"] = dict[str, list[str]]()
        for each in signals:
            name, _, file = each.partition("=")
            if not file or not re.fullmatch(NAME_PATTERN, name) or len(name) > 64:
                rule = "a name has letters, digits, '_', '.', '-'"
                raise UserError(f"--signal {each}: write NAME=FILE, as ttbar=ttbar.h5; {rule}")
            data["signals"].setdefault(name, []).append(str(Path(file).absolute()))
    elif background or signals:
        others = [n for n, each in SOURCES.items() if "background" in each.section.model_fields]
        raise UserError(
            f"the source {source!r} has events of its own; files are for {', '.join(others)}"
        )
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", directory.resolve().name).lstrip("_.-") or "mine"
    given = {"name": name[:64], "data": data, **SOURCES[source].defaults}
    config = Config.model_validate(given)
    path = directory / "l1kd.yaml"
    if path.exists() and not _unedited(read_bytes(path).decode(errors="replace")):
        raise UserError(f"{path} exists and has been edited; name another directory, or move it")
    directory.mkdir(parents=True, exist_ok=True)
    text = f"# yaml-language-server: $schema={_SCHEMA}\n\n{commented(config)}"
    with atomic(path) as temporary:
        temporary.write_text(_HEAD.format(content_hash(text)[:16]) + text, encoding="utf-8")
    with atomic(directory / _SCHEMA) as temporary:
        temporary.write_text(json.dumps(schema(), indent=1), encoding="utf-8")
    if by_role and not background:
        return path, [f"name your files in {path}; {_PLACEHOLDER} is a placeholder"]
    try:
        dataset = open_dataset(config_file.load(path).data, config.seed)
    except UserError as error:
        if not by_role:  # the configuration is right; its events are still to be fetched
            return path, [str(error)]
        raise UserError(f"{path} is written, but needs an edit: {error}") from error
    samples = {"train": dataset.train, "validate": dataset.val, "test": dataset.test}
    counts = [f"{len(sample):,} {name}" for name, sample in samples.items()]
    found = [f"events of shape {dataset.shape}, {dataset.grid.word} bits: {', '.join(counts)}"]
    for name, signal in dataset.signals.items():
        found.append(f"signal {name}: {len(signal.val) + len(signal.test):,}")
    return path, found


def _unedited(text: str) -> bool:
    """Text that `init` wrote, as it wrote it."""
    head, _, rest = text.partition("\n")
    return f"{head}\n" == _HEAD.format(content_hash(rest)[:16])
