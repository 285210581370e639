"""Glioma grading: lists, images, runs, logs and the experiment."""
