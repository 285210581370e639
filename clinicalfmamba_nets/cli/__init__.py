"""The command line `clinicalfmamba`: `main` runs a list of words, `program` is the installed program's entry."""

from clinicalfmamba_nets.cli.commands import main, program

__all__ = ["main", "program"]
