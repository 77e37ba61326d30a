"""Package metadata comes from settings.ini, which nbdev 2 reads as well."""

import configparser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.sdist import sdist

here = Path(__file__).resolve().parent
config = configparser.ConfigParser(delimiters=["="], interpolation=None)
config.read(here / "settings.ini", encoding="utf-8")
s = config["DEFAULT"]

extras = {name: s[f"{name}_requirements"].split() for name in s["extras"].split()}
taken_in = ("lab", "serve", "export", "milvus", "minilm")
extras["dev"] = s["dev_requirements"].split() + [r for name in taken_in for r in extras[name]]


class WithSettings(sdist):
    """A source distribution that carries settings.ini, without which this file can't run."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, [*files, "settings.ini"])


setup(
    cmdclass={"sdist": WithSettings},
    name=s["lib_name"],
    version=s["version"],
    description=s["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8") if (here / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    keywords=s["keywords"],
    author=s["author"],
    author_email=s["author_email"],
    license="Apache-2.0",
    python_requires=f">={s['min_python']}",
    packages=find_packages(include=[s["lib_name"], f"{s['lib_name']}.*"]),
    package_data={s["lib_name"]: ["**/*.json", "**/*.jsonl", "**/*.html", "**/*.txt"]},
    install_requires=s["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": s["console_scripts"].split()},
)
