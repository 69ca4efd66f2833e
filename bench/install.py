"""Installed size, packages and import time of the client, for each extra: the table in docs/architecture.md."""

import sys
import tempfile
from pathlib import Path
from subprocess import run

from pattern_storage.extras import MODULES
from tests.fix_install import Installation
from tests.fix_process import ROOT

#: Times that an import is measured; the least counts, as in timeit.
REPEATS = 7
IMPORT = "from pattern_storage import PatternStorageClient"
MEASURE = """
import resource, sys
before = resource.getrusage(resource.RUSAGE_SELF)
{}
after = resource.getrusage(resource.RUSAGE_SELF)
print((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000, len(sys.modules))
"""
#: What an environment has before anything is installed.
BEFORE = ("pip", "setuptools", "_distutils_hack", "pkg_resources")


def main() -> None:
    """Print the table in Markdown."""
    print("| install | packages | MB | `import pattern_storage`, ms of CPU | the client, ms of CPU |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run([sys.executable, "-m", "build", "--wheel", "--outdir", name, str(ROOT)], check=True, capture_output=True)
        [wheel] = folder.glob("*.whl")
        for extra in ("", *MODULES, "up", "all"):
            suffix = f"[{extra}]" if extra else ""
            installed = Installation(folder / (extra or "none"), Path(sys.executable), f"{wheel}{suffix}")
            [site] = installed.folder.glob("lib/python*/site-packages")
            files = [
                file
                for path in site.iterdir()
                if not path.name.startswith(BEFORE)
                for file in ([path] if path.is_file() else path.rglob("*"))
                if file.is_file() and "__pycache__" not in file.parts
            ]
            packages = sum(not path.name.startswith(BEFORE) for path in site.glob("*.dist-info"))
            size = sum(file.stat().st_size for file in files) / 1e6
            costs = [
                min(float(installed.python(MEASURE.format(code)).split()[0]) for _ in range(REPEATS))
                for code in ("import pattern_storage", IMPORT)
            ]
            figures = " | ".join(f"{cost:.0f}" for cost in costs)
            print(f"| `pattern-storage{suffix}` | {packages} | {size:.0f} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
