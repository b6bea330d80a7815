"""What makes the derived files of ``data/``; the study reads them and never runs this."""
