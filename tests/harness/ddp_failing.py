"""A job of several processes of which the second finds its images damaged: `ddp_failing.py FOLDER`."""

import os
import sys
from pathlib import Path

from harness import execute


def damaged(*arguments, **more):
    if os.environ["RANK"] == "1":
        raise ValueError("train.beton is damaged: image 7 cannot be decoded")
    return open_data(*arguments, **more)


open_data, execute.open_data = execute.open_data, damaged
sys.exit(execute.run_job(Path(sys.argv[1])))
