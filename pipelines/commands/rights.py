"""Commands about the rights of students and families: erasure, amendment, statements, the log of disclosures."""

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.options import DEFAULT_HOME, NOTHING, HomeOption, JsonOption, districts_of, fail
from pipelines.terminal import console_of, print_json, progress, show_fields, show_section
from warehouse.home import Home

FROM_INPUT = "-"
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Subject key of the student.")]
OnOption = Annotated[str | None, typer.Option("--on", help="Day it happened; today if absent.")]
NoteOption = Annotated[str | None, typer.Option("--note", help="In words; kept with the notes alone.")]
CaseOption = Annotated[str | None, typer.Option("--case", help="Number of the request that is answered.")]
ON_RECORD = "On record."

app = typer.Typer()


@app.command()
def erase(
    student: Annotated[
        str, typer.Argument(help="A subject key, an id of the district, or - to be asked, so that no shell keeps it.")
    ],
    reason: Annotated[str, typer.Option("--reason", help="A code of the list that a wrong one shows.")],
    home: HomeOption = DEFAULT_HOME,
    district: Annotated[str | None, typer.Option("--district", "-d", help="Only this district.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask again.")] = False,
    undo_block: Annotated[
        bool, typer.Option("--undo-block", help="Let an erased student in again, by any id; nothing comes back by it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase a student from log, vault, archive, notes, tables and reports, and keep later exports from bringing them.

    Backups, copies that were exported and files in the landing folder are yours to look through. Releases already
    published are not changed.
    """
    place = _place(home)
    named = typer.prompt("Id or key", hide_input=True, err=True).strip() if student == FROM_INPUT else student

    from pipelines import erasure
    from pipelines.statements import NotPossible

    try:
        if undo_block:
            _tell(erasure.undo_block(place, named, reason, district=district), as_json, LET_IN)
            return
        found = erasure.look(place, named, district)
        if not yes:
            show_fields(found.told)
            typer.confirm("Erase this student for good?", abort=True, err=True)
        with progress(quiet=as_json) as say:
            told = erasure.erase(place, named, reason, district=found.district_id, say=say)
    except NotPossible as error:
        fail(str(error), NOTHING if "Nobody" in str(error) else 2)
    _tell(told, as_json, ERASED)


LET_IN = "Files that are loaded from now on bring the student's rows again. A file that was loaded before does not."
ERASED = (
    "Erased. Look through what this home does not reach: backups, exported copies, files in the landing folder, notes"
    " about other students. Releases already published are not changed. Run `tierline run` next."
)


@app.command()
def inspection(
    key: KeyArgument,
    case: CaseOption = None,
    on: OnOption = None,
    note: NoteOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """A family asked to see a record, or with --case saw it. Until then nothing of it is erased (34 CFR 99.10)."""
    from pipelines.rights import answer, ask

    day = _day(on)
    if case is None:
        _state(home, lambda place: ask(place, "inspection", key, day, note), as_json)
    else:
        _state(home, lambda place: answer(place, "inspection", key, case, "answered", day, note), as_json)


@app.command()
def amend(
    key: KeyArgument,
    case: CaseOption = None,
    decision: Annotated[str | None, typer.Option("--decision", help="granted or refused; goes with --case.")] = None,
    on: OnOption = None,
    note: NoteOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """A family asked to have a record amended, or with --case and --decision was answered (34 CFR 99.20, 99.21)."""
    from pipelines.rights import answer, ask

    if (case is None) != (decision is None):
        fail("--case and --decision go together: they answer a request. Without them a new request is recorded.")
    day = _day(on)
    if case is None or decision is None:
        _state(home, lambda place: ask(place, "amendment", key, day, note), as_json)
    else:
        _state(home, lambda place: answer(place, "amendment", key, case, decision, day, note), as_json)


@app.command("attach-statement")
def attach_statement(
    key: KeyArgument,
    file: Annotated[Path, typer.Argument(help="Text of the statement.", exists=True, dir_okay=False)],
    on: OnOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Keep a family's statement with a record; whoever explains the record sees that there is one (34 CFR 99.21)."""
    from pipelines.rights import attach_statement as attach

    day = _day(on)
    _state(home, lambda place: attach(place, key, file.read_text("utf-8"), day), as_json)


@app.command("log-disclosure")
def log_disclosure(
    key: KeyArgument,
    basis: Annotated[str, typer.Option("--basis", help="A code of the list that a wrong one shows.")],
    to: Annotated[str, typer.Option("--to", help="Who got what and for which interest; kept with the notes alone.")],
    on: OnOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """A student's record went to somebody (34 CFR 99.32)."""
    from pipelines.rights import log_disclosure as log

    day = _day(on)
    _state(home, lambda place: log(place, key, basis, to, day), as_json)


@app.command()
def disclosures(key: KeyArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """To whom a student's record went, when and why; for the person who keeps the records."""
    place = _place(home)

    from pipelines.rights import rights_of
    from pipelines.statements import NotPossible

    try:
        rows = rights_of(place, key, "DisclosureLogged", with_text=True)
    except NotPossible as error:
        fail(str(error))
    if as_json:
        print_json(rows.to_dicts())
    elif rows.is_empty():
        fail("No disclosure of this record is logged.", NOTHING)
    else:
        show_section("Disclosures", rows)


def _place(home: Path) -> Home:
    place = Home(home)
    districts_of(place, None)
    return place


def _day(text: str | None) -> date:
    try:
        return date.fromisoformat(text) if text else datetime.now().astimezone().date()
    except ValueError:
        fail(f"--on {text}: write a day such as 2026-10-31.")


def _state(home: Path, doing: Callable[[Home], dict[str, Any]], as_json: bool) -> None:
    place = _place(home)

    from pipelines.statements import NotPossible

    try:
        told = doing(place)
    except NotPossible as error:
        fail(str(error))
    _tell(told, as_json, ON_RECORD)


def _tell(told: dict[str, Any], as_json: bool, words: str) -> None:
    if as_json:
        print_json(told)
        return
    show_fields(told)
    console_of().print(words, markup=False, soft_wrap=True)
