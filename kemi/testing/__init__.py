"""Write and test routing scripts without Kamailio: a typed KSR (KSR-stubs), a fake one, and a runner for whole scripts.

Never imported by the rest of the package.
"""
