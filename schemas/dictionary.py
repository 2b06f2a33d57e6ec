"""The data dictionary, written from the contracts.

``python -m schemas.dictionary`` writes docs/tables.md, docs/questions.md and the reference part of docs/policy.md.
"""

from pathlib import Path

from schemas import policy_page, questions_page
from schemas.answers import ANSWERS, HELPERS, SCALARS, Answer, Question
from schemas.contract import Contract, columns, descriptions, nullable, summary, table_name
from schemas.events import FAMILIES, ExtractGap, ExtractScope, Note, ParkedRow, Sighting
from schemas.marts import MARTS
from schemas.projections import PROJECTIONS, IngestLedger, RejectedRow
from schemas.reports import REPORTS

PATH = Path(__file__).parent.parent / "docs" / "tables.md"
_OPENING = """# Tables

Written from the contracts in `schemas/` by `make docs`; a test fails when it is out of date.
`answers`, `marts`, `projections` and `log` are schemas of `warehouse.duckdb`; the event families, sightings, full
extracts, parked rows and notes are Delta tables only. Every table is an education record, not de-identified, but for
the two that `tierline publish-state` writes for others: `reports.state_aggregate` and `reports.state_aggregate_counts`.
"""


def dictionary() -> str:
    """Every table with its meaning, grain, columns and types."""
    parts = [_OPENING]
    parts += ["## answers: views and table macros for [twenty questions](questions.md)\n"]
    parts += [_table(Question, table_name(Question)), *(_answer(each) for each in (*ANSWERS, *HELPERS)), _scalars()]
    parts += ["## marts: what analysts query\n", *(_table(each, table_name(each)) for each in MARTS)]
    parts += ["## projections: state derived from the log\n", *(_table(each, table_name(each)) for each in PROJECTIONS)]
    parts += ["## log: files and rows\n", *(_table(each, table_name(each)) for each in (IngestLedger, RejectedRow))]
    parts += ["## reports: files of a state's releases\n", *(_table(each, table_name(each)) for each in REPORTS)]
    parts += ["## Delta only: the event log\n", *(_table(contract, name) for name, contract in FAMILIES.items())]
    parts += [_table(each, table_name(each)) for each in (Sighting, ExtractScope, ExtractGap, ParkedRow, Note)]
    return "\n".join(parts)


def _table(contract: type[Contract], name: str) -> str:
    optional, told = nullable(contract), descriptions(contract)
    rows = [
        f"| `{column}` | {_type(dtype)} | {'' if column in optional else 'never'} | {told[column]} |"
        for column, dtype in columns(contract).items()
    ]
    head = ["| column | type | null | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([f"### {name}\n", summary(contract), "", *head, *(row.replace(" >", " \\>") for row in rows), ""])


def _answer(answer: Answer) -> str:
    given = f"({', '.join(answer.parameters)})" if answer.parameters else ""
    told = _table(answer.contract, f"{table_name(answer.contract)}{given}")
    listed = "".join(f"- `{name}`: {meaning}\n" for name, meaning in answer.parameters.items())
    return f"{told}\n{listed}" if listed else told


def _scalars() -> str:
    listed = [f"- `{name}({', '.join(given)})`: {meaning}" for name, (given, meaning) in SCALARS.items()]
    return "\n".join(["### Macros for shares of your own\n", *listed, ""])


def _type(dtype: object) -> str:
    text = str(dtype)
    if text.startswith("List"):
        return "list of strands"
    return "UTC time" if text.startswith("Datetime") else text.lower()


if __name__ == "__main__":
    PATH.write_text(dictionary(), "utf-8")
    questions_page.PATH.write_text(questions_page.questions_page(), "utf-8")
    policy_page.PATH.write_text(policy_page.policy_page(policy_page.PATH.read_text("utf-8")), "utf-8")
