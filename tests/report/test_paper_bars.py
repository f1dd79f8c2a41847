"""What the paper's bench asks of a sweep: met by a good one, and every shortfall is seen."""

import pytest

from l1kd.report import paper_numbers
from tests.benchmarks import bench_paper

pyarrow = pytest.importorskip("pyarrow")


def row(data, mode, model, normal, auc, bits=8, **other):
    emd = paper_numbers.find(data, mode, model).emd_anomalous
    return {
        "group": mode,
        "data": data,
        "normal": normal,
        "seed": 7,
        "mode": mode,
        "model": model,
        "weight_bits": 32 if model == "teacher" else bits,
        "epochs": 60,
        "auc": auc,
        "efficiency": None,
        "emd_anomalous": emd,
        "emd_normal": emd and 0.001,
        "emd_anomalous_calibrated": None,
        "mae": emd and 0.01,
        "spearman": 0.8,
        "params": paper_numbers.PARAMETERS[model],
        "chosen": model == "s1" and mode == "exposure" and bits == 8,
        "mismatches": 0 if model == "s1" else None,
        "compared": 2000 if model == "s1" else None,
        "seconds": 400.0,
        "recipe": f"{data}{mode}{model}{bits}",
        **other,
    }


def good():
    """Rows of a sweep that holds everything: AUC above the paper's by 0.02, spread over classes."""
    found = []
    for cell in paper_numbers.CELLS:
        classes = range(10) if cell.mode == "exposure" else (0, 4, 8)
        for normal in classes:
            auc = cell.auc + 0.02 + 0.004 * (normal - 4.5)
            found.append(row(cell.data, cell.mode, cell.model, normal, auc))
            narrow = cell.mode == "exposure" and normal in (0, 4, 8)
            if narrow and cell.model in paper_numbers.STUDENTS[:4]:
                found.append(row(cell.data, cell.mode, cell.model, normal, auc - 0.01, bits=4))
    return found


def write(directory, rows):
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), directory / "runs.parquet")
    return bench_paper.record(bench_paper.collected([directory]))


def missed(found):
    return [bar.name for bar in bench_paper.bars(found) if not bar.met]


def test_a_good_sweep_meets_all_bars(tmp_path):
    found = write(tmp_path, good())
    assert missed(found) == []
    # 14 of AUC, 14 of EMD, 2 means, 6 other ways, 8 narrow, epochs, mismatches.
    assert len(bench_paper.bars(found)) == 14 + 14 + 2 + 6 + 8 + 1 + 1
    assert len(found["cells"]) == 64 + 8
    uncalibrated = {f"{name}_uncalibrated" for name in bench_paper.DISTANCES}
    assert set(found["cells"][0]) == {*bench_paper.CELL, *uncalibrated}
    assert len(found["chosen"]) == 20


def test_distances_are_those_of_calibrated_scores(tmp_path):
    far = {"emd_anomalous": 0.5, "emd_anomalous_calibrated": 0.001}
    rows = [r | far if r["model"] == "s7" else r for r in good()]
    found = write(tmp_path, rows)
    assert missed(found) == []
    cell = bench_paper.one(found["cells"], data="mnist", model="s7", mode="exposure")
    distances = [cell[f"emd_anomalous{suffix}"] for suffix in ("", "_uncalibrated")]
    assert distances == [pytest.approx(0.001), pytest.approx(0.5)]
    assert "| 0.0010 | 0.5000 | 0.007 |" in bench_paper.table(found)


