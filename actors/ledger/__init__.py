"""What calls of models and tools cost: one row for each attempt, whole micro-dollars and the exact decimal."""
