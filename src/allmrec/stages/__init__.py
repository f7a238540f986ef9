"""The stages of A-LLMRec, each what is trained, stored and read again, and the frozen models that they share."""
