"""``python -m zeroshot`` is the same program as ``zeroshot``: the folder one works in lends no modules."""

import os
import sys

sys.path[:] = [path for path in sys.path if path not in ("", os.getcwd())]  # noqa: PTH109 (pathlib is a module too)

from zeroshot.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
