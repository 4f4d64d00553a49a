# SPDX-License-Identifier: GPL-2.0-or-later
"""Judges one file: a script, a definitions file, or a kamailio.cfg with the script that it loads."""

from __future__ import annotations

import os
from typing import NamedTuple

from kemi import definitions
from kemi.check.config import PYTHON_MODULES, Callback, Config, Named
from kemi.check.problems import Place, Problem, Problems
from kemi.check.script import Methods, Script
from kemi.errors import ConfigError
from kemi.names import ANSWERS_ROUTE
from kemi.readfile import read_file, text_of
from kemi.server.native import Handler
from kemi.spec import Settings

SCRIPT, DEFINITIONS, CONFIG = "script", "definitions", "kamailio.cfg"
_OWN = "mqueue_kemi.py"
_FUNCTIONS_MODULE = "app_python3s"  # calls functions of the script, not methods of an object
_OF_CONFIG = ("loadmodule", "cfgengine", "request_route", "loadpath", "mpath")


class Verdict(NamedTuple):
    """What was found."""

    kind: str
    files: list[str]
    queues: list[str]
    callbacks: list[str]
    problems: list[Problem]


class _Judge:
    def __init__(self) -> None:
        self.problems = Problems()
        self.files: list[str] = []
        self.queues: list[str] = []
        self.callbacks: list[str] = []

    # --- each kind of file

    def script(self, path: str, config: Config | None = None) -> None:
        self.files.append(path)
        self._names(path)
        script = Script(path, self.problems)
        self.queues = list(script.settings.queues)
        if script.tree is None:
            return
        theirs = config is not None and "mqueue" in config.modules
        for use in script.uses:
            of_the_c_module = theirs and not use.by.startswith("mq_")
            if script.knows_all_queues and use.name not in self.queues and not of_the_c_module:
                self._undefined(use.place, use.name, use.by)
        if script.asks is not None and config is not None:
            self._answers(script.asks, config)
        if config is not None and _FUNCTIONS_MODULE in config.modules:
            self._of_functions(script, config)
        elif config is not None or not script.is_of_functions():
            self._of_a_class(script, config)

    def _of_a_class(self, script: Script, config: Config | None) -> None:
        """For app_python3: mod_init returns an object, whose methods are called with the message."""
        top = Place(script.path, 1)
        mod_init = (config.python_parameter("mod_init_function") if config else None) or Named("mod_init", top)
        child_init = (config.python_parameter("child_init_method") if config else None) or Named("child_init", top)
        methods = script.methods(mod_init.text)
        if methods is None:
            return
        wanted = [Callback(child_init.text, child_init.place, "Kamailio, in each process", 1)]
        wanted += self._named_by(script, config)
        for callback in wanted:
            self._callback(callback, methods, "method", "beside self")
        for callback in config.default_callbacks() if config and script.sends else []:
            self._default_callback(callback, methods)

    def _of_functions(self, script: Script, config: Config) -> None:
        """For app_python3s: functions of the script are called, without a message."""
        functions = script.functions()
        wanted = [
            Callback(named.text, named.place, f'modparam("{_FUNCTIONS_MODULE}", "{name}", ...)', arguments + 1)
            for name, arguments in (("script_init", 0), ("script_child_init", 1))
            if (named := config.python_parameter(name)) is not None
        ]
        for callback in wanted + self._named_by(script, config):
            self._callback(callback._replace(arguments=callback.arguments - 1), functions, "function", "")

    @staticmethod
    def _named_by(script: Script, config: Config | None) -> list[Callback]:
        """What kamailio.cfg and the script itself name."""
        found = [Callback(route.name, route.place, route.by, -1) for route in script.routes]
        if config is not None:
            found += [callback for callback in config.callbacks() if callback.method != ANSWERS_ROUTE]
            found += [Callback(method.text, method.place, "python_exec", -1) for method, _ in config.executed]
        return found

    def definitions(self, path: str) -> list[str]:
        """Return the queues that it defines."""
        self.files.append(path)
        settings = Settings()
        try:
            for definition in definitions.parse(path, definitions.text_of(path)):
                try:
                    definition.apply(settings)
                except ConfigError as error:
                    self._located(path, error)
        except ConfigError as error:
            self._located(path, error)
        try:
            settings.check()
        except ConfigError as error:
            self.problems.error(Place(path, 1), str(error))
        self.queues = list(settings.queues)
        return self.queues

    def config(self, path: str, defines: dict[str, str]) -> None:
        config = Config(path, self.problems, defines)
        self.files += config.files
        if not config.files:
            return
        top = Place(path, 1)
        if not any(module in config.modules for module in PYTHON_MODULES):
            self.problems.error(top, f'no loadmodule "{PYTHON_MODULES[0]}.so": nothing here runs a Python script')
            return
        for parameter in config.parameters:
            if "mqueue" in parameter.modules and "mqueue" not in config.modules:
                self.problems.error(
                    parameter.place,
                    'modparam("mqueue", ...) here is for the C module, which is not loaded: write it in the script, '
                    f"or in {definitions.FILE}",
                )
        load = config.python_parameter("load", "script_name")
        if load is None:
            self.problems.error(top, f'no modparam("{PYTHON_MODULES[0]}", "load", "SCRIPT.py")')
            return
        found = self._find(config, load)
        if found is not None:
            self.callbacks = [callback.method for callback in config.callbacks()]
            self._native(config, found) if os.path.basename(found) == _OWN else self.script(found, config)

    def _find(self, config: Config, load: Named) -> str | None:
        """The script's file: Kamailio looks in its working folder."""
        workdir = config.settings.get("workdir")
        folders = [workdir.text if workdir else ".", ".", os.path.dirname(config.path)]
        places = [os.path.normpath(os.path.join(folder, load.text)) for folder in folders]
        for place in places:
            if os.path.isfile(place):
                return place
        tried = ", ".join(dict.fromkeys(map(os.path.abspath, places)))
        self.problems.error(load.place, f"the script {load.text} was not found (looked for {tried})")
        return None

    def _native(self, config: Config, module: str) -> None:
        """A native kamailio.cfg: our own module is the script."""
        folders = [os.path.dirname(path) or "." for path in (config.path, module)]
        try:
            queues = self.definitions(definitions.find(folders))
        except ConfigError as error:
            self.problems.error(Place(config.path, 1), str(error))
            return
        methods = sorted(name for name in vars(Handler) if name.startswith("mq_"))
        for method, queue in config.executed:
            if method.text not in methods:
                self.problems.error(method.place, f'python_exec("{method.text}"): there are {", ".join(methods)}')
            elif queue is not None and "$" not in queue.text and (name := _queue_of(queue.text)) not in queues:
                self._undefined(queue.place, name, f'python_exec("{method.text}", ...)')

    def _answers(self, asks: Place, config: Config) -> None:
        """Does kamailio.cfg have what a script needs that asks?"""
        modules = [f"{name}.so" for name in ("tm", "tmx", "rtimer") if name not in config.modules]
        if modules:
            self.problems.error(asks, f"the script calls ask(), and kamailio.cfg loads no {' and no '.join(modules)}")
        if not any(callback.method == ANSWERS_ROUTE for callback in config.callbacks()):
            self.problems.error(
                asks,
                "the script calls ask(), and kamailio.cfg has no answers process: write "
                'modparam("rtimer", "timer", "name=answers;interval=1000u;mode=1;") and '
                f'modparam("rtimer", "exec", "timer=answers;route={ANSWERS_ROUTE}")',
            )

    # --- what is looked at

    def _names(self, path: str) -> None:
        """Files that hide ours: the script's folder comes first on Python's path."""
        folder, name = os.path.split(path)
        if name in ("kemi.py", _OWN):
            self.problems.error(Place(path, 1), f"a script may not be named {name}, which hides ours: rename it")
        for other in ("kemi.py", os.path.join("kemi", "__init__.py"), _OWN):
            place = os.path.join(folder, other)
            if other != name and os.path.isfile(place) and not _is_ours(folder):
                self.problems.error(
                    Place(place, 1), f"hides the {other.partition(os.sep)[0]} of mqueue_kemi: rename it"
                )

    def _callback(self, callback: Callback, methods: Methods, kind: str, beside: str) -> None:
        takes = methods.found.get(callback.method)
        if takes is None:
            if methods.is_whole:
                self.problems.error(callback.place, f"{callback.by}: the script has no {kind} {callback.method}")
            else:
                text = f"{callback.by}: only a run would show whether the script has a {kind} {callback.method}"
                self.problems.warning(callback.place, text)
        elif callback.arguments >= 0 and not takes[0] <= callback.arguments <= takes[1]:
            text = f"{callback.by}: {callback.method} is called with {callback.arguments} arguments {beside}".rstrip()
            self.problems.error(callback.place, f"{text}, and takes {_span(takes)}")

    def _default_callback(self, callback: Callback, methods: Methods) -> None:
        if methods.is_whole and callback.method not in methods.found:
            self.problems.warning(
                callback.place,
                f"the script has no method {callback.method}, which Kamailio looks for: 5.6 leaves an exception behind "
                f'each time; write the method, or kemi.{callback.by} = "none"',
            )

    def _undefined(self, place: Place, queue: str, by: str) -> None:
        there = f"defined are {', '.join(self.queues)}" if self.queues else "none is defined"
        self.problems.error(place, f'{by}: queue "{queue}" is not defined; {there}')

    def _located(self, path: str, error: ConfigError) -> None:
        """An error whose text begins with file and line."""
        head, separator, text = str(error).partition(": ")
        line = head.rpartition(", line ")[2]
        if separator and line.isdecimal():
            self.problems.error(Place(path, int(line)), text)
        else:
            self.problems.error(Place(path, 1), str(error))


