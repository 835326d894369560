"""The world of volumes of tests/io, here as well."""

from tests.io.conftest import world as world
