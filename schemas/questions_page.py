"""docs/questions.md, written from the contracts of the answers."""

from pathlib import Path

from schemas.answers import ANSWERS, SCALARS, Answer
from schemas.contract import descriptions, summary

PATH = Path(__file__).parent.parent / "docs" / "questions.md"
_OPENING = """# Twenty questions

Written from `schemas/answers.py` by `make docs`; a test runs every question and counts its answer again.

Open the file read-only and begin with the list:

```
duckdb -readonly data/warehouse.duckdb "from answers.question"
```

Every answer is a view or a table macro in the schema `answers`. Put your own district, school year, window and day into
the SQL below; `tierline demo` makes a district `d001` with which every line runs as it stands. Without the condition on
`district_id` a question is asked of all districts in the file.

- **As of a day** means: the window in force on that day, in each district the window whose reference date is the
  latest on or before the day; `answers.window_on(day)` lists them. It is answered with all that is known today, later
  corrections included. What was known on a past day is another question: `tierline run --as-of DAY --out FOLDER`
  rebuilds the warehouse of that day.
- **A rate has its n and a 95 % interval.** Look at the interval before you compare two shares. Sessions and rows of a
  file are counted completely, so their shares have an n and no interval. For shares of your own there are
  {scalars}.
- **Null is unknown**, never zero. A district that supplied no cycles has null where a cycle would have to be known.
- **No thresholds stand in the SQL.** Cuts, tau and lengths of cycles are policy and were applied before; their values
  are columns, such as `tau` and `need_cut`, and `docs/policy.md` explains them.
- **No order of merit.** Answers are listed by school and class. Flags are for looking at instruction, not at persons.
- Every answer is an education record, not de-identified. Small counts are shown; do not pass them on.

All columns of every view stand in [tables.md](tables.md).
"""


def questions_page() -> str:
    """Every question in plain words, the SQL that asks it, and what each column of the answer means."""
    scalars = " and ".join(f"`answers.{name}({', '.join(given)})`" for name, (given, _) in SCALARS.items())
    parts = [_OPENING.format(scalars=scalars)]
    return "\n".join([*parts, *(_question(number, each) for number, each in enumerate(ANSWERS, start=1))])


def _question(number: int, answer: Answer) -> str:
    told = descriptions(answer.contract)
    rows = [f"| `{name}` | {told[name]} |".replace(" >", " \\>") for name in answer.asked]
    more = summary(answer.contract).removeprefix(answer.question).strip()
    head = ["| column | meaning |", "| --- | --- |"]
    sql = ["```sql", answer.sql, "```"]
    return "\n".join([f"## {number}. {answer.question}\n", more, "", *sql, "", *head, *rows, ""])
