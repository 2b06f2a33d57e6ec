"""The event log: its envelope, its families, and what makes two records the same fact."""

from typing import Annotated, NamedTuple

import polars as pl

from schemas.contract import Contract, columns, field

SCHEMA_VERSION = 2
"""Of the payload columns: raised when one comes to mean something else; ``schemas.upcasts`` reads what is older."""
UNHASHED = frozenset({"stated_by"})
"""Payload columns that later versions added to facts which earlier ones stated: in no hash, or the same fact would be
another one after an upgrade."""
ALL_YEARS = "all"
"""The school year of facts that every year reads: merges, policy, calendars (SEMANTICS 2.4)."""

UTC = Annotated[pl.Datetime, "us", "UTC"]
STRAND = pl.Struct({"strand": pl.String, "score": pl.Float64, "standard_error": pl.Float64, "label": pl.String})
STRANDS = Annotated[pl.List, STRAND]


class Event(Contract):
    """A fact with its two times: when it was true in the school and, through the ledger, when it was learned.

    One row per version of a fact that was new when its file was loaded. ``recorded_at`` stands in the
    ledger row of the batch only.
    """

    event_id: pl.String = field("Keyed hash of event type, natural key, content and export time.", nullable=False)
    event_type: pl.String = field("What happened, in the past tense.", nullable=False)
    district_id: pl.String = field("District that supplied the fact.", nullable=False)
    school_year: pl.String = field("Ending year of the school year, or `all`.", nullable=False)
    subject_key: pl.String = field(
        "Random key first given to the id in the file's own id column; null where nobody is meant."
    )
    school_id: pl.String = field("School as the source names it; the roster's source id where the source is a roster.")
    occurred_on: pl.Date = field("The school's local day.")
    export_at: UTC = field("When the source exported it (UTC).", nullable=False)
    natural_key: pl.String = field("Keyed hash of which fact it is.", nullable=False)
    content_hash: pl.String = field("Keyed hash of the typed facts that count as content.", nullable=False)
    reason: pl.String = field("Code from a closed list saying why a correction or withdrawal was made.")
    batch_id: pl.String = field("The file this came from; joins the ingest ledger.", nullable=False)
    attempt: pl.Int64 = field(
        "Reading of the file that brought it; with the batch it joins one ledger row.", nullable=False
    )
    source_line: pl.Int64 = field("Physical line in that file where the record starts.")
    layout: pl.String = field("Layout that read it.", nullable=False)
    schema_version: pl.Int16 = field("Version of the payload columns.", nullable=False)


class ScreeningEvent(Event):
    """`ScreenerScored`, `ScreenerCorrected`, `ScreenerWithdrawn`. One row per version of one test of one student."""

    test_family: pl.String = field("Layouts of one vendor's test share a family.")
    measure: pl.String = field("Screening measure, such as `map_growth_math`.")
    test_name: pl.String = field("Name of the test as the vendor writes it.")
    form: pl.String = field("Form or level of the test, where the vendor names one.")
    vendor_test_id: pl.String = field("Vendor's id of the sitting; real files give one id to several students.")
    season_slot: pl.String = field("Season column of a wide layout, as the district names it.")
    window_label: pl.String = field("fall, winter or spring as the export labels it; `outside` where it says none.")
    started_at: pl.String = field("Local start time `HH:MM:SS` where the export has it.")
    grade: pl.String = field("Grade at the test: PK, K, 1 to 12.")
    score: pl.Float64 = field("Score, in the unit of the measure.")
    standard_error: pl.Float64 = field("Standard error of the score, in the unit of `standard_error_unit`.")
    standard_error_unit: pl.String = field("`score`, or `rasch` where it belongs to `rasch_score`.")
    rasch_score: pl.Float64 = field("Score on the Rasch scale, where exported.")
    percentile: pl.Float64 = field("National percentile rank as exported.")
    norm_version: pl.String = field("Norms behind the percentile, as exported.")
    placement: pl.String = field("Vendor's own placement or risk label.")
    is_growth_measure: pl.Boolean = field("Whether the vendor counts this test for growth.")
    is_withdrawn: pl.Boolean = field("True where the vendor withdrew the test.")
    is_invalid: pl.Boolean = field("True where the export marks the test as not valid.")
    rush_flag: pl.String = field("Vendor's rushing flag.")
    rapid_guessing_percent: pl.Float64 = field("Share of rapid guesses, in percent, as exported.")
    duration_minutes: pl.Float64 = field("Minutes of testing.")
    strands: STRANDS = field("Strand scores: vendor's strand name, score, standard error, label.")


