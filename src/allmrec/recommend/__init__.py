"""A-LLMRec itself: scoring, selecting, retrieving, and stage 2's training."""
