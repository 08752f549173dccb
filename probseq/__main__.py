"""``python -m probseq``."""

from probseq.cli import main

if __name__ == "__main__":
    main()