class RosterEvent(Event):
    """Schools, terms, courses, classes and enrolments. One row per version of one such record."""

    school_name: pl.String = field("Name of the school.")
    org_type: pl.String = field("school, district, local, state, department or national.")
    class_id: pl.String = field("Source id of the class.")
    course_id: pl.String = field("Source id of the course.")
    term_id: pl.String = field("Source id of the academic session.")
    term_ids: pl.String = field("Source ids of a class's academic sessions, separated by `;`.")
    session_type: pl.String = field("gradingPeriod, semester, schoolYear or term.")
    parent_id: pl.String = field("Source id of the parent organisation or session.")
    begin_on: pl.Date = field("First day of the term or enrolment.")
    end_on: pl.Date = field("Last day of the term or enrolment.")
    course_code: pl.String = field("Course code.")
    course_title: pl.String = field("Title of the course (class titles stay in the vault).")
    subjects: pl.String = field("Subjects, separated by `;`.")
    subject_codes: pl.String = field("Subject codes such as SCED, separated by `;`.")
    class_type: pl.String = field("homeroom or scheduled.")
    grades: pl.String = field("Grades of a class or course, separated by `;`.")
    title_terms: pl.String = field(
        "Words of the section vocabulary found in the class title or code, separated by `;`."
    )
    role: pl.String = field("Role of the person enrolled.")
    is_primary: pl.Boolean = field("Whether the enrolment is marked primary.")
    is_deleted: pl.Boolean = field("True where the source deleted the record.")


class DescriptionEvent(Event):
    """`StudentDescribed`. One row per version of one group value of one student."""

    group_kind: pl.String = field("What the value describes, such as `grade` or `english_learner`.")
    group_value: pl.String = field("The value; unknown is no row, never false.")
    valid_from: pl.Date = field("First day the value held, where the source says.")
    valid_to: pl.Date = field("Last day the value held, where the source says.")


class NotTestedEvent(Event):
    """`NotTested`. One row per version of one student's missing test of one measure and window."""

    measure: pl.String = field("Screening measure.")
    window_label: pl.String = field("fall, winter or spring.")
    status: pl.String = field("absent, refused, exempt_alternate or invalid.")


class PlanEvent(Event):
    """Referrals, team decisions and plans. One row per version of one of them."""

    row_id: pl.String = field("Row id of the source.")
    referred_by: pl.String = field("teacher, family, counselor, self or other.")
    concern: pl.String = field("Code of the concern.")
    tier: pl.Int8 = field("Tier a team decided.")
    plan_kind: pl.String = field("Kind of plan written.")
    note_chars: pl.Int64 = field("Length of the note; the text itself stays in the notes store.")


class CycleEvent(Event):
    """Intervention cycles: opened, joined, left, goal met, closed. One row per version of one of these."""

    cycle_id: pl.String = field("Cycle as the source names it.")
    group_id: pl.String = field("Group as the source names it.")
    tier: pl.Int8 = field("Tier of the support.")
    concept: pl.String = field("Concept on a learning progression.")
    intervention: pl.String = field("Intervention or programme.")
    measure: pl.String = field("Progress-monitoring measure.")
    planned_sessions: pl.Int64 = field("Sessions planned.")
    session_minutes: pl.Float64 = field("Minutes planned for one session.")
    planned_end_on: pl.Date = field("Last planned day.")
    parent_goal: pl.String = field("Longer goal the cycle belongs to.")
    baseline: pl.Float64 = field("Starting score of the student, in the unit of the measure.")
    goal_score: pl.Float64 = field("Goal of the student, in the unit of the measure.")
    leave_reason: pl.String = field("regrouped, moved, exited or other.")
    close_reason: pl.String = field("completed, abandoned or other.")


