"""The SQL database: connections, types and migrations. Each feature owns its tables and queries elsewhere."""
