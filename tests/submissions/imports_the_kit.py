"""Broken: imports a module of the kit that it did not package; the kit is not installed on the platform."""

from flair_scoring.nomenclature import FLAIR_12


class Model:
    classes = FLAIR_12