class SessionEvent(Event):
    """Sessions, attendance, evidence and probes. One row per version of one of these."""

    cycle_id: pl.String = field("Cycle as the source names it.")
    group_id: pl.String = field("Group as the source names it.")
    starts_at: pl.String = field("Scheduled local start, `YYYY-MM-DDTHH:MM:SS`; the day alone where no time is known.")
    planned_minutes: pl.Float64 = field("Minutes planned.")
    held_minutes: pl.Float64 = field("Minutes held.")
    launch_minutes: pl.Float64 = field("Minutes of launch.")
    problem_minutes: pl.Float64 = field("Minutes of problem or game.")
    closure_minutes: pl.Float64 = field("Minutes of closure.")
    fidelity_share: pl.Float64 = field("Share of the fidelity checklist met.")
    cancel_reason: pl.String = field("Code saying why a session was cancelled.")
    attendance: pl.String = field("present, partial, absent or unknown.")
    attended_minutes: pl.Float64 = field("Minutes the student was there; null where not recorded.")
    session_ratio: pl.String = field("Students to tutors, as `3:1`.")
    tutor_key: pl.String = field("Pseudonym of the tutor.")
    evidence_kind: pl.String = field("quote, strategy, model, social_emotional or growth.")
    row_id: pl.String = field("Row id of the source.")
    note_chars: pl.Int64 = field("Length of the note; the text itself stays in the notes store.")
    measure: pl.String = field("Progress-monitoring measure of a probe.")
    form: pl.String = field("Form of a probe.")
    score: pl.Float64 = field("Score of a probe.")
    goal_score: pl.Float64 = field("Goal exported beside a probe.")


class ContextEvent(Event):
    """Curriculum, engagement and family contact. One row per version of one report."""

    row_id: pl.String = field("Row id of the source.")
    class_id: pl.String = field("Class meant, where it is one.")
    contact_kind: pl.String = field("Way a family was contacted.")
    material: pl.String = field("Curriculum material.")
    is_aligned: pl.Boolean = field("Whether the material is aligned to standards.")
    engagement: pl.String = field("Engagement code.")
    note_chars: pl.Int64 = field("Length of the note; the text itself stays in the notes store.")


class IdentityEvent(Event):
    """`StudentMerged`, `StudentMergeReversed`, `StudentSplit`, `StudentIdentified`. School year is `all`.

    One row per version of a pair of subject keys that are one student, of a fact that is another student's, or of
    the state id of a student.
    """

    loser_key: pl.String = field("Key that is no longer shown; null for a split.")
    winner_key: pl.String = field("Smaller of the two keys, which stands for both when the log is read.")
    is_reversed: pl.Boolean = field("True where a person took the merge back.")
    moved_key: pl.String = field("Natural key of a fact that is another student's; null for a merge.")
    from_key: pl.String = field("Key the fact was shown under when it was moved.")
    to_key: pl.String = field("Key of the student whose fact it is, in all its versions.")
    state_id_hash: pl.String = field(
        "Keyed hash of the student's one state id, where the home links districts; null where it is no longer known."
    )
    stated_by: pl.String = field("roster or person: whose word it is.")


class LogEvent(Event):
    """`EventRetracted`, `EventRestored`, `SubjectErased`: what the log no longer says. School year is `all`.

    One row per version of a retraction, per erasure and per event that was erased. A retraction takes back one version
    of a fact, for as long as the exports say the same; the version before it then stands. Its target may arrive later.
    Where an event was erased stands a row of its reading with random ids, so that the log still has as many events as
    the ledger counts.
    """

    target_family: pl.String = field("Event family of the target.")
    target_key: pl.String = field("Natural key of the target.")
    target_hash: pl.String = field("Content hash of the target.")
    target_at: UTC = field("When the source exported the target.")
    is_restored: pl.Boolean = field("True where a person took the retraction back, or let an erased student in again.")


