"""``python -m saywhy`` is ``saywhy``."""

from saywhy.cli import main

if __name__ == "__main__":
    main()
