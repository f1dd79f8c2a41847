"""Files are whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from l1kd.core.files import atomic, atomic_directory, content_hash, file_hash, read_json, write_json


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
