"""Maps the top-level rooms to one package, ``fettle``: face/ is its root, graph/ is fettle.graph, and so on."""

from setuptools import find_packages, setup

ROOMS = ("service", "backends", "search", "costmodel", "store", "graph", "bench")

package_dir = {"fettle": "face", "fettle.v1": "protos/fettle/v1", **{f"fettle.{room}": room for room in ROOMS}}
packages = list(package_dir)
packages += [f"fettle.{name}" for name in find_packages("face")]
for room in ROOMS:
    packages += [f"fettle.{room}.{name}" for name in find_packages(room)]

setup(package_dir=package_dir, packages=packages)
