"""What a release says of itself agrees with the code: version, formats."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

import l1kd
from l1kd.core import run_files
from l1kd.exact import network
from l1kd.firmware.hls import emulator, project
from l1kd.firmware.verilog import project as verilog
from l1kd.runs import archive, score, search_study, sweep_grid

ROOT = Path(__file__).parents[1]


def test_the_citation_is_of_this_version() -> None:
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert told["version"] == l1kd.__version__ and told["license"] == "Apache-2.0"
    declared = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert declared is not None and declared[1] == l1kd.__version__


def test_the_formats_in_the_documentation_are_those_that_are_written() -> None:
    page = (ROOT / "docs" / "run.md").read_text(encoding="utf-8").partition("\n## Formats\n")[2]
    told = dict(re.findall(r"^\| ([\w ,]+) \| (\d+) \|", page, re.M))
    (of_archive,) = re.findall(rb"l1kd archive (\d+)", archive._HEAD)
    assert sweep_grid.SWEEP.version == search_study.STUDY.version
    assert told == {
        "run": str(run_files.FORMAT_VERSION),
        "sweep, study": str(sweep_grid.SWEEP.version),
        "exact network": str(network.FORMAT_VERSION),
        "HLS project": str(project._FORMAT),
        "Verilog project": str(verilog.FORMAT),
        "emulator": str(emulator._FORMAT),
        "archive": of_archive.decode(),
        "scores": str(score.FORMAT_VERSION),
    }
