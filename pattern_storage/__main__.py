"""`python -m pattern_storage`, for where the script is not on the path."""

from pattern_storage.tasks.cli import main

if __name__ == "__main__":
    main()
