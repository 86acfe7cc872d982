"""Who may do what, and how what is stored is kept secret."""
