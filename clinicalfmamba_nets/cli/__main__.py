"""`python -m clinicalfmamba_nets.cli` is the program `clinicalfmamba`."""

from clinicalfmamba_nets.cli import program

if __name__ == "__main__":
    program()
