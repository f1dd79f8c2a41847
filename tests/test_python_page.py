"""docs/python.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l1kd

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.mark.full
@pytest.mark.csim
@pytest.mark.filterwarnings("ignore:The initializer .* is unseeded:UserWarning")
def test_ten_lines_from_a_teacher_to_certified_firmware(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorflow import keras

    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(3)
    events, taught, firmware, forest = BLOCKS
    for block in (taught, forest):
        lines = [line for line in block.splitlines() if line and "import" not in line]
        assert len(lines) <= 10
    names: dict[str, Any] = {}
    for block in (events, taught):
        exec(block, names)
    normal, result = names["normal"], names["result"]
    losses = [row["tiny_val_loss"] for row in result.history]
    assert len(losses) == 8 and min(losses) < 0.8 * losses[0]
    student, scores = result.students["tiny"], result.scores("tiny", normal)
    assert np.array_equal(scores, student.predict(normal, verbose=0)[:, 0])
    targets = result.target.forward(result.teacher_scores(normal))
    assert np.corrcoef(scores, targets)[0, 1] > 0.5
    exec(firmware, names)
    assert capsys.readouterr().out.strip() == "certified for all inputs"
    assert (tmp_path / "out" / "hls" / "l1kd.json").is_file()
    before = student.get_weights()
    exec(forest, names)
    again = names["result"]
    own = -names["forest"].score_samples(normal)
    np.testing.assert_allclose(again.teacher_scores(normal), own)
    assert l1kd.check(again.students["tiny"]) == []
    after = again.students["tiny"].get_weights()
    assert not all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
