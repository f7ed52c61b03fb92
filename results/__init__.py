"""Records of runs; metrics and statistics of them; tables, figures, the report and the release gate."""
