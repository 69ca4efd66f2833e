"""`python -m pattern_storage.tasks.documents FOLDER` writes the documents, as `make schemas` does."""

import sys
from pathlib import Path

from pattern_storage.tasks.documents import write

if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
    sys.exit("usage: python -m pattern_storage.tasks.documents FOLDER, a folder that is there")
write(sys.argv[1])
