"""Where patterns come from: real source code now, scheduled imports of files later."""
