"""What a shell offers for an argument: names of volumes, paths in them. Never an error, never a long wait."""

from __future__ import annotations

from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from flyteplugins_vol.cli.options import Options
from flyteplugins_vol.human import shown

_MOST = 200


def volume_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the store's volumes; a file:// locator is completed as a path."""
    if "/" in incomplete:
        return [CompletionItem(incomplete, type="file")]
    with suppress(Exception):
        from flyteplugins_vol.cli.addresses import opened_store
        from flyteplugins_vol.history.volumes import list_volumes

        with opened_store(_store(ctx)) as store:
            names = {volume.name for volume in list_volumes(store)}
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)][:_MOST]
    return []


def paths(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Paths in the volume that the line names."""
    volume = ctx.params.get("volume")
    if not volume:
        return []
    with suppress(Exception):
        from flyteplugins_vol.cli.addresses import version_at

        above, slash, name = incomplete.rpartition("/")
        found = version_at(volume, _store(ctx)).ls.sync(above or "/")
        items = [(shown(info.name), "/" if info.is_dir else "") for info in found]
        return [CompletionItem(f"{above}{slash}{text}{end}") for text, end in items if text.startswith(name)][:_MOST]
    return []


def _store(ctx: click.Context) -> str | None:
    return ctx.ensure_object(Options).store
