"""allmrec: gives an existing recommender a language model (A-LLMRec, KDD 2024)."""
