"""The report: what its pages say and do not say, where they lie, who may open them, and that links lead somewhere."""

import re
import shutil
import stat
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines import cli
from pipelines.commands.options import DONE, NOTHING
from pipelines.partitions import add_districts, run_tags
from pipelines.report import words
from pipelines.report.asset import REPORT, REPORTS
from pipelines.report.names import NamesRefused
from pipelines.report.page import class_path, school_path, slug
from pipelines.report.rates import Scale
from pipelines.report.reading import NothingToReport, Reading
from pipelines.report.site import PAGES, Built, build_report, rendered
from pipelines.work import Work
from schemas.projections import LEVELS
from tests.conftest import Lived
from tests.homes import Place, map_file, map_row
from tests.test_wording import BLAME, teachers
from warehouse import publish
from warehouse.home import Home
from warehouse.publish import ask

PAGE_LIMIT = 3_000_000
VOID = {"meta", "link", "br", "img", "input", "hr"}


@pytest.fixture(scope="module")
def built(lived: Lived, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_report(lived.home, lived.district, out=tmp_path_factory.mktemp("reports"))


@pytest.fixture(scope="module")
def pages(built: Built) -> dict[str, str]:
    return read(built.folder)


def read(folder: Path) -> dict[str, str]:
    """Every page by its path in the site."""
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in folder.rglob("*.html")}


