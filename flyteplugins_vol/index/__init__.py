"""What is where: the SQLite database with the metadata of one version."""
