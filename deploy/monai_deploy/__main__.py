"""Run an application of the MONAI Deploy App SDK: `python deploy/monai_deploy -i STUDY -o OUT`."""

from __future__ import annotations

import sys

from command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
