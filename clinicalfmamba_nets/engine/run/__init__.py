"""What every run of a bundle needs: tasks, workflows, settings, weights, processes, the record."""
