"""The store on real databases: sqlite, MariaDB and PostgreSQL, from Debian's packages, in private folders."""
