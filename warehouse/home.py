"""Where a home keeps its things, and the secret that keys its hashes."""

import hashlib
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # contracts take a second to import; the help and the completion of names need none
    from schemas.policy import DistrictPolicy, HomePolicy

OF_NO_DISTRICT = ("home", "state")
"""Policies that are no district's."""


class HomeError(Exception):
    """A home cannot be used as it is; says what is wrong and what to do."""


class Home:
    """The folders of one agency (a district, a network, a state).

    ``log`` and ``projections`` may be URIs of an object store; everything else is local.
    """

    def __init__(self, root: Path, log: str | None = None, projections: str | None = None) -> None:
        self.root = root.absolute()
        self.log = log or str(self.root / "log")
        self.projections = projections or str(self.root / "projections")

    @property
    def landing(self) -> Path:
        """One folder per district: what its users drop."""
        return self.root / "landing"

    @property
    def vault(self) -> Path:
        """Names and ids."""
        return self.root / "vault"

    @property
    def notes(self) -> Path:
        """Free text typed by people."""
        return self.root / "notes"

    @property
    def archive(self) -> Path:
        """Files that were loaded."""
        return self.root / "archive"

    def archived(self, district_id: str, batch_id: str, name: str) -> Path:
        """Where the bytes of a loaded batch are kept, by the name its file landed under."""
        return self.archive / district_id / batch_id[:24] / Path(name.replace("!", "/")).name

    @property
    def warehouse(self) -> Path:
        """What analysts open."""
        return self.root / "warehouse.duckdb"

    def warehouse_of(self, district_id: str) -> Path:
        """What a district that has a file of its own opens: `warehouse/<district>.duckdb`."""
        return self.root / "warehouse" / f"{district_id}.duckdb"

    @property
    def reports(self) -> Path:
        """One folder per district: the site people open."""
        return self.root / "reports"

    @property
    def policies(self) -> Path:
        """`<district>.toml`, `home.toml` for all of them, `state.toml` for what the state publishes, `aliases/`."""
        return self.root / "policy"

    def make(self) -> "Home":
        """Create the folders that are missing; those with names are for their owner alone.

        Raises:
            HomeError: the path has characters that Delta tables or DuckDB misread, or a folder with names is open.
        """
        odd = sorted(set(str(self.root)) & set("[]{}*?%#\\"))
        if odd:
            raise HomeError(
                f"The path of the home has {' '.join(odd)}, which its stores misread. Choose another folder."
            )
        self.root.mkdir(mode=0o750, parents=True, exist_ok=True)
        self.policies.mkdir(exist_ok=True)
        for store in (self.log, self.projections):
            if "://" not in store:
                Path(store).mkdir(mode=0o750, parents=True, exist_ok=True)
        self.landing.mkdir(mode=0o700, exist_ok=True)  # who drops files is let in by who runs the home
        for path in (self.vault, self.notes, self.archive):
            path.mkdir(mode=0o700, exist_ok=True)
            refuse_open(path)
        return self

    def secret(self) -> bytes:
        """The key of every hash: 32 bytes, made at first use, readable by the owner only.

        Raises:
            HomeError: the file or its folder is open to others, or is not 32 bytes.
        """
        path = self.vault / "secret"
        if not path.exists():
            self.make()
            temporary = self.vault / f".secret.{os.getpid()}.{secrets.token_hex(4)}"
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(secrets.token_hex(32))
                stream.flush()
                os.fsync(stream.fileno())
            try:
                os.link(temporary, path)  # fails where another process was first: its secret counts
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
        refuse_open(self.vault)
        refuse_open(path)
        key = bytes.fromhex(path.read_text("ascii").strip())
        if len(key) != 32:
            raise HomeError("vault/secret is not 32 bytes in hexadecimal. Restore it from the backup of this home.")
        return key

    def districts(self) -> list[str]:
        """District ids: folders below landing, and policies."""
        folders = []
        with suppress(FileNotFoundError, PermissionError):  # who only reads results may not see what landed
            folders = [p.name for p in self.landing.iterdir() if p.is_dir()]
        policies = [p.stem for p in self.policies.glob("*.toml")] if self.policies.exists() else []
        policies = [name for name in policies if name not in OF_NO_DISTRICT]
        return sorted({name for name in (*folders, *policies) if not name.startswith(".")})

    def policy(self, district_id: str) -> "DistrictPolicy":
        """The district's policy.

        Raises:
            UnreadablePolicy: there is none, or it cannot be used.
        """
        from schemas.policy import UnreadablePolicy, read_policy

        path = self.policies / f"{district_id}.toml"
        if not path.exists():
            raise UnreadablePolicy(
                f"policy/{district_id}.toml does not exist. Write at least one line, such as"
                ' time_zone = "America/Denver", so that the days of tests are the days of the school.'
            )
        return read_policy(path)

    def agency(self) -> "HomePolicy":
        """What the agency decided for the home as a whole.

        Raises:
            UnreadablePolicy: it cannot be used.
        """
        from schemas.policy import read_home_policy

        return read_home_policy(self.policies / "home.toml")


def refuse_open(path: Path) -> None:
    """Refuse what only its owner may open, if others may: names, ids, notes and secrets.

    What a link leads to counts, so a vault may lie on a disk of its own.

    Raises:
        HomeError: others can open it, or it is another user's; says what to run.
    """
    about = path.stat()
    if about.st_uid != os.geteuid():
        raise HomeError(
            f"{path} belongs to user {about.st_uid} of this machine, and this is user {os.geteuid()}. Run as its owner."
        )
    if stat.S_IMODE(about.st_mode) & 0o077:
        mode = "700" if path.is_dir() else "600"
        raise HomeError(f"{path} can be opened by others on this machine. Run: chmod {mode} '{path}'")


def fingerprint(secret: bytes) -> str:
    """A name for a secret that does not give it away."""
    return hashlib.sha256(b"tierline home secret\0" + secret).hexdigest()[:16]


def valid_district(district_id: str) -> bool:
    """Partition values are plain (SEMANTICS 3.1)."""
    return bool(district_id) and all(c.isascii() and (c.isalnum() or c in "_-") for c in district_id)
