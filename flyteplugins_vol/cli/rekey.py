"""``flytevol rekey``: another secret for an encrypted store."""

from __future__ import annotations

import click

from flyteplugins_vol.cli.options import Options, common
from flyteplugins_vol.config import ENCRYPTION_VARIABLE, NEW_ENCRYPTION_VARIABLE, new_encryption_secret
from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.io import change_encryption_secret
from flyteplugins_vol.io.hosts import store_url


@click.command(short_help="Change the secret of an encrypted store.")
@common
def rekey(options: Options) -> None:
    """Wrap the data key of an encrypted store by another secret. No data is rewritten; mounts that are open go on.

    Both secrets come from the environment: $FLYTE_VOL_ENCRYPTION_KEY is the present one, and
    $FLYTE_VOL_NEW_ENCRYPTION_KEY the one that holds from now on.

    \b
    flytevol rekey --store s3://bucket/volumes
    """
    new = new_encryption_secret()
    if new is None:
        raise UsageError(
            f"${NEW_ENCRYPTION_VARIABLE} is not set",
            hint="set it to the secret that is to hold from now on: arguments can be seen by everybody",
        )
    url = store_url(options.store)
    change_encryption_secret(url, new)
    options.output.result({"store": url}, f"changed; set ${ENCRYPTION_VARIABLE} to the new secret from now on")
