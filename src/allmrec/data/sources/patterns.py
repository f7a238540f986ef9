"""How numbers, missing values and ids are written in files."""

from __future__ import annotations

import re

__all__ = ["CONTROL", "EXACT_DIGITS", "INTEGRAL", "MISSING", "NUMBER", "SCIENTIFIC", "WHOLE"]

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# What programs write where there is no value.
MISSING = ("nan", "none", "null", "<na>", "n/a", "#n/a", "nat", "undefined", "\\n")
INTEGRAL = r"^[+-]?[0-9]+\.0+$"
WHOLE = r"^[+-]?[0-9]+(\.0*)?$"
# As spreadsheets and R write large numbers.
SCIENTIFIC = r"^[+-]?[0-9](\.[0-9]+)?[eE]\+[0-9]+$"
# From here on floating point does not hold every whole number.
EXACT_DIGITS = 15
# Characters that no id has.
CONTROL = r"[\x00-\x1f\x7f\x{80}-\x{9f}]"
