"""Import plans, the imports file, cron and interval schedules, due times and misfires."""
