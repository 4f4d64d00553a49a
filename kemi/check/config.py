# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kamailio.cfg says that concerns the script: modules, parameters, engine, callbacks, python_exec."""

from __future__ import annotations

import re
from typing import NamedTuple

from kemi.check.problems import Place, Problems
from kemi.check.tokens import SIGN, TEXT, WORD, Reader, Token

PYTHON_MODULES = ("app_python3", "app_python3s")
_MODPARAM_TOKENS = 8  # modparam ( "..." , "..." , value )
_DEFAULT_CALLBACKS = {"reply_route_callback": "ksr_reply_route", "onsend_route_callback": "ksr_onsend_route"}


class Named(NamedTuple):
    """A text, and the line that has it."""

    text: str
    place: Place


class Parameter(NamedTuple):
    """A modparam."""

    modules: tuple[str, ...]
    name: str
    value: str
    place: Place


class Callback(NamedTuple):
    """A method of the script that the server will call."""

    method: str
    place: Place
    by: str  # what names it
    arguments: int  # beside self


class Config:
    """One kamailio.cfg, read."""

    def __init__(self, path: str, problems: Problems, defines: dict[str, str]) -> None:
        self.path = path
        self.modules: dict[str, Place] = {}
        self.parameters: list[Parameter] = []
        self.engine = Named("native", Place(path, 1))
        self.executed: list[tuple[Named, Named | None]] = []  # python_exec: method, and its argument
        self.settings: dict[str, Named] = {}  # kemi.NAME and others of the core, as texts
        reader = Reader(problems, defines)
        self._tokens = reader.read(path)
        self._defines = reader.defines
        self.files = reader.files
        for number, token in enumerate(self._tokens):
            if token.kind == WORD:
                self._statement(token, number)

    def _statement(self, token: Token, number: int) -> None:
        after_sign = self._text_at(number + 2)  # behind = or (
        if token.text in ("loadmodule", "loadmodulex"):
            if (text := self._text_at(number + 1)) is not None:
                self.modules[re.sub(r"^.*/|\.so$", "", text.text)] = token.place
        elif token.text in ("modparam", "modparamx"):
            self._parameter(number, expand=token.text == "modparamx")
        elif token.text == "cfgengine":
            engine = after_sign if self._is_sign(number + 1, "=") else self._text_at(number + 1)
            self.engine = Named(engine.text, token.place) if engine else self.engine
        elif after_sign and token.text == "python_exec" and self._is_sign(number + 1, "("):
            self.executed.append((after_sign, self._text_at(number + 4) if self._is_sign(number + 3, ",") else None))
        elif after_sign and self._is_sign(number + 1, "="):
            self.settings.setdefault(token.text, after_sign)

    def _parameter(self, number: int, *, expand: bool) -> None:
        tokens = self._tokens[number : number + _MODPARAM_TOKENS]
        if len(tokens) < _MODPARAM_TOKENS or tokens[2].kind != TEXT or tokens[4].kind != TEXT:
            return  # Kamailio's own business
        value = tokens[6].text
        if expand:
            value = re.sub(r"\$def\((\w+)\)", lambda found: self._defines.get(found[1], found[0]), value)
        names = tuple(name.strip() for name in re.split(r"[|,]", tokens[2].text))
        self.parameters.append(Parameter(names, tokens[4].text, value, tokens[0].place))

    def _text_at(self, number: int) -> Named | None:
        if number < len(self._tokens) and self._tokens[number].kind == TEXT:
            return Named(self._tokens[number].text, self._tokens[number].place)
        return None

    def _is_sign(self, number: int, sign: str) -> bool:
        return number < len(self._tokens) and self._tokens[number][:2] == (SIGN, sign)

    # --- what is wanted of it

    def python_parameter(self, *names: str) -> Named | None:
        """The last value of a parameter of the module that runs the script."""
        found = [p for p in self.parameters if p.name in names and any(m in PYTHON_MODULES for m in p.modules)]
        return Named(found[-1].value, found[-1].place) if found else None

    def runs_python(self) -> bool:
        """Is the routing in the script?"""
        return self.engine.text == "python"

    def callbacks(self) -> list[Callback]:
        """The methods that timers and events call, when the routing is in the script."""
        if not self.runs_python():
            return []
        found = [Callback("ksr_request_route", self.engine.place, "cfgengine", 1)]
        for parameter in self.parameters:
            by = f'modparam("{parameter.modules[0]}", "{parameter.name}", ...)'
            if parameter.name == "exec" and "rtimer" in parameter.modules:
                attributes = dict(part.strip().partition("=")[::2] for part in parameter.value.split(";"))
                if route := attributes.get("route"):
                    found.append(Callback(route, parameter.place, by, 2))
            elif re.fullmatch(r"event_callback(?!_mode)\w*", parameter.name) and parameter.value:
                found.append(Callback(parameter.value, parameter.place, by, -1))
        found += [
            Callback(value.text, value.place, f"kemi.{name}", -1)
            for name, value in self.settings.items()
            if name.endswith("_route_callback") and value.text.lower() not in ("", "none")
        ]
        return found

    def default_callbacks(self) -> list[Callback]:
        """Those that the core calls when kamailio.cfg says nothing of them."""
        if not self.runs_python():
            return []
        return [
            Callback(method, self.engine.place, name, -1)
            for name, method in _DEFAULT_CALLBACKS.items()
            if name not in self.settings
        ]
