"""The composition root: which backend stands behind which Protocol.

The only place that names backends. A file for each kind of process, so that a process loads no more than
it needs: a session actor no LanceDB, a sandbox actor no database.
"""
