"""Answers over context packs: asked for, cited, checked."""
