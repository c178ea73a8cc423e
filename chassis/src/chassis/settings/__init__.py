"""What every service reads from its environment, and how a wrong value is reported: one line that names the setting.

A module here reads text and returns values. It opens no connection. It imports nothing of the chassis but this package
and `chassis.errors`.
"""
