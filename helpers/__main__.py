"""``python -m helpers run | prepare | colab | train``, see ``helpers.publishing.commands``."""

from helpers.publishing.commands import main

if __name__ == "__main__":
    main()
