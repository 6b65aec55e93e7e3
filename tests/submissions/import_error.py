"""Broken: imports a package that does not exist."""

import package_that_nobody_has  # noqa: F401


class Model:
    pass
