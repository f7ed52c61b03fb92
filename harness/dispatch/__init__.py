"""Runs the jobs of a plan: in this process, as processes of this machine, or on SLURM."""
