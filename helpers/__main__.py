"""``python -m helpers``: the command line, see ``helpers.publishing.commands``."""

from helpers.publishing.commands import main

if __name__ == "__main__":
    main()
