"""Package metadata comes from settings.ini (nbdev 2)."""
import configparser
from pathlib import Path

from setuptools import find_packages, setup

config = configparser.ConfigParser(delimiters=["="], interpolation=None)
config.read(Path(__file__).parent / "settings.ini", encoding="utf8")
s = config["DEFAULT"]
