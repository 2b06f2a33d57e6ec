"""An attacker in plain Python: rows of one or two releases, sums rebuilt from their keys, scipy's integer programme."""

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp


def proven(releases, layout, least, ceiling, wanted):
    """Least and greatest whole number of every withheld cell, by release, key and statistic, as far as wanted.

    Each release is a list of dicts with the keys, `statistic`, `kind`, `value` and `shown`. A cell with the same value
    in both releases is one unknown.
    """
    number, known, bounds, before = {}, {}, {}, {}
    for at, rows in enumerate(releases):
        students = {key_of(row, layout): row["value"] for row in rows if row["kind"] == "students"}
        for row in rows:
            name = (key_of(row, layout), row["statistic"])
            # 100 % of somebody is not the zero of nobody that an earlier release showed.
            value = row["value"], row["kind"] == "complement" and students[name[0]] == 0
            same = before.get(name) == value
            number[at, name] = number[at - 1, name] if same else len(bounds)
            bounds.setdefault(number[at, name], (0 if row["kind"] == "complement" else least, ceiling))
            before[name] = value
            if row["shown"]:
                known[number[at, name]] = row["value"]
    equations = []
    for at, rows in enumerate(releases):
        equations += [
            (number[at, total], [number[at, part] for part in parts]) for total, parts in sums(rows, layout).items()
        ]
    size = len(bounds)
    matrix = np.zeros((len(equations), size))
    for line, (total, parts) in enumerate(equations):
        for part in parts:
            matrix[line, part] += 1
        matrix[line, total] -= 1
    low = np.array([known.get(each, bounds[each][0]) for each in range(size)], float)
    high = np.array([known.get(each, bounds[each][1]) for each in range(size)], float)
    found = {}
    for each in sorted({number[place] for place in wanted} - set(known)):
        ends = []
        for sign in (1, -1):
            goal = np.zeros(size)
            goal[each] = sign
            answer = milp(
                goal, constraints=LinearConstraint(matrix, 0, 0), bounds=Bounds(low, high), integrality=np.ones(size)
            )
            ends.append(round(sign * answer.fun))
        found[each] = tuple(ends)
    return {place: found[each] for place, each in number.items() if each in found}


def key_of(row, layout):
    return tuple(row[key] for key in layout.keys)


def sums(rows, layout):
    """Total to parts, of every published crossing: as somebody would who reads the tables."""
    by_name = {(tuple(row[key] for key in layout.keys), row["statistic"]): row for row in rows}
    found = {}
    for name, row in by_name.items():
        for over in (*layout.places, *(key for key in layout.keys if key not in (*layout.places, *layout.apart))):
            if row[over] is None:
                continue
            if over in layout.places and any(
                row[deeper] is not None for deeper in layout.places[layout.places.index(over) + 1 :]
            ):
                continue
            total = (tuple(None if key == over else row[key] for key in layout.keys), name[1])
            if total in by_name:
                found.setdefault((total, over), []).append(name)
    merged = {(total, over): parts for (total, over), parts in found.items()}
    for name, row in by_name.items():
        if row["kind"] == "students":
            merged[name, "statistic"] = [
                (name[0], other["statistic"])
                for other in rows
                if other["kind"] != "students" and tuple(other[key] for key in layout.keys) == name[0]
            ]
    return Equations(merged)


class Equations(dict):
    """Totals may have parts in several ways; items() gives every one of them."""

    def items(self):
        return [(total, parts) for (total, _), parts in super().items()]


def every_table(relations, low, high):
    """All tables of whole numbers within bounds whose sums are right: enumerated, for a few withheld cells."""
    tables = np.stack(np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)), indexing="ij"))
    flat = tables.reshape(len(low), -1)
    return flat[:, ~(relations @ flat).any(axis=0)].T
