"""Everything that knows SLURM: what to ask of it, its queue, submitting, and what runs on its nodes."""
