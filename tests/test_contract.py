"""Contracts count what breaks them, whichever of their columns is asked."""

import polars as pl
import pytest

from schemas.contract import BrokenContract, broken_rules, columns, empty, nullable, require
from schemas.projections import PROJECTIONS, Projection, TierPlacement


@pytest.mark.parametrize("contract", PROJECTIONS, ids=lambda each: each.__name__)
def test_every_null_that_may_not_be_is_counted(contract: type[Projection]):
    schema = columns(contract)
    broken = broken_rules(pl.DataFrame({name: [None] for name in schema}, schema=schema), contract)
    assert set(broken["column"]) == set(schema) - nullable(contract)
    assert broken["rows"].to_list() == [1] * broken.height


def test_a_column_of_another_type_one_too_many_and_one_too_few_are_named():
    schema = TierPlacement.to_schema().columns
    plain = min(name for name, column in schema.items() if column.nullable and not column.checks)
    rows = empty(TierPlacement)
    for spoilt in (rows.with_columns(more=pl.lit(1)), rows.drop(plain), rows.cast({plain: pl.Binary})):
        assert broken_rules(spoilt, TierPlacement).height == 1


def test_the_same_row_twice_is_counted_and_no_cell_is_told():
    schema = columns(TierPlacement)
    told = {"district_id": "d1", "school_year": "2026", "subject_key": "a secret"}
    rows = pl.DataFrame([told, told], schema=schema)
    with pytest.raises(BrokenContract, match=r"multiple_fields_uniqueness \(") as caught:
        require(rows, TierPlacement)
    assert "secret" not in str(caught.value)
