"""The explorer, driven by keys and mouse."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flyteplugins_vol.errors import StoreUnavailableError, VersionNotFoundError
from flyteplugins_vol.explore.queries import Sort
from flyteplugins_vol.explore.screens.export import ExportScreen
from flyteplugins_vol.explore.screens.help import HelpScreen
from flyteplugins_vol.explore.screens.producer import ProducerScreen
from flyteplugins_vol.explore.screens.search import SearchScreen
from flyteplugins_vol.explore.versions import Versions
from flyteplugins_vol.explore.widgets.bars import StatusLine
from flyteplugins_vol.explore.widgets.columns import ColumnLine
from flyteplugins_vol.explore.widgets.guard import guarded
from flyteplugins_vol.history.deletion import delete_version
from flyteplugins_vol.history.record import parse_locator
from tests.explore.conftest import Cats, Driver, World, exploring


def path(driver: Driver) -> str:
    return driver.browse.query_one(StatusLine).path


async def test_walking_through_the_tree(cats: Cats) -> None:
    async with exploring(cats.locators[2]) as e:
        assert path(e) == "/README.md"
        await e.press("down", "right", "right", "right", "right")
        assert path(e) == "/images/bengal/one.png"
        await e.press("left", "left", "left")
        assert path(e) == "/images"
        await e.press("left")
        assert "bengal" not in e.text
        await e.press("G")
        assert path(e) == "/weights.bin"
        await e.press("g")
        assert path(e) == "/README.md"


async def test_nothing_is_read_before_a_preview_asks(cats: Cats) -> None:
    async with exploring(cats.locators[2]) as e:
        blocks = cats.world.root / "cache" / "cache" / "blocks"
        await e.press("down", "right", "end")
        assert not list(blocks.rglob("*")) if blocks.exists() else True
        await e.press("home", "enter")
        assert "Pictures of *cats*." in e.text
        assert "text, UTF-8" in e.text
        assert any(blocks.rglob("*"))
        await e.press("escape")
        assert "Pictures" not in e.text


async def test_preview_of_images_and_binaries(cats: Cats) -> None:
    async with exploring(cats.locators[2], size=(140, 40)) as e:
        assert await e.browse.files.file_tree.reveal((b"images", b"bengal", b"one.png"))
        await e.press("enter")
        assert "PNG image  ·  640 × 480 pixels  ·  RGBA, 8 bits per channel" in e.text
        assert "00000000  89 50 4e 47" in e.text
        await e.press("G", "enter")
        assert "10 11 12 13" in e.text
        await e.press("p")
        assert "10 11 12 13" not in e.text


async def test_odd_names_are_shown_and_usable(cats: Cats, tmp_path: Path) -> None:
    async with exploring(cats.locators[2]) as e:
        await e.press("down", "down", "down", "right", "right")
        assert path(e) == "/odd/caf\\xe9 \\x1b[31m.txt"
        assert "\x1b" not in e.text
        await e.press("enter")
        assert "1  odd" in e.text
        await e.press("e")
        screen = e.app.screen
        assert isinstance(screen, ExportScreen)
        screen.query_one("Input").value = str(tmp_path / "out.txt")  # type: ignore[attr-defined]
        await e.press("enter")
        await e.until(lambda: e.app.screen is e.browse)
        assert (tmp_path / "out.txt").read_bytes() == b"odd\n"
        await e.press("e")
        e.app.screen.query_one("Input").value = str(tmp_path / "out.txt")  # type: ignore[attr-defined]
        await e.press("enter")
        await e.until(lambda: "Enter once more overwrites it" in e.text)
        await e.press("enter")  # once more means yes
        await e.until(lambda: e.app.screen is e.browse)


async def test_sorting_keeps_the_place(cats: Cats) -> None:
    async with exploring(cats.locators[2]) as e:
        await e.press("down", "right", "right", "right", "right")
        for sort in (Sort.SIZE, Sort.TIME, Sort.NAME):
            await e.press("s")
            assert e.browse.files.file_tree.sort is sort
            assert path(e) == "/images/bengal/one.png"
        await e.pilot.click(ColumnLine, offset=(58, 0))
        await e.settle()
        assert e.browse.files.file_tree.sort is Sort.SIZE
        assert "━" in e.text


async def test_search_goes_there(cats: Cats) -> None:
    async with exploring(cats.locators[2]) as e:
        await e.press("slash")
        assert isinstance(e.app.screen, SearchScreen)
        await e.press(*"one")
        e.app.screen.query_one("Input").value = "one"  # type: ignore[attr-defined]
        await e.until(lambda: "1 found" in e.text)
        assert "/images/bengal/one.png" in e.text
        await e.press("enter")
        assert path(e) == "/images/bengal/one.png"
        assert "…" not in e.text  # the pages above it have come as well
        await e.press("slash")
        await e.until(lambda: "1 found" in e.text)  # the pattern is still there
        e.app.screen.query_one("Input").value = "nothing like it"  # type: ignore[attr-defined]
        await e.until(lambda: "Nothing has such a name" in e.text)
        await e.press("escape")
        assert path(e) == "/images/bengal/one.png"


async def test_enter_waits_for_what_is_searched(cats: Cats) -> None:
    """Whoever types a whole name is done before the index was asked."""
    async with exploring(cats.locators[2]) as e:
        await e.press("slash")
        await e.pilot.press(*"one", "enter")
        await e.until(lambda: not isinstance(e.app.screen, SearchScreen))
        await e.settle()
        assert path(e) == "/images/bengal/one.png"


async def test_stepping_back_and_forward(cats: Cats) -> None:
    async with exploring("cats") as e:
        await e.press("down", "right", "right", "right", "right")
        await e.press("left_square_bracket")
        assert "epoch 1" in e.text
        assert path(e) == "/images/bengal/one.png"  # still there, still open
        assert "two.png" in e.text
        await e.press("left_square_bracket")
        assert "import the pictures" in e.text
        await e.press("left_square_bracket")
        assert "first version" in e.text
        await e.press("right_square_bracket", "right_square_bracket")
        assert "odd names" in e.text
        await e.press("right_square_bracket")
        assert "newest version" in e.text


async def test_history_shows_tags_and_what_is_behind_deleted_versions(cats: Cats) -> None:
    cats.tag(0, "v1.0")
    for name in ("a", "b", "c", "d", "stable"):
        cats.tag(2, name)
    cats.world.store.delete(cats.versions[1].locator.key)
    async with exploring("cats", size=(120, 30)) as e:
        await e.press("2")
        for text in (" main ", " a ", " c ", " +2 ", "odd names", "there is no version", " v1.0 ", "import the pic"):
            assert text in e.text, text
        assert "a, b, c, d, stable" in e.text
        await e.press("1", "left_square_bracket")
        await e.until(lambda: e.browse.version.locator == cats.locators[0])
        await e.press("right_square_bracket")
        await e.until(lambda: e.browse.version.locator == cats.locators[2])


async def test_history_opens_a_version(cats: Cats) -> None:
    async with exploring(cats.locators[0]) as e:
        await e.press("2")
        for text in ("odd names", "epoch 1", "import the pictures", "main", "ada", "rk7xv2"):
            assert text in e.text
        await e.press("home", "enter")
        await e.until(lambda: e.browse.version.locator == cats.locators[2])
        assert e.browse.view == "files"


async def test_changes_since_the_parent_and_since_a_mark(cats: Cats) -> None:
    async with exploring("cats") as e:
        await e.press("d")
        for text in ("- /images/bengal/two.png", "+ /odd/", "1 file", "~ /train.py", "29 B → 32 B", "2 added"):
            assert text in e.text, text
        await e.press("2", "end", "m", "home", "d")
        assert "v1 " in e.text
        assert "+ /weights.bin" in e.text
        await e.press("G", "enter")
        assert e.browse.view == "files"
        assert path(e) == "/weights.bin"


async def test_the_first_version_has_no_parent(cats: Cats) -> None:
    async with exploring(cats.locators[0]) as e:
        await e.press("d")
        assert "everything in it is new" in e.text


async def test_copying_and_the_producer(cats: Cats) -> None:
    async with exploring("cats") as e:
        await e.press("y")
        assert e.app.clipboard == cats.locators[2]
        await e.press("c")
        assert e.app.clipboard == "/README.md"
        await e.press("o")
        assert isinstance(e.app.screen, ProducerScreen)
        await e.until(lambda: "https://flyte.example/runs/rk7xv2" in e.text)
        await e.press("c")
        assert e.app.clipboard == "rk7xv2/a0"
        await e.press("u")
        assert e.app.clipboard == "https://flyte.example/runs/rk7xv2"
        await e.press("escape", "question_mark")
        assert isinstance(e.app.screen, HelpScreen)
        await e.press("escape", "2", "end", "y")
        assert e.app.clipboard == cats.locators[0]


async def test_the_mouse(cats: Cats) -> None:
    async with exploring("cats") as e:
        await e.pilot.click("#tree", offset=(10, 4))
        await e.settle()
        assert path(e) == "/train.py"
        await e.pilot.click("#tree", offset=(1, 1))  # the mark before the name
        await e.settle()
        assert "bengal/" in e.text
        await e.pilot.click("#tree", offset=(8, 0), times=2)
        await e.settle()
        assert "Pictures of" in e.text
        await e.pilot.click("#views", offset=(12, 0))
        await e.settle()
        assert e.browse.view == "history"


async def test_both_themes(cats: Cats) -> None:
    async with exploring("cats") as e:
        dark = e.app.export_screenshot()
        await e.press("t")
        assert not e.app.current_theme.dark
        assert e.app.export_screenshot() != dark
        e.app.theme = "nord"  # one of textual's own, by the palette
        await e.settle()


# --- without the store -----------------------------------------------------------------------------------------


async def test_offline_is_said_and_the_index_is_still_there(cats: Cats) -> None:
    Versions(cats.world.url).index(Versions(cats.world.url).record(cats.locators[2]))
    cats.world.lose_store()
    async with exploring(cats.locators[2], size=(100, 30)) as e:
        assert "○ offline" in e.text
        assert "The store does not answer" in e.text
        await e.press("down", "right", "right", "right", "right")
        assert path(e) == "/images/bengal/one.png"
        await e.press("enter")
        assert "is missing from" in e.text or "does not" in e.text
        await e.press("left_square_bracket")  # a version that this machine has not seen
        assert "odd names" in e.text
        cats.world.find_store()
        await e.press("r")
        await e.until(lambda: "online" in e.text)
        await e.press("left_square_bracket")
        assert "epoch 1" in e.text


async def test_a_version_that_is_deleted_meanwhile_is_no_lost_store(cats: Cats) -> None:
    async with exploring(cats.locators[1], size=(140, 30)) as e:
        assert "○" not in e.text
        delete_version(cats.world.store, parse_locator(cats.locators[1]))
        await e.press("r")
        await e.until(lambda: "has been deleted" in e.words)
        assert "does not answer" not in e.words
        assert "offline" not in e.text
        e.app.clear_notifications()
        await e.press("r")  # once is enough
        assert "has been deleted" not in e.words
        await e.press("2", "home", "enter")
        assert "README" in e.text


async def test_a_store_that_hangs_blocks_nothing(cats: Cats, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    freed = threading.Event()

    def hang(self: Versions, *_: object) -> None:
        freed.wait(30)
        raise StoreUnavailableError("no answer", hint="wait")

    monkeypatch.setattr(Versions, "check_reachable", hang)
    from flyteplugins_vol.explore.app import ExplorerApp
    from flyteplugins_vol.explore.sources import resolve

    app = ExplorerApp(lambda note: resolve("cats", None, None, note))
    async with app.run_test(size=(80, 24)) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: app.browse is not None and app.browse.is_mounted and "README" in driver.text)
        await pilot.press("down", "right")
        await driver.until(lambda: "bengal" in driver.text)
        await pilot.press("q")  # and it ends at once
    freed.set()
    await asyncio.sleep(0)


async def test_what_cannot_be_opened_ends_with_the_error(world: World) -> None:
    async with exploring("nothing") as e:
        assert isinstance(e.app.return_value, VersionNotFoundError)


# --- other sources ---------------------------------------------------------------------------------------------


async def test_an_index_file_has_files_only(cats: Cats) -> None:
    index = Versions(cats.world.url).index(cats.versions[1])
    async with exploring(from_file=index) as e:
        assert "index file" in e.text
        assert "no store" in e.text
        await e.press("enter")
        assert "name the store with --store" in e.text
        for key in ("d", "o", "y", "left_square_bracket", "m", "r"):
            await e.press(key)
        await e.press("2")
        assert "An index file has no history" in e.text
    async with exploring(from_file=index, store=cats.world.url) as e:
        await e.press("enter")
        assert "Pictures of" in e.text


async def test_a_workspace_compared_with_what_it_builds_on(cats: Cats) -> None:
    cats.volume.create(b"brand new", b"x")
    cats.volume.workspace.index.commit()
    async with exploring(cats.volume.spec.meta_dir) as e:
        assert "workspace, not committed" in e.text
        await e.press("d")
        assert "+ /brand new" in e.text
        assert "the workspace" in e.text
        await e.press("1", "left_square_bracket")
        assert e.browse.version.locator == cats.locators[2]


async def test_choosing_a_volume(cats: Cats, world: World) -> None:
    dogs = world.new("dogs")
    dogs.create(b"dog")
    dogs.commit("dogs")
    from flyteplugins_vol.explore.app import ExplorerApp
    from flyteplugins_vol.explore.sources import resolve

    app = ExplorerApp(lambda note: resolve(None, None, None, note))
    async with app.run_test(size=(80, 24)) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: "◆ dogs" in driver.text)
        await pilot.press("down", "enter")
        await driver.until(lambda: app.browse is not None and app.browse.is_mounted)
        await driver.settle()
        assert "1 name" in driver.text


async def test_an_empty_volume(world: World) -> None:
    locator = str(world.new().commit("empty").locator)
    async with exploring(locator) as e:
        assert "This version has no files." in e.text
        for key in ("enter", "right", "left", "end", "home", "pagedown", "e", "c", "s", "d", "slash"):
            await e.press(key)


async def test_what_comes_back_when_everything_is_closed_does_no_harm(cats: Cats) -> None:
    async with exploring(cats.locators[2]) as e:
        e.browse.action_retry()
        e.browse.action_changes()
        late = guarded(e.browse, e.browse._load_history)
    await late()  # the screen is gone, and the store has answered
