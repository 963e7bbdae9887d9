"""`python -m adinsights_orchestration.cli`."""

from adinsights_orchestration.cli import main

if __name__ == "__main__":
    main()
