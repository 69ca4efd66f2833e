"""Import plans and schedules: what is imported, from where, and when."""
