"""Measurements of the design's figures on the running lab fleet, one module for each theme."""
