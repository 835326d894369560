"""The pane beside the tree: what the index says of a file, and its head once somebody asks for it."""

from __future__ import annotations

from rich.style import Style
from rich.syntax import Syntax
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from flyteplugins_vol import human
from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.explore.contents import Contents
from flyteplugins_vol.explore.preview import HEAD, Preview, Shape, make_preview
from flyteplugins_vol.explore.queries import Entry, Facts, Usage
from flyteplugins_vol.explore.threads import in_thread
from flyteplugins_vol.explore.widgets.application import app_of
from flyteplugins_vol.explore.widgets.lines import Lines
from flyteplugins_vol.human import shown

_LONGEST_HIGHLIGHT = 48 << 10  # letters: the lexers of some languages are slow


class PreviewPane(Vertical):
    """`show` says which file; `load` reads its head."""

    def compose(self) -> ComposeResult:
        yield Static(id="preview-name", markup=False)
        yield Static(id="preview-facts", markup=False)
        yield Static(id="preview-state", markup=False)
        yield Lines(id="preview-lines")

    def on_mount(self) -> None:
        self._entry: Entry | None = None
        self._preview: Preview | None = None

    @property
    def lines(self) -> Lines:
        return self.query_one("#preview-lines", Lines)

    @property
    def previewed(self) -> Entry | None:
        """The file whose head is shown."""
        return self._entry if self._preview is not None else None

    def show(self, entry: Entry | None, facts: Facts | None = None, usage: Usage | None = None) -> None:
        """Say what the index knows. A head that is shown stays while the file does."""
        if entry is None or self._entry is None or (entry.ino, entry.name) != (self._entry.ino, self._entry.name):
            self._preview = None
            self.lines.show(())
            self.say(_invitation(entry))
        self._entry = entry
        self.set_class(entry is not None and not entry.is_file, "-no-content")
        self._static("name").update(Text(shown(entry.name) if entry else "", no_wrap=True, overflow="ellipsis"))
        self._static("facts").update(_facts_text(entry, facts, usage) if entry else Text())

    async def load(self, contents: Contents) -> None:
        """Read and show the head of the file. Errors are shown in place and raised."""
        entry = self._entry
        if entry is None or not entry.is_file:
            return
        self.say(f"reading {human.size(min(HEAD, entry.size))} …")
        try:
            head = await in_thread(contents.read, entry.ino, 0, min(HEAD, entry.size)) if entry.size else b""
        except VolumeError as error:
            if entry is self._entry:
                self.say(f"{error.message}\n{error.hint}", bad=True)
            raise
        columns = max(40, self.lines.size.width - 2)
        name = shown(entry.name)
        preview, lines = await in_thread(_rendered, head, entry.size, columns, name, app_of(self).current_theme.dark)
        if entry is not self._entry:
            return  # the cursor went on meanwhile
        self._preview = preview
        self.lines.show(lines)
        self.say(_caption(preview, entry.size))

    def say(self, text: str, *, bad: bool = False) -> None:
        state = self._static("state")
        state.update(text)
        state.set_class(bad, "-bad")

    def _static(self, name: str) -> Static:
        return self.query_one(f"#preview-{name}", Static)


def _invitation(entry: Entry | None) -> str:
    if entry is None or not entry.is_file:
        return ""
    return "empty file" if not entry.size else f"press Enter to read the first {human.size(min(HEAD, entry.size))}"


def _caption(preview: Preview, size: int) -> str:
    facts = "".join(f"  ·  {value}" for _, value in preview.facts)
    part = "" if preview.shown >= size else f"  ·  first {human.size(preview.shown)}"
    return f"{preview.kind}{facts}{part}"


def _facts_text(entry: Entry, facts: Facts | None, usage: Usage | None) -> Text:
    pairs: list[tuple[str, str]] = [("kind", human.kind(entry.mode))]
    if entry.is_file:
        exact = f" ({entry.size:,} bytes)" if entry.size >= 1024 else ""
        pairs.append(("size", human.size(entry.size) + exact))
    if entry.is_dir and usage is not None:
        pairs.append(("below", f"{human.count(usage.files, 'file')}, {human.size(usage.bytes)}"))
    if entry.target is not None:
        pairs.append(("leads to", shown(entry.target)))
    pairs.append(("modified", human.when(entry.mtime)))
    pairs.append(("mode", f"{human.mode(entry.mode)}  {entry.uid}:{entry.gid}"))
    if entry.nlink > 1 and not entry.is_dir:
        pairs.append(("names", f"{entry.nlink} hard links"))
    if facts is not None and entry.is_file and entry.size:
        pairs.append(("stored", _stored(entry, facts)))
    if facts is not None and facts.xattrs:
        pairs.append(("xattrs", ", ".join(shown(name) for name in facts.xattrs)))
    width = max(len(label) for label, _ in pairs)
    lines = (Text.assemble((label.rjust(width), "dim"), "  ", value) for label, value in pairs)
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)


def _stored(entry: Entry, facts: Facts) -> str:
    if facts.staged:
        return f"{human.size(facts.staged)} not in the store yet"
    if not facts.blocks:
        return "nothing: one hole"
    hole = f", {human.size(entry.size - entry.allocated)} of holes" if entry.allocated < entry.size else ""
    return f"{human.count(facts.blocks, 'block')} in {human.count(facts.packs, 'pack')}{hole}"


def _rendered(head: bytes, size: int, columns: int, name: str, dark: bool) -> tuple[Preview, list[Text]]:
    preview = make_preview(head, size, columns=columns)
    if preview.shape is Shape.TEXT:
        return preview, _highlighted(preview.lines, name, dark)
    return preview, [_dump_line(line) for line in preview.lines]


def _highlighted(lines: tuple[str, ...], name: str, dark: bool) -> list[Text]:
    code = "\n".join(lines)
    lexer = Syntax.guess_lexer(name) if len(code) <= _LONGEST_HIGHLIGHT else "default"
    if lexer in ("default", "text"):
        texts = [Text(line) for line in lines]
    else:
        theme = "one-dark" if dark else "friendly"
        texts = list(_without_background(Syntax(code, lexer, theme=theme).highlight(code)).split("\n"))
    width = len(str(len(lines)))
    return [
        Text.assemble((f"{number:>{width}} ", "dim"), " ", text) for number, text in enumerate(texts[: len(lines)], 1)
    ]


def _without_background(text: Text) -> Text:
    """The colours of a syntax theme on our own ground."""
    plain = Text(text.plain)
    for start, end, style in text.spans:
        if isinstance(style, Style):
            plain.stylize(Style(color=style.color, bold=style.bold, italic=style.italic), start, end)
    return plain


def _dump_line(line: str) -> Text:
    text = Text(line)
    text.stylize("dim", 0, 8)
    return text
