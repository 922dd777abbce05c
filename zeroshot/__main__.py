"""``python -m zeroshot`` is the same program as ``zeroshot``."""

from zeroshot.cli import main

if __name__ == "__main__":
    main()
