"""Where patterns come from: files of any kind, when they are due, and real source code."""
