"""The numbers of the design, measured on the running lab fleet: one module a theme."""
