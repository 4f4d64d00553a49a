"""The pages: not too long, all of them found from the first one, and no link that leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kemi.cli.usage import codes
from tests.docs import pages
from tests.docs.pages import ALL, CHECKOUT, MANUAL, README

README_BYTES = 12 * 1024
PAGE_BYTES = 15 * 1024


@pytest.mark.parametrize("page", MANUAL)
def test_a_page_is_short(page: str) -> None:
    assert (CHECKOUT / page).stat().st_size <= (README_BYTES if page == README else PAGE_BYTES)


def target_of(page: str, link: str) -> tuple[str, str]:
    """Return the file that a link inside the repository leads to, and the anchor there."""
    path, _, anchor = link.partition("#")
    file = (CHECKOUT / page).parent / path if path else CHECKOUT / page
    return str(file.resolve().relative_to(CHECKOUT)), anchor


def problem(page: str, link: str) -> str:
    """Return what is wrong with a link, or nothing. Others' sites are not asked, only the form is looked at."""
    parts = urlsplit(link)
    if parts.scheme:
        known = parts.scheme == "https" and re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc)
        return "" if known or parts.scheme == "mailto" else "is no https address"
    try:
        path, anchor = target_of(page, link)
    except ValueError:
        return "leads out of the repository"
    if not (CHECKOUT / path).exists():
        return f"there is no {path}"
    if anchor and (not path.endswith(".md") or anchor not in pages.anchors(path)):
        return f"{path} has no heading #{anchor}"
    return ""


@pytest.mark.parametrize("page", ALL)
def test_every_link_leads_somewhere(page: str) -> None:
    found = {link: problem(page, link) for link in pages.links(page)}
    assert {link: what for link, what in found.items() if what} == {}


def test_there_are_links() -> None:
    assert sum(len(pages.links(page)) for page in ALL) > 100


@pytest.mark.parametrize(
    ("link", "what"),
    [
        ("nosuch.md", "there is no nosuch.md"),
        ("docs/index.md#nosuch", "docs/index.md has no heading #nosuch"),
        ("#nosuch", "README.md has no heading #nosuch"),
        ("../other/README.md", "leads out of the repository"),
        ("http://example.org/", "is no https address"),
        ("docs/index.md#how-to", ""),
        ("https://example.org/a#b", ""),
    ],
)
def test_a_broken_link_is_found(link: str, what: str) -> None:
    assert problem(README, link) == what


@pytest.mark.parametrize("page", ALL)
def test_every_file_that_is_named_is_there(page: str) -> None:
    """In text, where it is no link: `conf/demo.sh`; and in commands, also those that no test types."""
    path = r"(?:conf|debian|docs|kemi|ops|tests)/[\w./@-]*\w"
    named = re.findall(rf"`({path}/?)`", pages.text_of(page))
    for block in pages.blocks(page):
        if block.language in ("sh", "console"):
            named += re.findall(rf"(?:^|[\s'\"=])({path})", block.code)
    assert [path for path in named if not (CHECKOUT / path).exists()] == []


@pytest.mark.parametrize("page", ALL)
def test_every_environment_of_tox_that_is_named_is_there(page: str) -> None:
    named = re.findall(r"(?:tox|tests/run\.sh)(?: --debian \w+)? -e (\w[\w-]*)", pages.text_of(page))
    there = re.findall(r"^\[testenv:([\w,{}-]+)\]", (CHECKOUT / "tox.ini").read_text("utf-8"), re.MULTILINE)
    assert [name for name in named if not re.fullmatch(r"py(3\d+)?", name) and name not in there] == []


def test_every_page_is_found_from_the_first_one() -> None:
    found, ahead = set(), [README]
    while ahead:
        page = ahead.pop()
        found.add(page)
        inside = {target_of(page, link)[0] for link in pages.links(page) if not urlsplit(link).scheme}
        ahead += [path for path in inside - found if path.endswith(".md") and Path(CHECKOUT, path).exists()]
    assert set(MANUAL) <= found


def test_the_table_of_contents_has_every_page() -> None:
    there = {target_of("docs/index.md", link)[0] for link in pages.links("docs/index.md")}
    assert {page for page in MANUAL if page not in (README, "docs/index.md")} <= there


def test_the_exit_codes_are_those_of_the_help() -> None:
    text = pages.text_of("docs/reference/command-line.md").replace("`", "")
    found = dict(re.findall(r"^\| +([0-9]+) \| (.*) \|$", text, re.MULTILINE))
    assert found == {str(code): meaning for code, meaning in codes.CODES.items()}
