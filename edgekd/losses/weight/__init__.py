"""How far the teacher is trusted, sample by sample and place by place (C03)."""