class RightsEvent(Event):
    """What a student's family asked, what was decided, and to whom the record went (34 CFR 99.10, 99.20, 99.32).

    One row per version of one request, decision, statement or disclosure. School year is `all`.
    """

    row_id: pl.String = field("Number of the case; a decision has that of its request.")
    decision: pl.String = field("granted, refused or answered; null where nothing is decided.")
    basis: pl.String = field("Why a record could be disclosed: a code of the list.")
    note_chars: pl.Int64 = field("Length of the text; the text itself stays in the notes store.")


class RuleEvent(Event):
    """`PolicySet`, `CalendarSet`, `LayoutAliasAdded`, `DistrictLinksSet`: what people decided.

    One row per version of a district's policy from a day on, of a year's calendar, of the headers that a layout's
    columns have here, or of the agreement by which history follows a student from and to other districts.
    """

    valid_from: pl.Date = field("First day the policy is for; null for a calendar.")
    calendar_year: pl.String = field("School year of a calendar; null for a policy.")
    document: pl.String = field(
        "What the district says, as JSON; what it leaves out takes the default. Of a layout: headers by column."
    )
    is_retroactive: pl.Boolean = field("Whether it changed windows that were closed already.")
    aliased_layout: pl.String = field("Layout whose columns have other headers here; null for policies and calendars.")


FAMILIES: dict[str, type[Event]] = {
    "screening": ScreeningEvent,
    "roster": RosterEvent,
    "description": DescriptionEvent,
    "not_tested": NotTestedEvent,
    "plan": PlanEvent,
    "cycle": CycleEvent,
    "session": SessionEvent,
    "context": ContextEvent,
    "identity": IdentityEvent,
    "rules": RuleEvent,
    "log": LogEvent,
    "rights": RightsEvent,
}
"""Event families; each is one Delta table of the log."""

ENVELOPE: tuple[str, ...] = tuple(columns(Event))
PAYLOADS: dict[str, tuple[str, ...]] = {
    family: tuple(name for name in columns(contract) if name not in ENVELOPE) for family, contract in FAMILIES.items()
}
"""Payload columns of each family, in the order in which they are hashed; those of ``UNHASHED`` are not."""


class Sighting(Contract):
    """What every reading of a fact saw. One row per fact and reading of a file."""

    district_id: pl.String = field("District.", nullable=False)
    family: pl.String = field("Event family.", nullable=False)
    natural_key: pl.String = field("Which fact.", nullable=False)
    content_hash: pl.String = field("What it said.", nullable=False)
    export_at: UTC = field("When the source exported it.", nullable=False)
    batch_id: pl.String = field("File that showed it.", nullable=False)
    attempt: pl.Int64 = field("Reading of the file.", nullable=False)


class ExtractScope(Contract):
    """What a file that was declared a full extract speaks of. One row per scope, school and reading of the file."""

    district_id: pl.String = field("District.", nullable=False)
    layout: pl.String = field("Layout that read it.", nullable=False)
    scope: pl.String = field("Values of the layout's subject area and term, separated by `/`.", nullable=False)
    school_id: pl.String = field("School of which the file has rows there.")
    export_at: UTC = field("When the source exported it.", nullable=False)
    is_confirmed: pl.Boolean = field(
        "Whether a person confirmed that what it lacks was removed on purpose.", nullable=False
    )
    batch_id: pl.String = field("The file.", nullable=False)
    attempt: pl.Int64 = field("Reading of the file.", nullable=False)


class ExtractGap(Contract):
    """What a full extract has and nobody could read or match. One row per test or student and reading of the file."""

    district_id: pl.String = field("District.", nullable=False)
    layout: pl.String = field("Layout that read it.", nullable=False)
    export_at: UTC = field("When the source exported it.", nullable=False)
    natural_key: pl.String = field("Test in a row that waits for a roster match.")
    subject_key: pl.String = field("Student of a row that could not be read: none of the student's tests vanishes.")
    batch_id: pl.String = field("The file.", nullable=False)
    attempt: pl.Int64 = field("Reading of the file.", nullable=False)


