"""`python -m tasks.cli`, for where the script is not on the path."""

from tasks.cli import main

main()