def test_like_for_like_is_a_table_of_its_own(tmp_path):
    alone = [
        row("mnist", "exposure", model, normal, 0.9005 + 0.001 * normal)
        | {"group": "alone", "recipe": "alone", "emd_anomalous_calibrated": 0.0001}
        for model in paper_numbers.MODELS
        for normal in range(10)
    ]
    found = write(tmp_path, [*good(), *alone])
    assert found | {"alone": []} == write(tmp_path, good())
    text = bench_paper.table(found)
    assert "| MNIST | s4 | 8 bits | .905 +- .001 | .895 | +0.010 | 0.0080 | 0.008 |" in text
    wins = "| MNIST | 10 classes | | higher by a standard error 4, lower 3, of 7 | | "
    assert wins + "| nearer 7 of 7 | |" in text
    assert "| Fashion-MNIST | 10 classes" not in text


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (
            lambda r: r | {"auc": r["auc"] - 0.04} if r["model"] == "s3" else r,
            ["MNIST s3: AUC", "Fashion-MNIST s3: AUC"],
        ),
        (
            lambda r: r | {"auc": r["auc"] - 0.013} if r["data"] == "mnist" else r,
            ["MNIST: mean AUC"],
        ),
        (
            lambda r: r | {"emd_anomalous": 0.0101} if r["model"] == "s7" else r,
            ["MNIST s7: EMD", "Fashion-MNIST s7: EMD"],
        ),
        (
            lambda r: None if (r["mode"], r["model"], r["normal"]) == ("noise", "s2", 4) else r,
            ["MNIST: noise", "Fashion-MNIST: noise"],
        ),
        (
            lambda r: (
                r | {"auc": r["auc"] - 0.02} if (r["weight_bits"], r["model"]) == (4, "s4") else r
            ),
            ["MNIST s4: AUC of 4-bit", "Fashion-MNIST s4: AUC of 4-bit"],
        ),
        (
            lambda r: r | {"epochs": 101} if (r["mode"], r["normal"]) == ("exposure", 9) else r,
            ["epochs"],
        ),
        (
            lambda r: (
                r | {"mismatches": 1}
                if (r["data"], r["normal"], r["chosen"]) == ("mnist", 3, True)
                else r
            ),
            ["mismatches"],
        ),
        (
            lambda r: r | {"compared": None, "mismatches": None} if r["normal"] == 3 else r,
            ["mismatches"],
        ),
        (
            lambda r: None if (r["model"], r["normal"], r["data"]) == ("s5", 9, "mnist") else r,
            ["MNIST s5: AUC, EMD", "MNIST: mean AUC"],
        ),
    ],
)
def test_every_shortfall_is_seen(tmp_path, spoil, names):
    spoiled = [changed for each in good() if (changed := spoil(each)) is not None]
    found = missed(write(tmp_path, spoiled))
    assert len(found) == len(names)
    assert all(any(each.startswith(name) for each in found) for name in names), found


def test_a_bar_without_a_run_is_told_from_a_missed_one(tmp_path):
    """Nothing recorded is said; something recorded that falls short is a miss."""
    main = [each for each in good() if (each["mode"], each["weight_bits"]) != ("exposure", 4)]
    only = [each for each in main if each["mode"] == "exposure"]
    bars = bench_paper.bars(write(tmp_path, only))
    assert [bar.met for bar in bars] == [bar.measured for bar in bars]
    assert sum(not bar.met for bar in bars) == 6 + 8
    assert "no run MNIST: noise" in bench_paper.told(bars)
    begun = [r for r in main if (r["mode"], r["model"]) == ("noise", "s1")]
    noise = bench_paper.comparison_bars(write(tmp_path, [*only, *begun]))
    partly = [bar for bar in noise if "noise" in bar.name]
    assert [(bar.met, bar.measured) for bar in partly] == [(False, True)] * 2
    assert "MISSED MNIST: noise" in bench_paper.told(partly)


def test_of_two_recipes_the_one_with_all_classes_is_judged(tmp_path):
    others = [
        each | {"recipe": "ablation", "auc": 0.5, "group": "ablation"}
        for each in good()
        if each["mode"] == "exposure" and each["normal"] == 0
    ]
    assert missed(write(tmp_path, others + good())) == []


def test_the_table_has_both_sets_and_a_place_on_the_page(tmp_path):
    found = write(tmp_path, good())
    text = f"# Results\n\n{bench_paper.FOLLOWING}\n\nmore\n"
    made = bench_paper.in_page(text, found)
    assert bench_paper.in_page(made, found) == made
    assert made.index(bench_paper.HEADING) < made.index(bench_paper.FOLLOWING)
    assert (
        "| MNIST | s1 | 8 bits | **.951** +- .004 (.012) | .931 (.061) | +0.020 | 0.0080 |" in made
    )
    assert "| MNIST | exposure, 4 bits |" in made and "| MNIST | noise, paper |" in made
    with pytest.raises(SystemExit, match="no place"):
        bench_paper.in_page("# nothing\n", found)


def test_parts_of_a_sweep_add_up(tmp_path):
    rows = good()
    whole = write(tmp_path, rows)
    parts = [[r for r in rows if r["normal"] % 2 == odd] for odd in (0, 1)]
    for number, part in enumerate(parts):
        (tmp_path / str(number)).mkdir()
        write(tmp_path / str(number), part)
    first = bench_paper.collected([tmp_path / "0"])
    assert missed(bench_paper.record(first))
    both = bench_paper.collected([tmp_path / "1"], first)
    assert bench_paper.record(both) == whole
    # A run that was done again counts once, as it came out last.
    again = [{**r, "auc": r["auc"] - 0.5} for r in parts[1]]
    write(tmp_path / "1", again)
    assert len(bench_paper.collected([tmp_path / "1"], both)) == len(rows)
    assert missed(bench_paper.record(bench_paper.collected([tmp_path / "1"], both)))
