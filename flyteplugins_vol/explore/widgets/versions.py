"""Version history: one line a version, the newest on top, and all that is known of one beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TypeAlias

from rich.text import Text

from flyteplugins_vol import human
from flyteplugins_vol.explore.versions import Gone
from flyteplugins_vol.explore.widgets.layout import left, right
from flyteplugins_vol.explore.widgets.rows import Rows
from flyteplugins_vol.history.record import VersionRecord, parse_locator
from flyteplugins_vol.human import shown_text

Item: TypeAlias = "VersionRecord | Gone"

_SHORT_HASH = 7
_WIDE, _WIDER = 66, 100
_TAGS = 3  # of a version, in its line
_FIRST = ("run", "action", "task", "project", "domain")


class VersionRows(Rows):
    """``current`` is the version that is open, ``marked`` the one to compare with, ``head`` what ``main`` names.

    ``tags``: names of versions, by locator.
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.items: list[Item] = []
        self.current = self.marked = self.head = ""
        self.tags: Mapping[str, Sequence[str]] = {}
        self._empty = ""

    def show(
        self, items: list[Item], *, current: str, marked: str, head: str, tags: Mapping[str, Sequence[str]], empty: str
    ) -> None:  # fmt: skip
        """The cursor goes to the open version when that has changed, else it stays on its version."""
        at = locator_of(self.items[self.cursor]) if self.cursor < len(self.items) else ""
        at = current if current != self.current or not at else at
        self.items, self.current, self.marked, self.head, self._empty = list(items), current, marked, head, empty
        self.tags = tags
        places = [row for row, item in enumerate(items) if locator_of(item) == at]
        self.set_rows(len(items), cursor=places[0] if places else None)
        self.post_message(self.Moved(self))

    @property
    def item(self) -> Item | None:
        return self.items[self.cursor] if self.cursor < len(self.items) else None

    @property
    def item_tags(self) -> Sequence[str]:
        """The tags of that version."""
        return self.tags.get(locator_of(self.item), ()) if self.item is not None else ()

    def empty_text(self) -> str:
        return self._empty

    def row_text(self, row: int, width: int) -> Text:
        item = self.items[row]
        dim = self.style("dim")
        if isinstance(item, Gone):
            return Text.assemble((" ✗ ", self.style("removed")), (f"{short(item.locator)}  {item.why}", dim))
        locator = str(item.locator)
        mark = ("● ", self.style("added")) if locator == self.current else ("○ ", dim)
        head = Text.assemble(" ", mark, (f"v{item.sequence}".ljust(5), self.style("strong")))
        if width >= _WIDE:
            head.append(item.locator.hash[:_SHORT_HASH] + "  ", dim)
        badges = Text()
        tags = self.tags.get(locator, ())
        for flag, label in (
            (locator == self.head, "main"), *((True, tag) for tag in tags[:_TAGS]),
            (len(tags) > _TAGS, f"+{len(tags) - _TAGS}"), (len(item.parents) > 1, "merge"),
            (locator == self.marked, "marked"),
        ):  # fmt: skip
            if flag:
                badges.append(f" {label} ", self.style("special") + self.style("strong"))
        tail = Text(right(human.ago(item.created, datetime.now(timezone.utc)), 8), dim)
        if width >= _WIDE:
            author = left(Text("  " + shown_text(item.author or "–"), dim), 14)
            tail = Text.assemble(author, tail)
        if width >= _WIDER:
            tail = Text.assemble(left(Text("  " + producer(item), self.style("link")), 24), tail)
        message = Text(shown_text(item.message) if item.message else "no message", "" if item.message else dim)
        if badges:
            message = Text.assemble(badges, " ", message)
        return Text.assemble(head, left(message, width - head.cell_len - tail.cell_len - 1), tail)


def locator_of(item: Item) -> str:
    return item.locator if isinstance(item, Gone) else str(item.locator)


def short(locator: str) -> str:
    """A version as people write it: ``v12 3f2a91c``."""
    found = parse_locator(locator)
    return f"v{int(found.file.partition('-')[0])} {found.hash[:_SHORT_HASH]}"


def producer(record: VersionRecord) -> str:
    """The run and action that made a version, or nothing."""
    made = record.produced_by or {}
    return shown_text("/".join(str(made[key]) for key in ("run", "action") if made.get(key)))


def details(item: Item | None, tags: Sequence[str] = ()) -> Text:
    """All that a record says, for people, and what else the version is called."""
    if item is None:
        return Text()
    if isinstance(item, Gone):
        return Text.assemble((short(item.locator), "bold"), "\n\n", item.why, "\n\n", (item.locator, "dim"))
    message = "\n".join(shown_text(line) for line in (item.message or "no message").splitlines())
    text = Text.assemble((message, "bold" if item.message else "dim"), "\n\n")
    pairs = _pairs(item)
    if tags:
        pairs.insert(2, ("tags", ", ".join(tags)))
    width = max(len(label) for label, _ in pairs)
    for label, value in pairs:
        text.append(f"{label:>{width}}  ", "dim")
        text.append(value + "\n")
    return text.append(f"\n{item.locator}", "dim")


def producer_pairs(produced_by: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a record says of its producer, what people look for first."""
    names = [*(name for name in _FIRST if name in produced_by), *(name for name in produced_by if name not in _FIRST)]
    pairs = [(shown_text(str(name))[:20], produced_by[name]) for name in names]
    return [(name, shown_text(str(value))) for name, value in pairs if value not in (None, "")]


def _pairs(record: VersionRecord) -> list[tuple[str, str]]:
    stats = record.stats
    pairs = [
        ("volume", record.volume_name),
        ("version", short(str(record.locator))),
        ("made", human.local(record.created)),
        ("author", shown_text(record.author or "not known")),
        *producer_pairs(record.produced_by or {}),
    ]
    if "files" in stats:
        pairs.append(
            ("holds", f"{human.count(max(0, stats['files'] - 1), 'name')}, {human.size(stats.get('bytes', 0))}")
        )
    if "new_pack_bytes" in stats:
        pairs.append(("added", f"{human.size(stats['new_pack_bytes'] + stats.get('new_index_bytes', 0))} to the store"))
    pairs += [("parent", short(parent)) for parent in record.parents]
    if record.software:
        pairs.append(("written by", shown_text(record.software)))
    return pairs
