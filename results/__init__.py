"""Records of runs, metrics and statistics over them, and the tables, pictures and gate made from those."""
