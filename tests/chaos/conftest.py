"""The modules here are those of a program, which Python finds by plain names; so do its tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
