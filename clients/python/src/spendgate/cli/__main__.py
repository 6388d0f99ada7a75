"""`python -m spendgate.cli`: the operator command."""

from spendgate.cli import main

main()
