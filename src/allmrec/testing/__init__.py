"""Known-answer worlds and tiny language models, for our tests and for those of third-party backbones."""
