"""The Dagster partition is the district (SEMANTICS 4.1): which districts there are, and which ones a run is for."""

from collections.abc import Collection, Mapping, Sequence

import dagster as dg

DISTRICTS = dg.DynamicPartitionsDefinition(name="district")
"""A district becomes a partition when its landing folder or its policy appears."""
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
ONLY = "tierline/districts"
"""Run tag naming the districts meant, where they are not every district between the ends of the range."""

STATE = "tierline/outcome"
"""Run tag: done, partial or failed."""


def add_districts(instance: dg.DagsterInstance, districts: Collection[str]) -> list[str]:
    """Make partitions of the districts that are none yet, and return all partitions in Dagster's order."""
    known = list(instance.get_dynamic_partitions(str(DISTRICTS.name)))
    new = sorted(set(districts) - set(known))
    if new:
        instance.add_dynamic_partitions(str(DISTRICTS.name), new)
    return [*known, *new]


def run_tags(known: Sequence[str], districts: Collection[str]) -> dict[str, str]:
    """Tags of one run for these districts.

    Dagster names several partitions by the first and the last only, so what lies between is ruled out by a tag.
    """
    meant = [each for each in known if each in districts]
    between = known[known.index(meant[0]) : known.index(meant[-1]) + 1]
    tags = {RANGE_START: meant[0], RANGE_END: meant[-1]}
    return tags if len(between) == len(meant) else {**tags, ONLY: ",".join(meant)}


def districts_of(partition_keys: Sequence[str], tags: Mapping[str, str]) -> list[str]:
    """The districts a run is for."""
    only = tags.get(ONLY)
    return list(partition_keys) if only is None else [each for each in partition_keys if each in only.split(",")]
