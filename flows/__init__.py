"""Prefect flows: config -> plan -> execute -> publish -> report. No arithmetic here."""
