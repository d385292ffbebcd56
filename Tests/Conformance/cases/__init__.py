"""The cases, by area. To import a module registers its cases."""

from . import (  # noqa: F401
    paths, permissions, opening, create, modes, times, rename, remove, links, names, readdir, data, space, mapping, xattr,
    acl, locks, replace)
