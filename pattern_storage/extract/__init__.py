"""Pattern extraction: from source code to pattern records."""
