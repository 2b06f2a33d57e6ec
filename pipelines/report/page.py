"""What a page is: data of its own, a template, and its place in the site."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

SECTIONS: dict[str, tuple[str, str]] = {
    "overview": ("Overview", "index.html"),
    "schools": ("Schools", "schools/index.html"),
    "cycles": ("Cycles", "cycles/index.html"),
    "meetings": ("Meeting sheets", "meetings/index.html"),
    "quality": ("Data quality", "quality.html"),
    "checks": ("Checks", "checks.html"),
    "method": ("Method", "method.html"),
}
"""The navigation, in order: label and first page. A section without a page in the site is not shown."""


@dataclass(frozen=True)
class Page:
    """One page of the site, before it is rendered."""

    path: str
    """Where it stands in the site, such as `schools/elm.html`. Links name this path; templates make it relative."""
    title: str
    """The heading; the browser's title adds the district and the school year."""
    template: str
    """File in `pages/` that extends `base.html`."""
    context: Mapping[str, object]
    """Plain data: what the template shows and nothing it has to compute."""
    section: str
    """Key of ``SECTIONS``."""
    trail: Sequence[tuple[str, str]] = field(default=())
    """Breadcrumbs above the page, without itself: label and path."""


def slug(key: str) -> str:
    """A file name for an id of a source: the id where it is plain, else its letters and a piece of its hash.

    Two ids never share one, also where the file system ignores case.
    """
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in key.lower())[:40]
    return plain if plain == key else f"{plain}-{sha256(key.encode()).hexdigest()[:8]}"


def school_path(school_id: str) -> str:
    """Page of a school."""
    return f"schools/{slug(school_id)}.html"


def class_path(class_id: str) -> str:
    """Page of a class."""
    return f"classes/{slug(class_id)}.html"
