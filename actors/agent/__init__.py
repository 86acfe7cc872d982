"""Sessions: their journal, their state, the loop that answers, and where they live. No Ray in here."""
