"""Training of listwise rankers: complete labels, losses, fine-tuning."""
