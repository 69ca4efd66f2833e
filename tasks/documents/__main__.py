"""`python -m pattern_storage.tasks.documents FOLDER` writes the documents, as `make schemas` does."""

import sys

from pattern_storage.tasks.documents import write

write(sys.argv[1])
