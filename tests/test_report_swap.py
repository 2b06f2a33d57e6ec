"""A site takes the place of another: there is always one, and two makers do not meet."""

import errno
import threading
from pathlib import Path

import pytest

from pipelines.report.site import OPEN, _in_place_of
from warehouse import swap


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "index.html").write_text(text, "utf-8")
    return path


def said(path: Path) -> str:
    return (path / "index.html").read_text("utf-8")


def unsupported(*_: object) -> None:
    raise OSError(errno.EINVAL, "not here")


@pytest.mark.parametrize("exchange", [swap._exchange, unsupported])
def test_a_folder_takes_the_place_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: object):
    monkeypatch.setattr(swap, "_exchange", exchange)
    new, old = folder(tmp_path / ".d1.building", "new"), folder(tmp_path / "d1", "old")
    swap.take_place(new, old)
    assert (said(old), said(new)) == ("new", "old")
    assert sorted(each.name for each in tmp_path.iterdir()) == [".d1.building", "d1"]


def test_there_is_no_moment_without_a_site(tmp_path: Path):
    target, stop, missing = folder(tmp_path / "d1", "0"), threading.Event(), []

    def watch() -> None:
        while not stop.is_set():
            if not (target / "index.html").exists():
                missing.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(100):
        with _in_place_of(target, OPEN) as write:
            write("index.html", str(number))
    stop.set()
    watcher.join()
    assert not missing and said(target) == "99"


def test_two_makers_of_one_site_wait_for_each_other(tmp_path: Path):
    target, failed = tmp_path / "d1", []

    def make(text: str) -> None:
        try:
            for _ in range(20):
                with _in_place_of(target, OPEN) as write:
                    write("index.html", text)
                    write("schools/index.html", text)
        except OSError as error:
            failed.append(error)

    makers = [threading.Thread(target=make, args=(text,)) for text in ("a", "b")]
    for each in makers:
        each.start()
    for each in makers:
        each.join()
    assert failed == [] and said(target) == said(target / "schools")
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_dir()) == ["d1"]


def test_what_a_killed_maker_left_is_removed_and_the_old_site_stands(tmp_path: Path):
    target = folder(tmp_path / "d1", "old")
    folder(tmp_path / ".d1.building", "half")
    target.rename(tmp_path / ".d1.before")
    with pytest.raises(KeyboardInterrupt), _in_place_of(target, OPEN) as write:
        write("index.html", "new")
        raise KeyboardInterrupt
    assert said(target) == "old" and [each.name for each in tmp_path.iterdir() if each.is_dir()] == ["d1"]
