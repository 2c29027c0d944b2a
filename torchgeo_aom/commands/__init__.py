"""Options of the commands, which need no torch: one file a verb."""
