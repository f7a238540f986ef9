"""The systems that A-LLMRec is compared with, behind the same Recommender protocol."""
