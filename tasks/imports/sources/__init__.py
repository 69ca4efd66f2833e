"""Import sources: locations, file formats and mappings, from bytes to rows."""