def _queue_of(text: str) -> str:
    """The queue in what python_exec is given: QUEUE, or QUEUE;then=ROUTE;..."""
    return text.partition(";")[0].strip()


def _span(takes: tuple[int, float]) -> str:
    return str(takes[0]) if takes[0] == takes[1] else f"{takes[0]} to {takes[1]}"


def _is_ours(folder: str) -> bool:
    """Is this the folder in which mqueue_kemi itself lies?"""
    return os.path.realpath(folder) == os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def kind_of(path: str) -> str:
    """What a file is, by its name and its first words. Raises OSError."""
    if path.endswith(".py"):
        return SCRIPT
    lines = text_of(read_file(path)).split("\n")
    words = {line.split("(")[0].split("=")[0].split('"')[0].split("{")[0].strip() for line in lines}
    return CONFIG if any(word.startswith(_OF_CONFIG) for word in words) else DEFINITIONS


def judge(path: str, defines: dict[str, str]) -> Verdict:
    """Judge a file. defines: as option -A of Kamailio sets them, for a kamailio.cfg. Raises OSError."""
    kind, one = kind_of(path), _Judge()
    if kind == SCRIPT:
        one.script(path)
    elif kind == DEFINITIONS:
        one.definitions(path)
    else:
        one.config(path, defines)
    problems = sorted(one.problems.found, key=lambda problem: problem.place)
    return Verdict(kind, one.files, one.queues, one.callbacks, problems)
