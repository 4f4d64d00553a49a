"""Typical mistakes in routing scripts, and who catches them: mypy with KSR-stubs, the fake, or both."""

from __future__ import annotations

from typing import NamedTuple


class Mistake(NamedTuple):
    """A few lines of a route, and what is said about them."""

    lines: str
    mypy: str | None  # the code of mypy's error
    fake: str | None  # the exception's name

    def script(self) -> str:
        """A whole script with those lines in its route."""
        route = "\n".join(f"        {line}" for line in self.lines.strip().splitlines())
        return (
            "from __future__ import annotations\n\nimport KSR\n\n\nclass Script:\n"
            "    def child_init(self, rank: int) -> int:\n        return 0\n\n"
            f"    def ksr_request_route(self, msg: object) -> int:\n{route}\n        return 1\n\n\n"
            "def mod_init() -> Script:\n    return Script()\n"
        )


MISTAKES: dict[str, Mistake] = {
    "a misspelt function": Mistake("KSR.sl.send_replay(404, 'Not Found')", "attr-defined", "AttributeError"),
    "a misspelt module": Mistake("KSR.textop.has_body()", "attr-defined", "AttributeError"),
    "a function of another module": Mistake("KSR.tm.sl_send_reply(404, 'Not Found')", "attr-defined", "AttributeError"),
    "a function of kamailio.cfg": Mistake("KSR.textops.append_hf('X: 1\\r\\n')", "attr-defined", "AttributeError"),
    "an argument too few": Mistake("KSR.sl.send_reply(404)", "call-arg", "SystemError"),
    "an argument too many": Mistake("KSR.hdr.remove('X', 'Y')", "call-arg", "SystemError"),
    "arguments where there are none": Mistake("KSR.tm.t_relay('10.0.0.1', 5060)", "call-arg", "SilentMistake"),
    "a code that is text": Mistake("KSR.sl.send_reply('404', 'Not Found')", "arg-type", "SystemError"),
    "a number that is to be text": Mistake("KSR.pv.sets('$var(n)', 5)", "arg-type", "SystemError"),
    "a text that is to be a number": Mistake("KSR.pv.seti('$var(n)', '5')", "arg-type", "SystemError"),
    "bytes": Mistake("KSR.info(b'hello')", "arg-type", "SystemError"),
    "keywords": Mistake("KSR.sl.send_reply(code=404, reason='Not Found')", "call-arg", "TypeError"),
    "null in a sum": Mistake("KSR.info('user ' + KSR.pv.get('$avp(user)'))", "operator", "TypeError"),
    "null as an argument": Mistake("KSR.seturi(KSR.hdr.get('X-Target'))", "arg-type", "SystemError"),
    "KSR.x.exit, which other languages have": Mistake("KSR.x.exit()", "attr-defined", "AttributeError"),
    "KSR.x.modf, which crashes": Mistake("KSR.x.modf('sl_reply_error')", None, "SilentMistake"),
    "a value for a function's name": Mistake("if KSR.is_INVITE:\n    pass", "truthy-function", None),
    "a result that is none": Mistake("if KSR.info('x') == 1:\n    pass", "func-returns-value", None),
    "a variable without $": Mistake("KSR.pv.get('rU')", None, "SilentMistake"),
    "a variable that cannot be set": Mistake("KSR.pv.sets('$ci', 'x')", None, "SilentMistake"),
    "a variable of another name": Mistake("KSR.pv.get('$rUser')", None, "NotCovered"),
    "a $ in a text for the log": Mistake("KSR.xlog.xinfo('costs 5$ a minute\\n')", None, "SilentMistake"),
    "a header without its end": Mistake("KSR.hdr.append('X-New: 1')", None, "SilentMistake"),
    "a reply's header without its end": Mistake("KSR.hdr.append_to_reply('X-New: 1')", None, "SilentMistake"),
    "an operator that is none": Mistake("KSR.hdr.match_content('To', '==', 'x', 'f')", None, "SilentMistake"),
    "a route that returns nothing": Mistake("return", "return-value", "SilentMistake"),
    "a reply that tm cannot send": Mistake("assert KSR.tm.t_reply(404, 'Not Found') > 0", None, "AssertionError"),
    "a text with a NUL": Mistake("KSR.info('a\\0b')", None, "SystemError"),
}
