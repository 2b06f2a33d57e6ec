"""How things look: tables narrow enough to read on a terminal, JSON for scripts, a bar where work takes long."""

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import typer

from warehouse.plain import plain

if TYPE_CHECKING:  # what a command does not need it does not import: help and completion answer at once
    import polars as pl
    from rich.console import Console

WIDTH_IN_A_PIPE = 200
HASH_CHARS = 64
MOST_CODE = 12
"""Characters shown of a hash; JSON has them all."""


def console_of(*, stderr: bool = False) -> "Console":
    """Where to print; wide in a pipe, because a table cut at 80 columns helps nobody."""
    from rich.console import Console

    class Plain(Console):
        """Shows text as it stands: a name that came in a file cannot colour, move or hide anything."""

        def print(self, *objects: Any, **options: Any) -> None:
            super().print(*(_lines(each) if isinstance(each, str) else each for each in objects), **options)

    console = Plain(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH_IN_A_PIPE
    return console


def _lines(text: str) -> str:
    return "\n".join(map(plain, text.split("\n")))


def print_json(value: object) -> None:
    """For a script: one line, times in ISO form, null for what is not a number."""
    typer.echo(json.dumps(_finite(value), default=_plain, allow_nan=False))


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


@contextmanager
def progress(quiet: bool) -> Iterator[Any]:
    """A bar on a terminal, nothing in a pipe; gives a function that says what is under way."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = console_of(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _message: None
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("Starting", total=None)
        yield lambda message: bar.update(task, description=message[:60])


def show_section(title: str, rows: "pl.DataFrame") -> None:
    """A table narrow enough to read: what is the same in every row is said once, what is null nowhere."""
    console = console_of()
    console.print(f"\n{title}", style="bold", markup=False)
    filled = [name for name in rows.columns if rows[name].null_count() < rows.height and name != "batch_id"]
    same = [name for name in filled if rows[name].n_unique() == 1]
    said = [f"{name.replace('_', ' ')} {text_of(rows[name][0])}" for name in same]
    if rows.height == 1:
        for each in said:
            console.print(f"  {each}", markup=False, soft_wrap=True)
        return
    if said:
        console.print("  " + "; ".join(said), markup=False, soft_wrap=True)
    shown = rows.select(name for name in filled if name not in same)
    show_table(shown.rows(), [name.replace("_", " ") for name in shown.columns])


def show_table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(name, overflow="fold", no_wrap=number == 0)  # half a name leads nowhere
    for row in rows:
        table.add_row(*(escape(plain(text_of(value))) for value in row))
    console_of().print(table)


def show_flags(flags: Sequence[dict[str, Any]]) -> None:
    """Classes by level: one line per school year, window and measure."""
    if not flags:
        return
    from schemas.projections import LEVELS

    levels = [level for level in LEVELS if any(each["level"] == level for each in flags)]
    lines: dict[tuple[str, ...], dict[str, int]] = {}
    for each in flags:
        line = (each["school_year"], each["benchmark_window"], each["measure"])
        lines.setdefault(line, {})[each["level"]] = each["classes"]
    rows = [[*line, *(counts.get(level) for level in levels)] for line, counts in lines.items()]
    show_table(rows, ["school year", "window", "measure", *levels])


def show_changes(changes: Sequence[dict[str, Any]]) -> None:
    """How many of each kind, then one line for each change with the files it came through."""
    console = console_of()
    if not changes:
        console.print("No flag, tier or outcome is another.", markup=False)
        return
    counts: dict[str, int] = {}
    for each in changes:
        counts[each["what"]] = counts.get(each["what"], 0) + 1
    console.print(", ".join(f"{what} {count:,}" for what, count in counts.items()), style="bold", markup=False)
    where = ["district_id", "school_year", "benchmark_window", "measure", "class_id", "cycle_id", "subject_key"]
    rows = [
        [
            each["what"],
            *(each[name] for name in where),
            each["before"],
            each["after"],
            [file["file"] for file in each["files"]] if each["is_direct"] else "others",
        ]
        for each in changes
    ]
    show_table(rows, ["what", *(name.replace("_", " ") for name in where), "before", "after", "through"])


def show_recognised(told: dict[str, Any]) -> None:
    """What is known of a file: its layout or the nearest, what differs, a proposal ready to copy, how it would load."""
    console = console_of()

    def say(name: str, value: object) -> None:
        if value not in (None, [], {}, ""):
            console.print(f"{name:<10} {text_of(value)}", markup=False, soft_wrap=True)

    for name in ("file", "layout", "title", "rule", "nearest", "score", "tied", "renamed"):
        say(name, told[name])
    say("message", None if told["gaps"] and not told["tied"] else told["message"])  # the gaps say it, and more
    say("matched", f"{len(told['matched'])} columns" if told["matched"] else None)
    say("missing", told["missing"])
    say("new", told["new"])
    for gap in told["gaps"]:
        if gap["candidates"] or gap["is_needed"]:
            say("asks" if gap["is_needed"] and not gap["chosen"] else "perhaps", _gap_in_words(gap))
    if told["alias_toml"]:
        console.print(f"\n# {told['alias_file']}", markup=False, soft_wrap=True)
        console.print(told["alias_toml"], markup=False, soft_wrap=True)
    if told["trial"]:
        console.print("With these aliases:" if told["alias_toml"] else "Tried:", style="bold")
        show_fields(told["trial"])


def _gap_in_words(gap: dict[str, Any]) -> str:
    what = f'{", ".join(gap["columns"])} ("{gap["expected"]}")'
    if gap["chosen"]:
        return f'{what} is now "{gap["chosen"]}"{_why(gap, gap["chosen"])}'
    if not gap["candidates"]:
        return f'{what} has no likely header. Name it: --alias {gap["columns"][0]}="HEADER"'
    alike = " or ".join(f'"{each["header"]}"' for each in gap["candidates"][:3])
    return f'{what} may be {alike}. Say which: --alias {gap["columns"][0]}="{gap["candidates"][0]["header"]}"'


def _why(gap: dict[str, Any], header: str) -> str:
    each = next((each for each in gap["candidates"] if each["header"] == header), None)
    if each is None:
        return ", as you say"
    said = [f"name {each['name_likeness']:.0%} alike"] if each["name_likeness"] else []
    if each["values_fit"] is not None and each["values"]:
        said.append(f"{each['values_fit']:,} of {each['values']:,} values of its type")
    if each["is_in_place"]:
        said.append("stands in its place")
    return f" ({'; '.join(said)})"


def show_fields(summary: dict[str, Any]) -> None:
    """One line for each field that says something."""
    console = console_of()
    for name, value in summary.items():
        if value not in (None, [], {}, ""):
            console.print(f"{name.replace('_', ' '):<22} {text_of(value)}", markup=False, soft_wrap=True)


def text_of(value: object) -> str:
    """A value for people: a dash for null, times to the minute, hashes cut short."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, str) and len(value) == HASH_CHARS and value.isalnum():
        return value[:MOST_CODE]
    if isinstance(value, list | tuple):
        return "; ".join(text_of(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {text_of(each)}" for name, each in value.items())
    return str(value)
