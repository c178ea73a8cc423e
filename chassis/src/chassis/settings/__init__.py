"""The settings of every service, and the report of wrong values: one line that names the setting.

The modules parse text and return values. Of the chassis they import this package and `chassis.errors` only.
"""
