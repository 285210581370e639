"""Programs that time the package on the machine at hand; each prints machine, date, commit and ratios."""
