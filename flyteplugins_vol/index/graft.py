"""Files of one index entered into another of the same store: their rows are copied, and the blocks that these name.

No byte of a file is read or stored for it. What is entered gets numbers of its own, and has no name yet in a directory
that was there before: until it is given one nobody can come to it. The source may be of a stranger's making, so every
row is looked at as `index.rows` and `index.check` want it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flyteplugins_vol.index.index import Index
from flyteplugins_vol.index.rows import check_extents, damaged
from flyteplugins_vol.model import BLOCK_SIZE, ROOT_INO, Inode

_PAGE = 1000  # rows read or written at a time
_ROW = 256  # bytes that a row is reckoned to take on the local disk, its share of the log included


class Graft:
    """Copies out of ``source`` into ``target``, inside of `Index.attempt`, one after the other; then `finish`.

    ``room`` is asked for so many bytes of the local disk before they are written, and may raise. ``ctime``: of all that
    is entered, in nanoseconds since 1970; None: as it was. ``files`` and ``bytes`` count what was entered: files of any
    type, bytes of regular ones.
    """

    def __init__(
        self, source: Index, target: Index, *, room: Callable[[int], None], ctime: int | None = None
    ) -> None:  # fmt: skip
        self._source = source
        self._target = target
        self._room = room
        self._ctime = ctime
        self._first = target.next_ino
        self._has_xattrs = source.xattrs.any()
        self._inodes: list[Inode] = []
        self._entries: list[tuple[int, bytes, int]] = []
        self._extents: list[tuple[int, int, int, int, int]] = []
        self._linked: dict[int, Inode] = {}  # files with several names: number in the source → inode here
        self.files = self.bytes = 0
        # its extents name the source's blocks until `finish`: then it is known which, and they come in their order
        target.db.sql.execute("CREATE TEMP TABLE taken (old INTEGER PRIMARY KEY, refs INTEGER NOT NULL, new INTEGER)")

    def tree(self, ino: int, above: Sequence[tuple[int, bytes]] = ()) -> int:
        """A file of any type, a directory with all below it; its number here. It has all its attributes.

        ``above``: directories of the source, from the top, each with the name in it that leads on: they come alone, the
        first one is what is returned. Names of one file inside the tree stay names of one file.
        """
        tops = [self._directory(self._existing(one)) for one, _ in above]
        top = self._existing(ino)
        made = self._directory(top) if top.is_dir else self._file(top)
        below = [*tops, made][1:]
        for directory, (_, name), inside in zip(tops, above, below, strict=True):
            self._enter(directory, name, inside)
            self._inodes.append(directory)
        if top.is_dir:
            self._fill(top, made)
        return tops[0].ino if tops else made.ino

    def alone(self, ino: int) -> int:
        """One file or directory, without what is in it; its number here. Each call is one name that it will be given.

        A file that is asked for again is the same one.
        """
        inode = self._existing(ino)
        if inode.is_dir:
            made = self._directory(inode)
            self._inodes.append(made)
        else:
            made = self._file(inode)
        self._write_if_full()
        return made.ino

    def attributes(self, ino: int) -> int:
        """An inode with the attributes of a file or directory, and nothing in it, to be taken from; its number here."""
        made = self._copied(self._existing(ino))
        made.nlink, made.parent = (2, ROOT_INO) if made.is_dir else (1, 0)
        self._inodes.append(made)
        self._write_if_full()
        return made.ino

    def finish(self) -> None:
        """Enter what is still held, and the blocks. Raises `IndexDamagedError`."""
        self._inodes.extend(self._linked.values())
        self._linked = {}
        self._write()
        sql, last = self._target.db.sql, 0
        while rows := sql.execute("SELECT old, refs FROM taken WHERE old>? ORDER BY old LIMIT ?", (last, _PAGE)):
            new = [(self._block(old, refs), old) for old, refs in rows.fetchall()]
            if not new:
                break
            sql.executemany("UPDATE taken SET new=? WHERE old=?", new)
            last = new[-1][1]
        sql.execute("UPDATE extent SET block=(SELECT new FROM taken WHERE old=block) WHERE ino>=?", (self._first,))
        bad = sql.execute(
            "SELECT e.block FROM extent e JOIN block b ON b.id=e.block WHERE e.ino>=? AND e.skip > b.size - e.length"
            " LIMIT 1",
            (self._first,),
        ).fetchone()
        if bad is not None:
            damaged("an extent is outside of its block")
        sql.execute("DROP TABLE taken")
        self._target.files += self.files
        self._target.bytes += self.bytes

    # -- inodes ----------------------------------------------------------------------------------------------------

    def _existing(self, ino: int) -> Inode:
        found = self._source.inodes.get(ino)
        if found is None or found.nlink == 0:
            damaged(f"inode {ino} is not there")
        return found

    def _fill(self, top: Inode, made: Inode) -> None:
        todo = [(top.ino, made)]
        seen = {top.ino}
        while todo:
            old, directory = todo.pop()
            after = b""
            while page := self._source.inodes.in_order(old, after, _PAGE):
                for name, inode in page:
                    if not inode.is_dir:
                        self._enter(directory, name, self._file(inode))
                        continue
                    if inode.ino in seen:  # it has one name, or whoever walks down would never come to an end
                        damaged(f"directory {inode.ino} has two names")
                    seen.add(inode.ino)
                    inside = self._directory(inode)
                    self._enter(directory, name, inside)
                    todo.append((inode.ino, inside))
                after = page[-1][0]
                self._write_if_full()
            self._inodes.append(directory)

    def _directory(self, inode: Inode) -> Inode:
        """A new directory; whoever asks for it enters it once its ``nlink`` is known."""
        made = self._copied(inode)
        made.nlink, made.parent = 2, ROOT_INO  # until it has a name
        return made

    def _file(self, inode: Inode) -> Inode:
        """A new file with one name, or the one that was made for another name of it."""
        there = self._linked.get(inode.ino)
        if there is not None:
            there.nlink += 1
            return there
        made = self._copied(inode)
        made.nlink = 1
        if inode.is_file:
            self.bytes += inode.size
            made.allocated = self._content(inode, made.ino)
        if inode.nlink > 1:
            self._linked[inode.ino] = made
        else:
            self._inodes.append(made)
        return made

    def _copied(self, i: Inode) -> Inode:
        ctime = i.ctime if self._ctime is None else self._ctime
        made = Inode(
            self._target.new_ino(), i.mode, 0, i.uid, i.gid, i.rdev, i.size, 0, i.atime, i.mtime, ctime, 0, i.target
        )
        self.files += 1
        if self._has_xattrs:
            for name in self._source.xattrs.names(i.ino):
                value = self._source.xattrs.get(i.ino, name)
                assert value is not None
                self._room(_ROW + len(value))
                self._target.xattrs.put(made.ino, name, value)
        return made

    def _enter(self, directory: Inode, name: bytes, inode: Inode) -> None:
        self._entries.append((directory.ino, name, inode.ino))
        if inode.is_dir:
            inode.parent = directory.ino
            directory.nlink += 1

    # -- content ---------------------------------------------------------------------------------------------------

    def _content(self, inode: Inode, new: int) -> int:
        """Enter the extents of a file, which name blocks of the source still; the bytes that they cover."""
        covered = end = 0
        rows = self._source.db.sql.execute(
            "SELECT start, length, block, skip FROM extent WHERE ino=? ORDER BY start", (inode.ino,)
        )
        for start, length, block, skip in rows:
            end = _checked(inode, end, start, length, block, skip)
            covered += length
            self._extents.append((new, start, length, block, skip))
            self._write_if_full()
        return covered

    def _block(self, old: int, refs: int) -> int:
        block = self._source.blocks.get(old)
        self._room(_ROW)
        return self._target.blocks.adopt(block, self._source.blocks.pack_size(block.pack), refs)

    def _write_if_full(self) -> None:
        if len(self._inodes) + len(self._entries) + len(self._extents) >= _PAGE:
            self._write()

    def _write(self) -> None:
        self._room(_ROW * (len(self._inodes) + len(self._entries) + len(self._extents)))
        sql = self._target.db.sql
        self._target.inodes.write(self._inodes)
        sql.executemany("INSERT INTO entry VALUES (?,?,?)", self._entries)
        sql.executemany("INSERT INTO extent VALUES (?,?,?,?,?)", self._extents)
        sql.executemany(
            "INSERT INTO taken VALUES (?,1,NULL) ON CONFLICT (old) DO UPDATE SET refs=refs+1",
            [(extent[3],) for extent in self._extents],
        )
        self._inodes.clear()
        self._entries.clear()
        self._extents.clear()
        self._source.trim()


def _checked(inode: Inode, before: int, start: int, length: int, block: int, skip: int) -> int:
    """Where an extent ends that follows one that ends at ``before``. Raises `IndexDamagedError`."""
    try:
        low = start // BLOCK_SIZE * BLOCK_SIZE
        stop = start + length
    except TypeError:
        damaged(f"the extents of inode {inode.ino} are out of bounds")
    check_extents([(start, stop, block, skip)], max(low, before), min(low + BLOCK_SIZE, inode.size), inode.ino)
    if block == 0:
        damaged(f"an extent of inode {inode.ino} names no block")
    return stop
