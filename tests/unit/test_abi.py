"""What is told of the machine in a header."""

from __future__ import annotations

import os
import struct
import sys
from typing import TYPE_CHECKING

from kemi.queue.format.abi import abi

if TYPE_CHECKING:
    from pytest_mock import MockerFixture


def test_it_names_machine_word_order_and_c_library(mocker: MockerFixture) -> None:
    mocker.patch("os.confstr", return_value="glibc 2.36")
    bits = 8 * struct.calcsize("P")
    assert abi().decode() == f"{os.uname().machine}-{bits}{sys.byteorder[0]}-glibc"


def test_a_c_library_that_does_not_tell_its_name(mocker: MockerFixture) -> None:
    confstr = mocker.patch("os.confstr", return_value=None)
    assert abi().endswith(b"-libc")
    for error in (ValueError, OSError):
        confstr.side_effect = error
        assert abi().endswith(b"-libc")


def test_it_fits_its_place_in_the_header(mocker: MockerFixture) -> None:
    """However long a machine's name is."""
    for length in (5, 18, 19, 32, 65):
        mocker.patch("os.uname").return_value.machine = "m" * length
        assert abi()[:length] == b"m" * min(length, 32)
        assert len(abi()) <= 32
    assert abi() == b"m" * 32
