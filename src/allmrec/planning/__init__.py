"""What data, training, retrieval, scoring and serving would cost at a size, from rates that were measured."""

from __future__ import annotations

from allmrec.planning.rates import Rate, read_rates
from allmrec.planning.rows import plan_rows
from allmrec.planning.sizes import Row, Size

__all__ = ["Rate", "Row", "Size", "plan_rows", "read_rates"]
