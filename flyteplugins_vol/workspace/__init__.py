"""A checked-out version and all that changed since: every file-system verb, Staging and sealing. Knows no FUSE."""
