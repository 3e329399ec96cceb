"""A file is one concept and has its name: none is called after nothing in particular."""

from __future__ import annotations

from tests.tidy import source

BANNED = {
    "base",
    "common",
    "core",
    "helper",
    "helpers",
    "lib",
    "manager",
    "managers",
    "misc",
    "tools",
    "types",
    "util",
    "utilities",
    "utils",
}


def test_no_file_or_folder_has_a_name_that_says_nothing():
    banned = {
        source.name(path)
        for folder in (source.PACKAGE, source.TESTS)
        for path in source.files(folder)
        if BANNED & {part.removesuffix(path.suffix) for part in path.relative_to(folder).parts}
    }
    assert not banned
