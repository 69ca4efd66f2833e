"""Import sources: finding and opening files, and parsing their formats into rows."""