class Marks(HTMLParser):
    """Ids, links and headings of a page, and its text without scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[int] = []
        self.outside: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self._open.append(tag)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "a":
            self.links.append(str(found.get("href")))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.outside += [
            str(value) for name, value in attrs if name in ("src", "srcset", "action", "data", "style-src")
        ]
        if tag == "link":
            self.outside.append(str(found.get("href")))

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def marks(pages: dict[str, str]) -> dict[str, Marks]:
    return {path: Marks(page) for path, page in pages.items()}


def rows(lived: Lived, query: str) -> pl.DataFrame:
    found = ask(lived.home.warehouse, query)
    assert found is not None
    return found


# The site as files


def test_there_is_a_page_for_every_school_and_class(lived: Lived, built: Built, pages: dict[str, str]):
    flags = rows(lived, "select distinct school_id, class_id from marts.classroom_flag")
    wanted = {"index.html", "schools/index.html"}
    wanted |= {school_path(each) for each in flags["school_id"]} | {class_path(each) for each in flags["class_id"]}
    assert wanted <= set(pages)
    assert built.pages == len(pages)
    assert built.bytes == sum(len(page.encode()) for page in pages.values())


def test_every_link_leads_to_a_page_and_every_fragment_to_a_place_on_it(marks: dict[str, Marks]):
    followed = 0
    for path, page in marks.items():
        for link in page.links:
            to, _, fragment = link.partition("#")
            where = Path("/", path).parent.joinpath(to).resolve().relative_to("/").as_posix() if to else path
            assert where in marks, (path, link)
            assert not fragment or fragment in marks[where].ids, (path, link)
            followed += 1
    assert followed > 500


def test_every_page_can_be_reached_from_the_first(marks: dict[str, Marks]):
    reached, left = {"index.html"}, ["index.html"]
    while left:
        path = left.pop()
        for link in marks[path].links:
            to = link.partition("#")[0]
            where = Path("/", path).parent.joinpath(to).resolve().relative_to("/").as_posix() if to else path
            if where not in reached:
                reached.add(where)
                left.append(where)
    assert reached == set(marks)


def test_nothing_comes_from_outside_the_page(pages: dict[str, str], marks: dict[str, Marks]):
    for path, page in pages.items():
        assert marks[path].outside == [], path
        assert not re.search(r"@import|url\(", page), path
        assert set(re.findall(r"https?://[^\"' <)]+", page)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }, path
        assert "default-src 'none'" in page


def test_no_page_is_large(pages: dict[str, str]):
    assert max(len(page.encode()) for page in pages.values()) < PAGE_LIMIT


def test_ids_are_unique_and_headings_step_by_step(marks: dict[str, Marks]):
    for path, page in marks.items():
        assert len(page.ids) == len(set(page.ids)), path
        assert page.headings[0] == 1 and page.headings.count(1) == 1, path
        steps = zip(page.headings, page.headings[1:], strict=False)
        assert all(after <= before + 1 for before, after in steps), path


@pytest.mark.slow
def test_a_second_report_is_the_same_to_the_byte(lived: Lived, pages: dict[str, str], tmp_path: Path):
    again = build_report(lived.home, lived.district, out=tmp_path)
    for path, page in pages.items():
        assert (again.folder / path).read_text("utf-8") == page


def test_a_new_report_takes_the_place_of_the_old_and_leaves_nothing_beside(
    lived: Lived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipelines.report.site.PAGES", PAGES[:1])
    (tmp_path / lived.district).mkdir()
    (tmp_path / lived.district / "old.html").touch()
    built = build_report(lived.home, lived.district, out=tmp_path)
    assert [each.name for each in tmp_path.iterdir() if each.is_dir()] == [lived.district]
    assert not (built.folder / "old.html").exists()


@pytest.mark.slow
def test_a_report_that_fails_leaves_the_old_one(lived: Lived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / lived.district).mkdir()
    (tmp_path / lived.district / "old.html").touch()

    def broken(*_: Any) -> Any:
        raise OSError("disk")

    monkeypatch.setattr("pipelines.report.site.rendered", broken)
    with pytest.raises(OSError, match="disk"):
        build_report(lived.home, lived.district, out=tmp_path)
    assert [each.name for each in tmp_path.rglob("*") if each.suffix != ".lock"] == [lived.district, "old.html"]


@pytest.mark.slow
def test_each_table_is_asked_once(lived: Lived, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def counted(path: Path, query: str, values: Any = ()) -> pl.DataFrame | None:
        asked.append(query.split(" from ")[1].split()[0])
        return publish.ask(path, query, values)

    monkeypatch.setattr("pipelines.report.reading.ask", counted)
    reading = Reading(lived.home, lived.district, "2026")
    made = [page for make in PAGES for page in make(reading)]
    assert len(list(rendered(reading, made))) == len(made)
    assert len(asked) == len(set(asked)) < 30


@pytest.mark.parametrize(
    ("key", "name"),
    [("s1", "s1"), ("Ab", "ab-"), ("a/b", "a-b-"), ("..", "---"), ("é", "--"), ("x" * 200, "x" * 40 + "-")],
)
def test_an_id_becomes_a_plain_file_name(key: str, name: str):
    assert slug(key).startswith(name)
    assert re.fullmatch(r"[a-z0-9_-]{1,49}", slug(key))


def test_two_ids_never_share_a_file():
    keys = ["ab", "Ab", "aB", "a-b", "a/b", "a b", "é", "è", "x" * 41, "x" * 42]
    assert len({slug(each) for each in keys}) == len(keys)


# What is said


def test_no_page_uses_a_forbidden_word_or_names_a_teacher(lived: Lived, marks: dict[str, Marks]):
    wanted = teachers(lived.landed)
    for path, page in marks.items():
        assert not BLAME.search(page.text), path
        assert wanted.isdisjoint(re.findall(r"\w+(?: \d+)?|\w+", page.text)), path


def test_every_page_says_what_it_is_and_is_not_for(marks: dict[str, Marks]):
    for path, page in marks.items():
        assert "education record" in page.text and "not de-identified" in page.text, path
        assert "not for personnel evaluation" in page.text, path


def test_the_counts_of_the_overview_add_up_to_the_classes(lived: Lived, marks: dict[str, Marks]):
    flags = rows(lived, "select distinct class_id from marts.classroom_flag where benchmark_window = 'spring'")
    counts = re.findall(r"(\d+) of (\d+) classes", marks["index.html"].text)
    assert len(counts) == len(words.READINGS)
    assert sum(int(count) for count, _ in counts) == flags.height
    assert {int(of) for _, of in counts} == {flags.height}


def test_a_class_page_has_the_published_words_and_numbers(lived: Lived, marks: dict[str, Marks]):
    flags = rows(
        lived,
        "select f.* from marts.classroom_flag f join (select grade, mode(measure) as measure"
        " from projections.tier_placement where benchmark_window = 'spring' group by 1) using (grade, measure)"
        " where benchmark_window = 'spring' and tested > 0 order by class_id",
    )
    assert flags.height > 10
    for row in flags.to_dicts():
        text = marks[class_path(row["class_id"])].text
        assert row["reason"] in text
        assert words.LEVELS[row["level"]].label in text
        share = f"{words.percent(row['need_share'])} {row['in_need']} of {row['tested']}; interval"
        assert share in text
        assert f"{row['tested']} of {row['enrolled']}" in text


def test_a_class_page_lists_the_members_by_key_and_cites_layout_and_files(lived: Lived, pages: dict[str, str]):
    members = rows(
        lived,
        "select class_id, subject_key from projections.class_membership where benchmark_window = 'spring'"
        " and class_id is not null order by all",
    )
    for (class_id,), each in members.partition_by("class_id", as_dict=True, maintain_order=True).items():
        page = pages[class_path(str(class_id))]
        keys = each["subject_key"].to_list()
        shown = re.findall(r'<tr><th scope="row">([0-9a-f]{8})</th><td>(?!<)([^<]*)</td>', page)
        assert [label for label, _ in shown] == [key[:8] for key in keys] * 2
        assert [whole for _, whole in shown[len(keys) :]] == keys
        assert f"tierline explain class {class_id}" in page
    assert sum("AssessmentResults_Spring" in page for page in pages.values()) > 10


def test_classes_of_a_school_stand_below_their_grade_by_label(lived: Lived, pages: dict[str, str]):
    flags = rows(
        lived,
        "select school_id, grade, class_id, any_value(class_label) as label from marts.classroom_flag"
        " where benchmark_window = 'spring' group by all",
    ).with_columns(order=pl.col("grade").replace("K", "0").cast(pl.Int64))
    for (school_id,), each in flags.sort("order", "label", "class_id").partition_by("school_id", as_dict=True).items():
        page = pages[school_path(str(school_id))].split("<details")[0]
        links = re.findall(r'<tr><th scope="row"><a href="\.\./(classes/[^"]+)"', page)
        assert links == [class_path(class_id) for class_id in each["class_id"]]
        assert page.count("whole grade") == each["grade"].n_unique()


def test_signals_without_records_are_not_known_and_never_zero(
    lived: Lived, tampered: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipelines.report.site.PAGES", PAGES[:2])
    with publish.connect(tampered.warehouse, read_only=False) as connection:
        connection.execute(
            "update marts.school_signal set served = null, unserved_need_share = null, cycles = null,"
            " planned_sessions = null, held_sessions = null, delivery_share = null, overdue_cycle_share = null,"
            " conclusive_cycle_share = null, families_contacted = null, family_contact_share = null,"
            " referrals = null, referral_agreement = null"
        )
    built = build_report(tampered, lived.district, out=tmp_path)
    listing = Marks((built.folder / "schools/index.html").read_text("utf-8"))
    assert listing.text.count("not known") == 2 * len(rows(lived, "select distinct school_id from marts.school_signal"))
    for path in (built.folder / "schools").glob("*.html"):
        page = path.read_text("utf-8")
        if path.name != "index.html":
            begin = page.index("<table>", page.index("Signals of the school"))
            signals = Marks(page[begin : page.index("</table>", begin)])
            assert signals.text.count("not known") == 6 * 3
            assert not re.search(r"\b0 (%|of)", signals.text)


def test_movement_between_tiers_adds_up(lived: Lived, marks: dict[str, Marks]):
    both = rows(
        lived,
        "select a.school_id, count(*) as students from projections.tier_placement a join projections.tier_placement b"
        " using (school_year, subject_key) where a.benchmark_window = 'fall' and b.benchmark_window = 'winter'"
        " and a.school_id = b.school_id and a.tier is not null and b.tier is not null group by 1",
    )
    for school_id, students in both.rows():
        said = re.search(r"Of (\d+) students of the school .*?, (\d+) .*?, (\d+) less, and (\d+) the same",
                         marks[school_path(school_id)].text)  # fmt: skip
        assert said is not None
        total, *parts = map(int, said.groups())
        assert total == students == sum(parts)


@pytest.mark.parametrize("code", LEVELS)
def test_every_level_has_words_a_sign_and_a_next_step(code: str):
    level = words.LEVELS[code]
    assert level.label and level.means and words.GUIDANCE[code]
    assert level.group in words.READINGS
    assert words.READINGS[level.group][0]


def test_readings_differ_in_shape_not_only_in_colour():
    assert len({mark for mark, _, _ in words.READINGS.values()}) == len(words.READINGS)


@pytest.mark.parametrize(
    ("say", "value", "said"),
    [
        (words.percent, None, "not known"),
        (words.percent, 0.0, "0 %"),
        (words.percent, 0.001, "under 1 %"),
        (words.percent, 0.999, "over 99 %"),
        (words.percent, 1.0, "100 %"),
        (words.percent, 0.284, "28 %"),
        (words.number, None, "not known"),
        (words.number, 1204, "1,204"),
        (words.probability, None, "not known"),
        (words.probability, 0.9999, "over 0.99"),
        (words.probability, 0.0001, "under 0.01"),
        (words.probability, 0.899, "0.89"),
        (words.probability, 0.29, "0.29"),
        (words.day, None, "not known"),
        (words.yes_no, None, "not known"),
        (words.yes_no, False, "no"),
        (words.year_name, "2026", "2025-26"),
        (words.grade_name, "K", "Kindergarten"),
        (words.grade_name, None, "Grade not known"),
        (words.listed, ["a"], "a"),
        (words.listed, ["a", "b", "c"], "a, b and c"),
    ],
)  # fmt: skip
def test_numbers_as_words(say: Callable[[Any], str], value: Any, said: str):
    assert say(value) == said


def test_an_axis_ends_at_the_next_fifth_and_holds_every_point():
    assert Scale.of().top == Scale.of(0.1, None).top == 0.4
    assert Scale.of(0.6).top == 0.6
    assert Scale.of(0.61).top == 0.8
    assert Scale.of(0.99).top == 1.0
    assert Scale.of(0.35).x(0.2) == "50.00%"


# Who may see what


@pytest.fixture(scope="module")
def named(lived: Lived, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report with names, made without a change to the vault."""
    vault = lived.home.vault / "vault.sqlite"
    before = vault.read_bytes()
    built = build_report(lived.home, lived.district, with_names=True, out=tmp_path_factory.mktemp("named"))
    assert vault.read_bytes() == before
    return built.folder


