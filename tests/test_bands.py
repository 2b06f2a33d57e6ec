"""Published bands: the vector's cases, and that no band with a known n gives a count away."""

import itertools
import json
from pathlib import Path

import polars as pl
import pytest

from transforms.bands import NCES, Band, fewest_counts, first_width, nces_bands, safe_bands, safe_widths

VECTOR = json.loads((Path(__file__).parent / "data" / "vectors" / "14_disclosure_bands.json").read_text("utf-8"))


def said(bands, cases, **options):
    return bands(
        pl.Series([each["y"] for each in cases]), pl.Series([each["n"] for each in cases]), **options
    ).to_list()


@pytest.mark.parametrize(
    ("name", "bands", "options"),
    [
        ("cases", nces_bands, {}),
        ("cases_min_n_16", nces_bands, {"min_n": 16}),
        ("safe_band_cases", safe_bands, {"least": VECTOR["c_min"]}),
    ],
)
def test_counts_are_said_in_the_bands_of_the_vector(name, bands, options):
    cases = VECTOR[name]
    assert said(bands, cases, **{"min_n": VECTOR["min_n"]} | options) == [each["out"] for each in cases]


def test_widths_and_the_counts_behind_them_are_those_of_the_vector():
    widths = dict(enumerated(safe_widths(VECTOR["c_min"])))
    for case in VECTOR["candidate_counts_if_n_known"]:
        n = case["n"]
        nces = next(band for begins, band in reversed(NCES) if n >= begins)
        assert (nces.width, fewest_counts(n, nces), widths[n]) == (
            case["nces_width"],
            case["min_candidates"],
            case["safe_width"],
        )
    for begins, ends, width in VECTOR["safe_width_by_n"]:
        assert {widths[n] for n in range(begins, (ends or 800) + 1)} == {width}
    for begins, ends, width in VECTOR["first_width_with_c_min_by_n"]:
        assert {first_width(n, VECTOR["c_min"]) for n in range(begins, (ends or 800) + 1)} == {width}


def enumerated(steps):
    ends = [*(begins for begins, _ in steps[1:]), 801]
    return [(n, width) for (begins, width), end in zip(steps, ends, strict=True) for n in range(begins, end)]


@pytest.mark.parametrize("least", [2, 3, 5])
def test_a_band_and_its_n_leave_at_least_so_many_counts(least):
    for n in [*range(10, 330), 500, 901]:
        counts = safe_bands(pl.Series(range(n + 1)), pl.Series([n] * (n + 1)), least=least).value_counts()["count"]
        assert counts.min() >= least


def test_bands_follow_one_another_and_an_end_holds_what_reaches_it():
    n = 64
    bands = safe_bands(pl.Series(range(n + 1)), pl.Series([n] * (n + 1))).to_list()
    assert bands[3] == "<=5%" and bands[4] == "6-9%" and bands[-4:] == [">=95%"] * 4
    assert [one for one, two in itertools.pairwise(bands) if one != two] == list(dict.fromkeys(bands))[:-1]
    assert fewest_counts(10, Band(20, 20)) == 1
