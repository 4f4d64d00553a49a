"""The running Kamailio. Only the modules of this package know KSR and the server's C symbols."""