class ParkedRow(Contract):
    """Rows that wait for a roster match. One row per line, batch and attempt."""

    district_id: pl.String = field("District.", nullable=False)
    batch_id: pl.String = field("File.", nullable=False)
    attempt: pl.Int64 = field("Reading of the file.", nullable=False)
    source_line: pl.Int64 = field("Physical line where the record starts.", nullable=False)


class Note(Contract):
    """Free text typed by people. One row per note; kept in its own root, closed to others."""

    district_id: pl.String = field("District.", nullable=False)
    batch_id: pl.String = field("File.", nullable=False)
    attempt: pl.Int64 = field("Reading of the file.", nullable=False)
    natural_key: pl.String = field("Fact the note belongs to.", nullable=False)
    text: pl.String = field("The text.", nullable=False)


class Key(NamedTuple):
    """One way to say which fact a row is."""

    parts: tuple[str, ...]
    """Columns of the key, in order; nulls are left out. `ordinal` counts equal keys within one file."""
    needs: tuple[str, ...] = ()
    """Columns that must not be null for this way to apply."""


class EventType(NamedTuple):
    """Where an event type is kept and which facts it states."""

    family: str
    kind: str
    """Natural-key kind; types that correct one another share it."""
    keys: tuple[Key, ...]
    """The first whose needs are met decides, row by row (SEMANTICS 1.1)."""


_SOURCE_ROW = Key(("row_id",), needs=("row_id",))
_PERSON_RECORD = (_SOURCE_ROW, Key(("subject_key", "occurred_on", "ordinal")))
_CLASS_RECORD = (_SOURCE_ROW, Key(("class_id", "occurred_on", "ordinal")))
_TEST = (
    Key(("subject_key", "measure", "vendor_test_id"), needs=("vendor_test_id",)),
    Key(("subject_key", "measure", "school_year", "season_slot"), needs=("season_slot",)),
    Key(("subject_key", "measure", "form", "occurred_on", "started_at"), needs=("started_at",)),
    Key(("subject_key", "measure", "form", "occurred_on", "ordinal")),
)
_GROUP_SESSION = Key(("group_id", "starts_at"), needs=("group_id",))
_TUTORING = Key(("subject_key", "starts_at", "tutor_key"))
_PAIR = (Key(("loser_key", "winner_key")),)
_TARGET = (Key(("target_key", "target_hash", "target_at")),)
_CASE = (Key(("subject_key", "row_id")),)

