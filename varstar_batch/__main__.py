"""`python -m varstar_batch` is `varstar`."""

from varstar_batch.cli import program

program()
