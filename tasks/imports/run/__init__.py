"""One import run: from rows to the table, in one transaction."""
