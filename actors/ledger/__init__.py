"""What model calls cost: one row for each attempt, whole micro-dollars and the exact decimal."""
