"""Who is told when something fails or waits for a person: one message by webhook or e-mail, when that changes.

A run that is *partial* succeeds in Dagster, so Dagster's own failure e-mails would miss most of what matters here.
Messages hold districts, rules and counts; never a file's name (it may be a person's), a school, a class or a cell.
"""

import hashlib
import json
import os
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from pipelines.work import Outcome
from warehouse.home import Home

WEBHOOK = "TIERLINE_ALERT_WEBHOOK"
EMAIL = "TIERLINE_ALERT_EMAIL"
LEVEL = "TIERLINE_ALERT_ON"
SMTP = "TIERLINE_SMTP_"
LEVELS = ("blocking", "any")
SECURITY = {"starttls": 587, "tls": 465, "none": 25}
"""Ways to secure the connection to the mail server, and their ports."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")
TIMEOUT_SECONDS = 10
AGAIN_AFTER = timedelta(days=7)
"""What still waits is told again after this long."""
MOST_LINES = 40


class UnusableAlerts(Exception):
    """The settings cannot be used; names the variable, never its value."""


@dataclass(frozen=True, order=True)
class Item:
    """One thing that fails or waits."""

    district_id: str
    rule: str
    school_year: str = ""
    about: str = ""
    count: int = 0
    is_blocking: bool = True
    is_of_run: bool = False
    """Known only to a run that looked at the district."""

    @property
    def line(self) -> str:
        """In words."""
        about = " ".join(each for each in (self.school_year, self.about) if each)
        kind = "" if self.is_blocking else " (warning)"
        return f"{self.district_id}: {about + ': ' if about else ''}{self.rule}: {self.count}{kind}"


@dataclass(frozen=True)
class Mail:
    """A mail server and who writes to whom."""

    to: tuple[str, ...]
    sender: str
    host: str
    port: int
    security: str
    user: str | None = None
    password: str | None = None


@dataclass(frozen=True)
class Settings:
    """Where alerts go, and from which level on."""

    webhook: str | None = None
    mail: Mail | None = None
    level: str = "blocking"

    @property
    def channels(self) -> list[str]:
        """What is set up."""
        return [name for name, value in (("webhook", self.webhook), ("email", self.mail)) if value]


def settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """What the environment says; nothing set is no alerts.

    Raises:
        UnusableAlerts: a variable is missing or cannot be used.
    """
    level = environment.get(LEVEL) or LEVELS[0]
    if level not in LEVELS:
        raise UnusableAlerts(f"{LEVEL} is neither {' nor '.join(LEVELS)}.")
    return Settings(_webhook(environment.get(WEBHOOK)), _mail(environment), level)


def failing(results: Sequence[pl.DataFrame], outcome: Outcome) -> list[Item]:
    """What fails or waits now, of every district, from the results of the checks and what became of this run."""
    names = ("district_id", "school_year", "about", "rule", "is_blocking", "rows")
    failed = [rows.filter(~pl.col("is_passed")).select(names) for rows in results]
    together = pl.concat(failed, how="vertical_relaxed") if failed else pl.DataFrame()
    found = [Item(each, "not brought up to date", count=1, is_of_run=True) for each in outcome.failed]
    for district, load in outcome.loads.items():
        rules = [each.rule for each in load.refused]
        found += [Item(district, f"refused: {rule}", count=rules.count(rule), is_of_run=True) for rule in set(rules)]
    if together.height:
        counted = together.group_by("district_id", "school_year", "about", "rule", "is_blocking").agg(
            pl.col("rows").sum()
        )
        found += [
            Item(row["district_id"] or "all", row["rule"], row["school_year"] or "", row["about"], row["rows"],
                 row["is_blocking"])
            for row in counted.to_dicts()
        ]  # fmt: skip
    return sorted(found)


def alert(home: Home, items: Sequence[Item], looked_at: Sequence[str], wanted: Settings, now: datetime) -> list[str]:
    """Tell what fails, if it is not what was told last; the channels that were told.

    Told once, once again after a week, and once more when nothing fails any longer.

    Args:
        home: Remembers what was told last.
        items: What fails or waits.
        looked_at: Districts of this run: of the others, what only a run knows stands as it was.
        wanted: Where to.
        now: The time.

    Raises:
        AlertNotSent: a channel could not be reached; it is tried again at the next run.
    """
    if not wanted.channels:
        return []
    path = home.root / ".alerts.json"
    before = _remembered(path)
    kept = [each for each in before.items if each.is_of_run and each.district_id not in looked_at]
    standing = sorted({*items, *kept})
    heard = [each for each in standing if each.is_blocking or wanted.level == "any"]
    is_news = _name(heard) != before.told
    is_due = bool(heard) and before.at is not None and now - before.at >= AGAIN_AFTER
    if not is_news and not is_due:
        return []
    if not heard and before.told == "":
        return []
    send(wanted, _subject(heard), _text(heard, now), heard)
    _remember(path, standing, _name(heard), now)
    return wanted.channels


def send(wanted: Settings, subject: str, text: str, items: Sequence[Item] = ()) -> None:
    """Send one message to every channel.

    Raises:
        AlertNotSent: one could not be reached. The others were told.
    """
    faults = []
    for name, deliver in (("webhook", _post), ("email", _write_mail)):
        if name in wanted.channels:
            try:
                deliver(wanted, subject, text, items)
            except (OSError, smtplib.SMTPException, urllib.error.URLError, ValueError) as error:
                faults.append(f"{name} ({type(error).__name__})")  # its words may hold the address, which is a secret
    if faults:
        raise AlertNotSent(
            f"The alert could not be sent by {' and '.join(faults)}. `tierline alerts --test` tries again."
        )


class AlertNotSent(Exception):
    """A channel could not be reached."""


def _webhook(address: str | None) -> str | None:
    if not address:
        return None
    parts = urlsplit(address)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)):
        raise UnusableAlerts(f"{WEBHOOK} is not an https address.")
    return address


def _mail(environment: Mapping[str, str]) -> Mail | None:
    to = tuple(each.strip() for each in (environment.get(EMAIL) or "").split(",") if each.strip())
    if not to:
        return None
    host = environment.get(f"{SMTP}HOST")
    if not host:
        raise UnusableAlerts(f"{EMAIL} needs {SMTP}HOST, the name of the mail server.")
    security = environment.get(f"{SMTP}SECURITY") or "starttls"
    if security not in SECURITY:
        raise UnusableAlerts(f"{SMTP}SECURITY is none of {', '.join(SECURITY)}.")
    user, password = environment.get(f"{SMTP}USER"), environment.get(f"{SMTP}PASSWORD")
    if bool(user) != bool(password):
        raise UnusableAlerts(f"{SMTP}USER and {SMTP}PASSWORD go together.")
    if security == "none" and host not in LOOPBACK:
        raise UnusableAlerts(f"{SMTP}SECURITY = none is for a mail server on this machine only.")
    port = environment.get(f"{SMTP}PORT") or str(SECURITY[security])
    if not port.isdigit():
        raise UnusableAlerts(f"{SMTP}PORT is not a number.")
    sender = environment.get(f"{SMTP}FROM") or user or to[0]
    if any(letter in each for each in (*to, sender) for letter in "\r\n") or not all("@" in each for each in to):
        raise UnusableAlerts(f"{EMAIL} is not a list of addresses, separated by commas.")
    return Mail(to, sender, host, int(port), security, user, password)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A webhook that moved is told to nobody else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _post(wanted: Settings, subject: str, text: str, items: Sequence[Item]) -> None:
    told = [{name: value for name, value in asdict(each).items() if name != "is_of_run"} for each in items]
    body = json.dumps({"text": f"{subject}\n{text}", "items": told}).encode()
    request = urllib.request.Request(
        wanted.webhook or "", body, {"Content-Type": "application/json", "User-Agent": "tierline"}
    )
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_SECONDS) as answer:
        answer.read()


def _write_mail(wanted: Settings, subject: str, text: str, _: Sequence[Item]) -> None:
    mail = wanted.mail
    if mail is None:
        return
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, mail.sender, ", ".join(mail.to)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    secure = ssl.create_default_context()
    if mail.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(mail.host, mail.port, timeout=TIMEOUT_SECONDS, context=secure)
    else:
        server = smtplib.SMTP(mail.host, mail.port, timeout=TIMEOUT_SECONDS)
    with server:
        if mail.security == "starttls":
            server.starttls(context=secure)
        if mail.user and mail.password:
            server.login(mail.user, mail.password)
        server.send_message(message)


def _subject(items: Sequence[Item]) -> str:
    districts = len({each.district_id for each in items})
    if not districts:
        return "Tierline: nothing fails or waits any longer"
    return f"Tierline: {districts} {'district needs' if districts == 1 else 'districts need'} attention"


def _text(items: Sequence[Item], now: datetime) -> str:
    lines = [each.line for each in items[:MOST_LINES]]
    if len(items) > MOST_LINES:
        lines.append(f"and {len(items) - MOST_LINES} more")
    return "\n".join([*lines, f"{now:%Y-%m-%d %H:%M} UTC. `tierline status` says more."])


@dataclass(frozen=True)
class _Told:
    items: tuple[Item, ...] = ()
    told: str = ""
    at: datetime | None = None


def _name(items: Sequence[Item]) -> str:
    """Equal for the same trouble; how many rows or files it is moves every night."""
    said = [(each.district_id, each.school_year, each.about, each.rule) for each in items]
    return hashlib.sha256(repr(sorted(said)).encode()).hexdigest() if said else ""


def _remembered(path: Path) -> _Told:
    try:
        held = json.loads(path.read_text("utf-8"))
        return _Told(tuple(Item(**each) for each in held["items"]), held["told"], datetime.fromisoformat(held["at"]))
    except (OSError, ValueError, LookupError, TypeError):
        return _Told()


def _remember(path: Path, items: Sequence[Item], told: str, now: datetime) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(
        json.dumps({"items": [asdict(each) for each in items], "told": told, "at": now.isoformat()}), "utf-8"
    )
    part.replace(path)
