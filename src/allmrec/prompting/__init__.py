"""Stage 2's prompt: words as data, typed pieces, projections, splicing; knows no way of answering."""
