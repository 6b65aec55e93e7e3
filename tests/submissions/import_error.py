"""Broken: needs a package that is nowhere."""

import package_that_nobody_has  # noqa: F401


class Model:
    pass
