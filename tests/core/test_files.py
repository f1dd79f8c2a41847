"""Files are whole or absent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from l1kd.core import files, run_files
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import (
    MARKERS,
    atomic,
    atomic_directory,
    check_own_files,
    check_replaceable,
    content_hash,
    file_hash,
    is_passing,
    passing_name,
    read_arrays,
    read_json,
    reading,
    sweep,
    write_arrays,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"x": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_temporary_keeps_the_suffix_and_ends_with_usual_permissions(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    with atomic(tmp_path / "model.keras") as temporary:
        assert temporary.suffix == ".keras"
    assert (tmp_path / "model.keras").stat().st_mode == plain.stat().st_mode


def test_a_directory_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "project"
    for text in ("old", "new"):
        with atomic_directory(path) as temporary:
            (temporary / text).write_text(text)
    with pytest.raises(RuntimeError), atomic_directory(path) as temporary:
        raise RuntimeError
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_hashes_do_not_depend_on_the_order_of_keys(tmp_path: Path) -> None:
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    (tmp_path / "x").write_bytes(b"abc")
    assert file_hash(tmp_path / "x").startswith("ba7816bf")


def test_only_names_that_l1kd_makes_are_swept(tmp_path: Path) -> None:
    ours = passing_name(".part.csv")
    forged = ours.replace(ours[6], "1" if ours[6] == "0" else "0", 1)
    users = [forged, ".history.abcd1234.part.csv", ".x.part", ".thesis.old", ".l1kd-notes.part"]
    outside = tmp_path / "outside"
    run = tmp_path / "run"
    for place in (run, run / "students", run / "firmware" / "s1" / "hls", outside):
        place.mkdir(parents=True)
        for name in (*users, passing_name(".part.csv"), passing_name(".scratch")):
            (place / name).touch()
        (place / passing_name(".old") / "inside").mkdir(parents=True)
    before = sorted(outside.rglob("*"))
    (run / "firmware" / "linked").symlink_to(outside)
    (run / "linked").symlink_to(outside)
    (run / passing_name(".part")).symlink_to(outside)
    sweep(run)
    assert sorted(outside.rglob("*")) == before
    for place in (run, run / "students", run / "firmware" / "s1" / "hls"):
        left = [path.name for path in place.iterdir() if path.name.startswith(".")]
        assert sorted(name for name in left if not is_passing(name, ".scratch")) == sorted(users)


def test_a_directory_that_was_begun_is_told_from_one_of_the_user_s(tmp_path: Path) -> None:
    kind = files.DirectoryKind("run", "manifest.json", "make a new run", begun=r"\.lock")
    for name in (".lock", passing_name(".part.json")):
        (tmp_path / name).touch()
    kind.check(tmp_path)
    (tmp_path / ".x.part").touch()
    with pytest.raises(UserError, match=r"is not a run \(it has \.x\.part\)"):
        kind.check(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device"])
def test_only_regular_files_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        path.symlink_to("/dev/zero")
    for read in (read_json, file_hash, read_arrays):
        with pytest.raises(UserError, match="not a regular file"):
            read(path)


def test_json_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    path.write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(path)
    monkeypatch.setattr(files, "_MOST_BYTES", 100)
    with pytest.raises(UserError, match="more than the 100 that a file of its kind is read up to"):
        read_json(path)


def test_arrays_do_not_unfold(tmp_path: Path) -> None:
    arrays = {"a": np.arange(3), "b": np.zeros((2, 2))}
    write_arrays(tmp_path / "x.npz", arrays)
    found = read_arrays(tmp_path / "x.npz")
    assert {key: array.tolist() for key, array in found.items()} == {
        key: array.tolist() for key, array in arrays.items()
    }
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match="compressed"):
        read_arrays(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("a"), "x is damaged, or not as l1kd writes it ('a'); mend it"),
        (RecursionError(), "x is damaged, or not as l1kd writes it (RecursionError); mend it"),
        (AssertionError("a\nb"), "x is damaged, or not as l1kd writes it (a); mend it"),
        (OSError(errno.EIO, "Input/output error"), "x cannot be read (Input/output error)"),
    ],
)
def test_whatever_a_reader_raises_is_the_file_s_fault(error: Exception, message: str) -> None:
    with pytest.raises(UserError) as caught, reading(Path("x"), "mend it"):
        raise error
    assert message in str(caught.value)
    for own in (UserError("own"), CheckFailed("own"), MemoryError()):
        with pytest.raises(type(own)), reading(Path("x"), "mend it"):
            raise own


def test_a_wrong_value_of_a_record_is_told_by_its_place(tmp_path: Path) -> None:
    pair = {"reference": "exact", "candidate": "csim", "backend": None, "io_type": None}
    pair |= {"strategy": None, "inputs": "test", "events": "many", "mismatches": 0, "max_lsb": -1.5}
    records = [
        {"student": "a", "lsb": 1.0, "pairs": []},
        {"student": "b", "lsb": 1, "pairs": [pair]},
    ]
    write_json(tmp_path / "agreement.json", records)
    place = r"agreement\.json is damaged, .*\(1\.pairs\.0\.events: Input should be a valid integer"
    with pytest.raises(
        UserError, match=rf"{place}.* \(and 1 more\)\); delete it and run its stage"
    ):
        run_files.read(tmp_path, "agreement.json")


def test_a_file_of_another_format_is_refused_before_it_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"format_version": 9, "new": True})
    with pytest.raises(
        UserError, match=r"x\.json was written in format 9, this version reads 2; go"
    ):
        run_files.read_as(run_files.Emd, tmp_path / "x.json", "none", "go", version=2)
    write_json(tmp_path / "x.json", {"format_version": 9, "normal": 1.0, "anomalous": None})
    with pytest.raises(UserError, match=r"\(format_version: Extra inputs are not permitted\)"):
        run_files.read_as(run_files.Emd, tmp_path / "x.json", "none", "go")


@pytest.mark.parametrize("name", ["l1kd.log", ".lock", "vendor", "report.html"])
def test_nothing_is_written_through_links_of_a_run(name: str, tmp_path: Path) -> None:
    run, theirs = tmp_path / "run", tmp_path / "theirs"
    for each in (run, theirs):
        each.mkdir()
    (run / name).symlink_to(theirs if name == "vendor" else theirs / "thesis.tex")
    with pytest.raises(UserError, match=f"{name} is a link"):  # also to what is not there yet
        check_own_files(run)
    (theirs / "thesis.tex").touch()
    if name == "report.html":  # it is replaced, and its link with it
        check_own_files(run)
        with atomic(run / name) as temporary:
            temporary.write_text("x", encoding="utf-8")
        assert (theirs / "thesis.tex").read_bytes() == b""
        return
    with pytest.raises(UserError, match=f"{name} is a link"):
        check_own_files(run)
    if name != "vendor":
        (run / name).unlink()
        os.mkfifo(run / name)
        with pytest.raises(UserError, match="or no file"):
            check_own_files(run)


@pytest.mark.parametrize(
    "state", ["file", "theirs", "link", "link above", "ours", "empty", "absent"]
)
def test_only_directories_that_l1kd_made_are_replaced(state: str, tmp_path: Path) -> None:
    run, theirs = tmp_path / "run", tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.tex").touch()
    (target := run / "above" / "csim").parent.mkdir(parents=True)
    if state == "file":
        target.touch()
    elif state == "theirs":
        target.mkdir()
        (target / "thesis.tex").touch()
    elif state == "link":
        target.symlink_to(theirs)
    elif state == "link above":
        target.parent.rmdir()
        target.parent.symlink_to(theirs)
    elif state != "absent":
        target.mkdir()
        if state == "ours":
            (target / MARKERS[0]).touch()
    if state in ("ours", "empty", "absent"):
        check_replaceable(target, inside=run)
    else:
        with pytest.raises(UserError, match=r"not made by l1kd|symbolic link|is a file"):
            check_replaceable(target, inside=run)
