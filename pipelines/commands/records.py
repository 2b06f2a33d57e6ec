"""One record: where it comes from, and what people state of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.options import (
    DEFAULT_HOME,
    NOTHING,
    HomeOption,
    JsonOption,
    MeasureOption,
    ReasonOption,
    WindowOption,
    YearOption,
    districts_of,
    fail,
)
from pipelines.terminal import (
    console_of,
    print_json,
    show_fields,
    show_section,
    show_table,
)
from warehouse.home import Home

app = typer.Typer()
explain_app = typer.Typer(no_args_is_help=True, help="The chain from a decision back to file and line.")
app.add_typer(explain_app, name="explain")
student_app = typer.Typer(
    no_args_is_help=True, help="State that two keys are one student, or that facts are another's."
)
app.add_typer(student_app, name="student")


@explain_app.command("class")
def explain_class(
    class_id: str,
    home: HomeOption = DEFAULT_HOME,
    window: WindowOption = None,
    measure: MeasureOption = None,
    school_year: YearOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why a class is flagged or not: its numbers, its students' tests, and the lines they came from."""
    only = {"benchmark_window": window, "measure": measure, "school_year": school_year}
    _explain("class", class_id, home, as_json, only)


@explain_app.command("student")
def explain_student(
    subject_key: str,
    home: HomeOption = DEFAULT_HOME,
    window: WindowOption = None,
    measure: MeasureOption = None,
    school_year: YearOption = None,
    as_json: JsonOption = False,
) -> None:
    """A student's tiers, tests and cycles, and the lines they came from."""
    only = {"benchmark_window": window, "measure": measure, "school_year": school_year}
    _explain("student", subject_key, home, as_json, only)


@explain_app.command("cycle")
def explain_cycle(cycle_id: str, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """A cycle's sessions, probes and outcome, and the lines they came from."""
    _explain("cycle", cycle_id, home, as_json, {})


@student_app.command("merge")
def student_merge(
    one: str, other: str, reason: ReasonOption, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Two subject keys are one student. The smaller key is shown from the next run on."""
    from pipelines.corrections import merge

    _state(home, lambda place: merge(place, one, other, reason), as_json)


@student_app.command("unmerge")
def student_unmerge(
    one: str, other: str, reason: ReasonOption, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Take the merge of two subject keys back: all is as it was before."""
    from pipelines.corrections import unmerge

    _state(home, lambda place: unmerge(place, one, other, reason), as_json)


@student_app.command("split")
def student_split(
    here: Annotated[str, typer.Argument(metavar="FROM", help="Key under which the facts are shown.")],
    there: Annotated[str, typer.Argument(metavar="TO", help="Key of the student whose they are, or new.")],
    events: Annotated[list[str], typer.Argument(help="Event ids, as `tierline explain student` shows them.")],
    reason: ReasonOption,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """These facts are another student's. Splitting them back undoes it."""
    from pipelines.corrections import split

    _state(home, lambda place: split(place, here, there, events, reason), as_json)


@app.command()
def retract(
    event: Annotated[str, typer.Argument(help="Event id: that version. Natural key: the fact, in all its versions.")],
    reason: Annotated[str, typer.Option("--reason", help="A code of the list that a wrong one shows.")],
    note: Annotated[str | None, typer.Option("--note", help="Why, in words; kept with the notes alone.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take the retraction back.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take an event back: the version of the fact before it stands again."""
    from pipelines.corrections import retract as take_back

    _state(home, lambda place: take_back(place, event, reason, note=note, undo=undo), as_json)


def _state(home: Path, doing: Callable[[Home], dict[str, Any]], as_json: bool) -> None:
    place = Home(home)
    districts_of(place, None)

    from pipelines.corrections import NotPossible

    try:
        told = doing(place)
    except NotPossible as error:
        fail(str(error))
    if as_json:
        print_json(told)
        return
    conflicts = told.pop("conflicts", [])
    show_fields(told)
    if conflicts:
        show_table([list(each.values()) for each in conflicts], [name.replace("_", " ") for name in conflicts[0]])
    console_of().print("On record. `tierline run` brings the tables up to date.", markup=False)


def _explain(kind: str, key: str, home: Path, as_json: bool, only: dict[str, str | None]) -> None:
    place = Home(home)
    districts_of(place, None)

    from pipelines.explain import explain, narrowed

    sections = explain(place, kind, key)
    if not sections:
        fail(f"No {kind} is known by this id in {home}. `tierline status` says what is there.", NOTHING)
    sections = narrowed(sections, {column: value for column, value in only.items() if value is not None})
    if not sections:
        fail(f"This {kind} has nothing in the window, measure or school year asked for.", NOTHING)
    if as_json:
        print_json({title: rows.to_dicts() for title, rows in sections.items()})
        return
    for title, rows in sections.items():
        show_section(title, rows)
