"""flyteplugins_vol: a versioned, copy-on-write file system on object storage. The public types are in `io`."""
