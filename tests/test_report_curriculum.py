"""What pages say about the curriculum: what was reported, and that nothing is known where nothing was."""

from datetime import date

import polars as pl

from pipelines.report.curriculum import by_grade, of_class, told
from schemas.contract import columns
from schemas.projections import ClassContext

DAY = date(2025, 9, 12)
COLUMNS = {name: dtype for name, dtype in columns(ClassContext).items() if name != "input_id"}


def report(class_id: str, material: str | None, is_aligned: bool | None, **other: object) -> dict[str, object]:
    row = {"class_id": class_id, "kind": "curriculum", "material": material, "is_aligned": is_aligned}
    return dict.fromkeys(COLUMNS) | row | {"reported_on": DAY, **other}


def reports(*rows: dict[str, object]) -> dict[tuple[object, ...], pl.DataFrame]:
    frame = pl.DataFrame(list(rows), schema=COLUMNS).with_columns(benchmark_window=pl.lit("fall"))
    return frame.partition_by("class_id", "benchmark_window", as_dict=True)


FOUND = reports(
    report("c1", "core_a", True),
    report("c1", "practice", None),
    report("c2", "core_a", False),
    report("c1", None, None, kind="engagement", engagement="high"),
)
CLASSES = pl.DataFrame({"grade": ["4", "4", "4", "K"], "class_id": ["c1", "c2", "c3", "c4"]}).with_columns(
    benchmark_window=pl.lit("fall")
)


def test_a_class_has_its_materials_with_alignment_and_day():
    assert of_class(FOUND, "c1", "fall") == {
        "materials": [
            ["core a", "aligned", "12 September 2025"],
            ["practice", "not reported", "12 September 2025"],
        ],
        "engagement": ["high (12 September 2025)"],
    }
    assert of_class(FOUND, "c1", "winter") == of_class(FOUND, "c9", "fall") == {"materials": [], "engagement": []}


def test_a_grade_counts_classes_by_material_and_those_nothing_is_known_of():
    on = "12 September 2025"
    assert by_grade(FOUND, CLASSES) == [
        ["Kindergarten", "not known", "not known", "1", "not known"],
        ["Grade 4", "core a", "not aligned", "1", on],
        ["Grade 4", "core a", "aligned", "1", on],
        ["Grade 4", "practice", "not reported", "1", on],
        ["Grade 4", "not known", "not known", "1", "not known"],
    ]


def test_a_sheet_says_it_grade_by_grade():
    assert told(FOUND, CLASSES) == [
        "Kindergarten: not known (1 class)",
        "Grade 4: core a, not aligned (1 class); core a, aligned (1 class);"
        " practice, alignment not reported (1 class); not known (1 class)",
    ]
