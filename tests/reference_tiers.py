"""Slow, obvious version of tiers: one student after another, window by window."""

from datetime import date
from typing import Any

from schemas.policy import DistrictPolicy

Row = dict[str, Any]
SEASONS = ("fall", "winter", "spring")


def combined(needs: list[Row], last_cycle: Row | None, policy: DistrictPolicy) -> Row | None:
    """What the tests of one student in one window say together; None without a test of the primary measure.

    ``needs`` are tested rows `measure, need_level, p_tier_2, p_tier_3`, most tested measure first.
    """
    rule, primary_name = policy.tiers, policy.primary_measures["4"]
    by_name = {row["measure"]: row for row in needs}
    usable = [name for name in (primary_name, *rule.fallback_measures) if name in by_name]
    if not usable:
        return None
    primary = by_name[usable[0]]
    others = [row for row in needs if row is not primary and row["p_tier_2"] is not None]
    if rule.secondary_measures:
        others = [by_name[name] for name in rule.secondary_measures if name in by_name and by_name[name] in others]
    other = others[0] if others else None
    said: Row = {"measure": primary["measure"], "secondary_measure": None, "p2": None, "p3": None, "confidence": None}
    if primary["p_tier_2"] is None:
        return said
    if rule.combine in ("any", "all"):
        pick = max if rule.combine == "any" else min
        p2 = pick(row["p_tier_2"] for row in needs if row["p_tier_2"] is not None)
        p3 = pick(row["p_tier_3"] for row in needs if row["p_tier_3"] is not None)
        return said | {"p2": p2, "p3": p3, "confidence": "high", "corroborated": True}
    said |= {"p2": primary["p_tier_2"], "p3": primary["p_tier_3"], "confidence": "high", "corroborated": True}
    if rule.combine == "primary_only":
        return said
    if rule.sure_below < primary["p_tier_2"] < rule.sure_above:
        if other is None:
            said["confidence"] = "low"
        else:
            said["p2"] = other["p_tier_2"]
    said["secondary_measure"] = other["measure"] if other else None
    poor = last_cycle is not None and last_cycle["response"] == "poor" and last_cycle["tier"] == 2
    said["corroborated"] = poor or (other is not None and other["need_level"] == "tier_3")
    return said


def last_closed(cycles: list[Row], day: date) -> Row | None:
    """The last cycle of one student and year closed by this day; ``cycles`` have no two closed on one day."""
    done = [cycle for cycle in cycles if cycle["closed_on"] is not None and cycle["closed_on"] <= day]
    return max(done, key=lambda cycle: cycle["closed_on"], default=None)


class Student:
    """State of one student from window to window."""

    def __init__(self) -> None:
        self.tier: int | None = None
        self.recommended_on: date | None = None
        self.streak_2 = self.streak_3 = self.without = 0

    def window(self, day: date, said: Row | None, response: str | None, assigned: list[Row], rule: Any) -> Row:
        """One step; ``assigned`` are all the team's decisions ever, `on, tier`."""
        earlier = [each for each in assigned if each["on"] < day]
        latest = max(earlier, key=lambda each: each["on"], default=None)
        by = "recommendation" if self.tier is not None else None
        if latest and (self.recommended_on is None or latest["on"] >= self.recommended_on):
            self.tier, by = latest["tier"], "team"
            self.streak_2 = self.streak_3 = self.without = 0
        self.recommended_on = day
        before = self.tier
        row = {"tier_before": before, "tier_before_by": by, "is_stale": False}
        if said is None or said["p2"] is None:
            self.without += 1
            if before is None:
                reason = None
            elif self.without <= rule.carry_windows:
                reason = "carried_forward_no_test" if said is None else "carried_forward_rule_cannot_say"
                row["is_stale"] = True
            else:
                reason = "no_test_for_too_long"
            return row | {"tier": before if row["is_stale"] else None, "reason": reason} | self.counts()
        self.without = 0
        p2, p3, corroborated = said["p2"], said["p3"], said["corroborated"]
        self.streak_2 = self.streak_2 + 1 if p2 < rule.enter else 0
        self.streak_3 = self.streak_3 + 1 if p3 < rule.enter else 0
        tier = before or 1
        after, reason = tier, "stay"
        p, streak = (p3, self.streak_3) if tier == 3 else (p2, self.streak_2)
        calm = response not in ("poor", "questionable")
        if tier == 1 and p3 >= rule.enter and corroborated and rule.allow_skip:
            after, reason = 3, "enter_t3"
        elif tier == 1 and p2 >= rule.enter:
            after, reason = 2, "enter_t2"
        elif tier == 2 and p3 >= rule.enter and (corroborated or response == "poor"):
            after, reason = 3, "enter_t3"
        elif tier > 1 and p <= rule.exit and calm:
            after, reason = tier - 1, "exit_confident"
        elif tier > 1 and p < rule.enter and streak >= rule.streak and response != "poor":
            after, reason = tier - 1, "exit_persistent"
        if after != tier:
            self.streak_2 = self.streak_3 = 0
        self.tier = after
        return row | {"tier": after, "reason": reason} | self.counts()

    def counts(self) -> Row:
        """What the next window needs."""
        return {"streak_2": self.streak_2, "streak_3": self.streak_3, "windows_without_test": self.without}
