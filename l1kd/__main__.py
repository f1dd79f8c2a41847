"""`python -m l1kd`."""

from l1kd.cli import main

main()
