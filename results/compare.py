"""Compare two versions' answers, ours or not, and decide whether the new one may be released.

python -m results.compare old=old.csv new=new.parquet max_nfr=1% critical=ids.txt junit=gate.xml
"""

from __future__ import annotations

import sys

from results.gate.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
