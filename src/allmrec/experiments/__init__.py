"""The paper's experiments, and yours, from plans: cells as resumable jobs, tables with intervals, a report."""
