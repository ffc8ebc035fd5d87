"""Ingest: tables and archives of light curves in, a survey out."""
