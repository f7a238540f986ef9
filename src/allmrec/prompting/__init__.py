"""Stage 2's prompt: words as data, typed pieces, projections, splicing."""
