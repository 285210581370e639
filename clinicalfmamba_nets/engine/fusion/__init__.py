"""Fusing pairs: what is named becomes cases, cases go through the pipeline, results are written."""
