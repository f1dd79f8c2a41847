"""Events of a run: named without the machine they are on, found again by their content."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py

import l1kd
from l1kd.core import files
from l1kd.core.config import DataSection
from l1kd.core.errors import UserError
from l1kd.data.dataset import Dataset
from l1kd.data.mnist import cache
from l1kd.data.sources import open_dataset
from l1kd.data.user_arrays import path_and_key

_PACKAGE = Path(l1kd.__file__).parent
_CONTENTS = (b"PK", b"\x1f\x8b", b"\0\0\x08", b"PAR1")  # NPZ, gzip, IDX, Parquet; beside HDF5
_REMEMBERED = 8  # places of a file


@functools.lru_cache(maxsize=256)
def _hash(file: str, size: int, changed_ns: int) -> str:
    """Every stage asks for it, and the runs of a sweep share it."""
    with files.regular(Path(file)) as handle:  # a manifest may name anything
        if not handle.read(8).startswith(_CONTENTS) and not h5py.is_hdf5(file):
            return "no events"
    return files.file_hash(Path(file))


def event_hash(path: Path) -> str:
    """SHA-256 of a file of events as it is now; of others `no events`."""
    status = path.stat()
    return _hash(str(path), status.st_size, status.st_mtime_ns)


def _texts(value: Any) -> Iterator[str]:
    """All texts of a configuration's section, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The same with other names in place of paths, also of `path:key`."""
    if isinstance(value, str):
        path, colon, key = value.rpartition(":")
        return names.get(value) or (f"{names[path]}{colon}{key}" if path in names else value)
    if isinstance(value, dict):
        return {key: _renamed(each, names) for key, each in value.items()}
    return [_renamed(each, names) for each in value] if isinstance(value, (list, tuple)) else value


def section(data: DataSection, names: Mapping[str, str]) -> DataSection:
    """A section `data` with other names of its files."""
    return type(data).model_validate(_renamed(data.model_dump(mode="json"), names))


def paths(data: DataSection) -> list[str]:
    """Files and directories that a section names by absolute paths."""
    found = (each for each in _texts(data.model_dump(mode="json")) if Path(each).is_absolute())
    return list(dict.fromkeys(str(path_and_key(each)[0]) for each in found))


def names(data: DataSection, read: Sequence[str], run: Path | None = None) -> dict[str, str]:
    """Names in a run of a section's files and of those that were read of it, by path.

    Relative to the run below its project, which is the directory that holds it, or `runs/`;
    elsewhere, and wherever the run does not matter, the least of the path that is distinct.
    """
    project = None
    if run is not None:
        run = run.absolute()
        project = run.parent.parent if run.parent.name == "runs" else run.parent
    found: dict[str, str] = {}
    given = paths(data)
    below = {file: next((p for p in given if file.startswith(f"{p}/")), None) for file in read}
    alone = [*given, *(file for file, above in below.items() if above is None)]
    for path in dict.fromkeys(alone):
        plain = Path(os.path.normpath(path))
        if plain.is_relative_to(_PACKAGE):
            found[path] = plain.relative_to(_PACKAGE.parent).as_posix()
        elif project and plain.is_relative_to(project) and project.parent != project:
            found[path] = os.path.relpath(plain, run)
    outside = {path: Path(path).parts for path in alone if path not in found}
    for path, parts in outside.items():
        endings = ("/".join(parts[-length:]) for length in range(1, len(parts)))
        distinct = (
            each
            for each in endings
            if sum(f"/{other}".endswith(f"/{each}") for other in outside) == 1
            and each not in found.values()
        )
        found[path] = next(distinct, path)
    of_directories = {file: p for file, p in below.items() if p is not None}
    return found | {file: found[p] + file[len(p) :] for file, p in of_directories.items()}


def opened(data: DataSection, seed: int) -> Dataset:
    """The data set; what it tells of itself names no place."""
    dataset = open_dataset(data, seed)
    told = _renamed(dict(dataset.description), names(data, dataset.files))
    return replace(dataset, description=told)


def matched(
    given: DataSection, stored: DataSection, hashes: Mapping[str, str], run: Path
) -> tuple[dict[str, str], dict[str, Path]]:
    """Names of the given section's files in an existing run, and where the run's files are here.

    What has the content of a stored file has its name, wherever it lies.
    """
    called, places = names(given, (), run), dict[str, Path]()
    texts = (_texts(each.model_dump(mode="json")) for each in (given, stored))
    for here, there in zip(*texts, strict=False):
        path = str(path_and_key(here)[0]) if Path(here).is_absolute() else ""
        name = there[: len(there) - len(here) + len(path)]  # without the key
        own = {file: Path(path + file[len(name) :]) for file in _under(name, hashes)}
        if path and all(each.is_file() for each in own.values()):
            same = own and all(event_hash(each) == hashes[file] for file, each in own.items())
            if same or called[path] == name:
                called[path], places = name, places | own
    return called, places


def _under(name: str, hashes: Mapping[str, str]) -> list[str]:
    """The file of a name, or those of the directory."""
    return [file for file in hashes if file == name or file.startswith(f"{name}/")]


def find(name: str, digest: str, run: Path) -> Path | None:
    """A file of a run: where it is named, in the run, or where it was last; its content decides."""
    own, last = run / name, _remembered(digest)
    package = [_PACKAGE.parent / name] if name.startswith(f"{_PACKAGE.name}/") else []
    there = [p for p in (own, *package, run / Path(name).name, *last) if p.is_file()]
    same = (path for path in there if event_hash(path) == digest)
    changed = (path for path in there if path in (own, *package, *last))
    return next(same, None) or next(changed, None)


def located(data: DataSection, hashes: Mapping[str, str], run: Path) -> dict[str, str]:
    """Paths of a run's events by the names that its configuration has."""
    found = {}
    for text in _texts(data.model_dump(mode="json")):
        for name in (text, text.rpartition(":")[0]):
            for file in _under(name, hashes)[:1]:
                path, rest = find(file, hashes[file], run), file[len(name) :]
                if path is None or not str(path).endswith(rest):
                    place = run / (name if rest else Path(name).name)
                    raise UserError(
                        f"{run / 'config.yaml'} names its events {name}, which are not found here "
                        f"(SHA-256 of {Path(file).name}: {hashes[file][:16]}...); copy or link "
                        f"them to {place}"
                    )
                found[name] = str(path.absolute())[: len(str(path.absolute())) - len(rest)]
    return found


def _memory(digest: str) -> Path:
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(f"{digest!r} is no SHA-256")
    return cache() / "events" / f"{digest}.json"


def _remembered(digest: str) -> list[Path]:
    """Places of a file so far, the last one first."""
    with contextlib.suppress(OSError, ValueError, TypeError, UserError):
        return [Path(each) for each in files.read_json(_memory(digest))[:_REMEMBERED]]
    return []


def remember(hashes: Mapping[str, str], places: Mapping[str, Path]) -> None:
    """Keep in the user's cache where files are: a run that is moved alone finds them by it."""
    for name, path in places.items():
        before = _remembered(hashes[name])
        if path.is_relative_to(_PACKAGE) or path in before[:1]:
            continue
        kept = [path, *(each for each in before if each != path)][:_REMEMBERED]
        with contextlib.suppress(OSError):  # a convenience
            files.write_json(_memory(hashes[name]), [str(each) for each in kept])
