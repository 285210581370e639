"""Pictures of results: of a pair, of a volume."""