EVENT_TYPES: dict[str, EventType] = {
    "ScreenerScored": EventType("screening", "test", _TEST),
    "SchoolListed": EventType("roster", "school", (Key(("school_id",)),)),
    "TermListed": EventType("roster", "term", (Key(("term_id",)),)),
    "CourseListed": EventType("roster", "course", (Key(("course_id",)),)),
    "ClassListed": EventType("roster", "class", (Key(("class_id",)),)),
    "StudentEnrolled": EventType("roster", "enrolled", (Key(("subject_key", "class_id", "begin_on")),)),
    "EnrollmentEnded": EventType("roster", "enrolment_ended", (Key(("subject_key", "class_id", "begin_on")),)),
    "StudentDescribed": EventType(
        "description", "described", (Key(("subject_key", "group_kind", "school_year", "valid_from")),)
    ),
    "NotTested": EventType(
        "not_tested", "not_tested", (Key(("subject_key", "measure", "school_year", "window_label")),)
    ),
    "StudentReferred": EventType("plan", "referred", _PERSON_RECORD),
    "TierAssigned": EventType("plan", "tier_assigned", _PERSON_RECORD),
    "PlanWritten": EventType("plan", "plan_written", _PERSON_RECORD),
    "CycleOpened": EventType(
        "cycle",
        "cycle_opened",
        (Key(("school_id", "cycle_id"), needs=("cycle_id",)), Key(("school_id", "group_id", "occurred_on"))),
    ),
    "StudentJoined": EventType("cycle", "cycle_joined", (Key(("cycle_id", "subject_key", "occurred_on")),)),
    "StudentLeft": EventType("cycle", "cycle_left", (Key(("cycle_id", "subject_key", "occurred_on")),)),
    "GoalMet": EventType("cycle", "goal_met", (Key(("cycle_id", "subject_key", "occurred_on")),)),
    "CycleClosed": EventType("cycle", "cycle_closed", (Key(("cycle_id", "occurred_on")),)),
    "SessionScheduled": EventType("session", "session_scheduled", (_GROUP_SESSION,)),
    "SessionHeld": EventType("session", "session_held", (_GROUP_SESSION, _TUTORING)),
    "SessionCancelled": EventType("session", "session_cancelled", (_GROUP_SESSION,)),
    "AttendanceRecorded": EventType(
        "session",
        "attendance",
        (Key(("group_id", "starts_at", "subject_key"), needs=("group_id",)), _TUTORING),
    ),
    "EvidenceNoted": EventType("session", "evidence", _PERSON_RECORD),
    "ProbeScored": EventType("session", "probe", (Key(("subject_key", "measure", "form", "occurred_on", "ordinal")),)),
    "CurriculumReported": EventType("context", "curriculum", _CLASS_RECORD),
    "EngagementObserved": EventType("context", "engagement", _CLASS_RECORD),
    "FamilyContacted": EventType("context", "contact", _PERSON_RECORD),
    "StudentMerged": EventType("identity", "merged", _PAIR),
    "StudentMergeReversed": EventType("identity", "merged", _PAIR),
    "StudentSplit": EventType("identity", "split", (Key(("moved_key",)),)),
    "StudentIdentified": EventType("identity", "state_id", (Key(("subject_key",)),)),
    "EventRetracted": EventType("log", "retracted", _TARGET),
    "EventRestored": EventType("log", "retracted", _TARGET),
    "InspectionRequested": EventType("rights", "inspection", _CASE),
    "InspectionAnswered": EventType("rights", "inspection_answered", _CASE),
    "AmendmentRequested": EventType("rights", "amendment", _CASE),
    "AmendmentDecided": EventType("rights", "amendment_decided", _CASE),
    "StatementAttached": EventType("rights", "statement", _CASE),
    "DisclosureLogged": EventType("rights", "disclosure", _CASE),
    "PolicySet": EventType("rules", "policy", (Key(("valid_from",)),)),
    "CalendarSet": EventType("rules", "calendar", (Key(("calendar_year",)),)),
    "LayoutAliasAdded": EventType("rules", "layout_alias", (Key(("aliased_layout",)),)),
    "DistrictLinksSet": EventType("rules", "district_links", (Key(()),)),
}
"""Event types a layout may state; corrections and withdrawals are later versions of `ScreenerScored`."""

SUBJECT_ERASED = "SubjectErased"
"""Stands for an erasure, and for each event that was erased; its ids are random and no hash of anything."""
ERASURE_REASONS = ("request", "contract_end", "court_order", "not_ours", "other")
"""Why a student is erased: the closed list of `reason`."""
UNDO_REASONS = ("enrolled_again", "erased_by_mistake", "court_order", "other")
"""Why an erased student is let in again."""
DISCLOSURE_BASES = (
    "consent",
    "new_school",
    "audit_or_evaluation",
    "study",
    "financial_aid",
    "accreditation",
    "court_order",
    "emergency",
    "child_welfare",
    "other",
)
"""Why a record could be disclosed (34 CFR 99.30, 99.31), but for disclosures that need no log (99.32(d))."""

RETRACTION_REASONS = ("wrong_student", "correction_was_wrong", "entered_in_error", "not_given", "other")
"""Why a person takes an event back: the closed list of `reason`. What they type stays in the notes store."""
