"""What `manage.py demo` is made of: a cluster, a web server, sample mail, and an eye on what becomes of it."""