def test_names_are_shown_only_where_they_are_asked_for(lived: Lived, pages: dict[str, str], named: Path):
    assert named.name == f"{lived.district}-with-names"
    with_names = read(named)
    assert set(with_names) == set(pages)
    assert all("This report shows names" in page for page in with_names.values())
    assert not any("This report shows names" in page for page in pages.values())
    users = next(lived.landed.rglob("users.csv")).read_text("utf-8-sig")
    family = {line.split(",")[9] for line in users.splitlines()[1:] if ",student," in line} - {""}
    assert len(family) > 20
    shown = [Marks(page).text for page in with_names.values()]
    hidden = [Marks(page).text for page in pages.values()]
    assert sum(any(f"{name}, " in text for text in shown) for name in family) > len(family) / 2
    assert not any(f"{name}, " in text for text in hidden for name in family)


def test_a_report_with_names_opens_for_its_owner_alone(named: Path):
    for path in [named, *named.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_report_is_closed_to_others_than_owner_and_group(built: Built):
    for path in [built.folder, *built.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o750 if path.is_dir() else 0o640), path


def test_names_are_refused_without_the_vault(lived: Lived, tampered: Home, tmp_path: Path):
    shutil.rmtree(tampered.vault)
    with pytest.raises(NamesRefused, match="--with-names needs the vault"):
        build_report(tampered, lived.district, with_names=True, out=tmp_path)
    assert list(tmp_path.glob("d*")) == []


def test_names_are_refused_where_others_can_read_the_vault(lived: Lived, tampered: Home, tmp_path: Path):
    (tampered.vault / "vault.sqlite").chmod(0o640)
    with pytest.raises(NamesRefused, match="chmod 600"):
        build_report(tampered, lived.district, with_names=True, out=tmp_path)


# The command and the asset


def tierline(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, [str(each) for each in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_says_where_the_report_is(lived: Lived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipelines.report.site.PAGES", PAGES[:1])
    code, out, error = tierline("report", "--home", lived.home.root, "--out", tmp_path)
    assert (code, error) == (DONE, "")
    assert str(tmp_path / lived.district / "index.html") in out


@pytest.mark.parametrize("how", [["--school-year", "1999"], ["--district", "nobody"]], ids=" ".join)
def test_the_command_says_what_is_not_there(lived: Lived, tmp_path: Path, how: list[str]):
    code, out, error = tierline("report", "--home", lived.home.root, "--out", tmp_path, *how)
    assert (code, out) == (NOTHING, "")
    assert how[1] in error
    assert list(tmp_path.iterdir()) == []


def test_nothing_published_is_told(tmp_path: Path):
    home = Home(tmp_path / "home").make()
    (home.policies / "d1.toml").write_text('time_zone = "America/Denver"\n')
    with pytest.raises(NothingToReport, match="Nothing is published yet"):
        build_report(home, "d1")


@pytest.mark.slow
def test_the_asset_makes_the_same_pages(lived: Lived, tampered: Home, pages: dict[str, str]):
    instance = dg.DagsterInstance.ephemeral()
    from pipelines.definitions import defs

    result = defs.resolve_job_def(REPORTS.name).execute_in_process(
        instance=instance,
        resources={"work": Work(tampered)},
        tags=run_tags(add_districts(instance, [lived.district]), [lived.district]),
    )
    assert result.success
    assert instance.get_materialized_partitions(REPORT.key) == {lived.district}
    made = tampered.reports / lived.district
    assert {path.relative_to(made).as_posix() for path in made.rglob("*.html")} == set(pages)
    assert (made / "index.html").read_text("utf-8") == pages["index.html"]


def test_a_district_without_a_roster_is_told_what_is_missing(tmp_path: Path):
    place = Place(tmp_path)
    place.land("map.csv", map_file(map_row("ana", 200, percentile=40)))
    assert Work(place.home, place.sources()).run([place.district]).published
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read(build_report(place.home, place.district).folder)
    assert "No roster of this school year is loaded" in found["index.html"]
    assert not any(name.startswith("classes/") for name in found)
