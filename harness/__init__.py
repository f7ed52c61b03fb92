"""Words to plan to jobs to records: the spine of the benchmark harness."""
