"""Scoring: the evaluator, the score sheet, comparisons, tables and plots."""
