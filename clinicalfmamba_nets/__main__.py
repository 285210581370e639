"""`python -m clinicalfmamba_nets` is the program `clinicalfmamba`."""

from clinicalfmamba_nets.cli import program

if __name__ == "__main__":
    program()
