"""Conversions between training and export: preprocessing, batch normalisation."""
