"""Who is one student: subject keys linked by merges, facts that are another's by splits (METHOD 5.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from transforms.versions import latest_stated


@dataclass(frozen=True)
class People:
    """Whose a fact is, whatever key its file was given."""

    shown: pl.DataFrame
    """`district_id`, `subject_key`, `shown_key`: only keys that are not shown themselves."""
    moved: pl.DataFrame
    """`district_id`, `natural_key`, `to_key`: facts that were split from their key."""

    def of(self, facts: pl.DataFrame) -> pl.DataFrame:
        """The facts under the key that stands for their student: first by splits, then by merges."""
        if self.moved.height:
            facts = (
                facts.join(self.moved, on=["district_id", "natural_key"], how="left", maintain_order="left")
                .with_columns(subject_key=pl.coalesce("to_key", "subject_key"))
                .drop("to_key")
            )
        if self.shown.height:
            facts = (
                facts.join(self.shown, on=["district_id", "subject_key"], how="left", maintain_order="left")
                .with_columns(subject_key=pl.coalesce("shown_key", "subject_key"))
                .drop("shown_key")
            )
        return facts


def people(links: pl.DataFrame) -> People:
    """Who is one student, as these ``IdentityEvent`` rows say; of each pair and each moved fact the last one counts."""
    stands = latest_stated(links)
    merges = stands.filter(pl.col("loser_key").is_not_null(), ~pl.col("is_reversed").fill_null(value=False))
    moved = stands.filter(pl.col("moved_key").is_not_null())
    return People(winners(merges), moved.select("district_id", "to_key", natural_key="moved_key"))


def winners(merges: pl.DataFrame) -> pl.DataFrame:
    """The key that stands for each merged key: the smallest of all that are linked, directly or not.

    Args:
        merges: `district_id`, `loser_key`, `winner_key`.

    Returns:
        `district_id`, `subject_key`, `shown_key`; only keys that are not shown themselves.
    """
    pairs = merges.select("district_id", "loser_key", "winner_key").drop_nulls().unique()
    keys = (
        pl.concat(
            [
                pairs.select("district_id", subject_key="loser_key"),
                pairs.select("district_id", subject_key="winner_key"),
            ]
        )
        .unique()
        .sort("district_id", "subject_key")
        .with_row_index("number")
    )
    numbered = pairs.join(
        keys, left_on=["district_id", "loser_key"], right_on=["district_id", "subject_key"], how="left"
    ).join(
        keys,
        left_on=["district_id", "winner_key"],
        right_on=["district_id", "subject_key"],
        how="left",
        suffix="_winner",
    )
    links = coo_array(
        (
            np.ones(numbered.height, dtype=np.int8),
            (numbered["number"].to_numpy(), numbered["number_winner"].to_numpy()),
        ),
        shape=(keys.height, keys.height),
    )
    component = connected_components(links, directed=False)[1] if keys.height else np.zeros(0, dtype=np.int32)
    return (
        keys.with_columns(component=component)
        .with_columns(shown_key=pl.col("subject_key").min().over("component"))
        .filter(pl.col("shown_key") != pl.col("subject_key"))
        .select("district_id", "subject_key", "shown_key")
    )


def state_ids(ids: pl.DataFrame, types: Sequence[str]) -> pl.DataFrame:
    """The one state id of each student: `subject_key`, `id`. Who has several, or shares one, has none here.

    Args:
        ids: Rostered ids of one district: `id_type`, `id`, `subject_key`.
        types: Id types that are the state's.
    """
    known = ids.filter(pl.col("id_type").is_in(types)).select("subject_key", pl.col("id").str.strip_chars()).unique()
    return known.filter(~pl.col("id").is_duplicated() & ~pl.col("subject_key").is_duplicated())


def links(ids: pl.DataFrame) -> pl.DataFrame:
    """Students of two districts who have one state id, in both directions: one row per student and other district.

    An id that two students of a district have, or a student who has two, links nobody: it is not known who is meant.

    Args:
        ids: `district_id`, `subject_key` as shown, `state_id_hash`, of the districts that agreed.

    Returns:
        `district_id`, `subject_key`, `other_district`, `other_key`.
    """
    known = ids.drop_nulls().unique()
    by_id, by_student = ["district_id", "state_id_hash"], ["district_id", "subject_key"]
    sure = known.filter(~pl.struct(by_id).is_duplicated() & ~pl.struct(by_student).is_duplicated())
    other = sure.rename({"district_id": "other_district", "subject_key": "other_key"})
    return (
        sure.join(other, on="state_id_hash")
        .filter(pl.col("district_id") != pl.col("other_district"))
        .select(*by_student, "other_district", "other_key")
        .sort(pl.all())
    )


def best_match(ids: pl.DataFrame, known: pl.DataFrame) -> tuple[str | None, str | None, float, pl.DataFrame]:
    """Which id column of a file, against which known id type, finds most of its students (DESIGN 4).

    Args:
        ids: Every id of a file: `subject_key` (own key), `id_column`, `id_type`, `id`.
        known: Rostered ids: `id_type`, `id`, `subject_key`; each id names one student.

    Returns:
        Column, known id type, share of the file's students found, and the pairs found:
        `subject_key`, `roster_key`. Ties go to the id type of the same name, then by name.
    """
    none = pl.DataFrame(schema={"subject_key": pl.String, "roster_key": pl.String})
    students = ids["subject_key"].n_unique()
    found = ids.join(known.select("id", known_type="id_type", roster_key="subject_key"), on="id", how="inner")
    if found.is_empty() or not students:
        return None, None, 0.0, none
    rates = (
        found.group_by("id_column", "id_type", "known_type")
        .agg(pl.col("subject_key").n_unique().alias("matched"))
        .sort(
            "matched",
            pl.col("id_type") == pl.col("known_type"),
            "id_column",
            "known_type",
            descending=[True, True, False, False],
        )
    )
    column, _, known_type, matched = rates.row(0)
    pairs = (
        found.filter((pl.col("id_column") == column) & (pl.col("known_type") == known_type))
        .select("subject_key", "roster_key")
        .unique()
        .filter(pl.len().over("subject_key") == 1)
    )
    return column, known_type, matched / students, pairs
