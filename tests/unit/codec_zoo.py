"""Exceptions of every shape, in a module that both sides can import."""

import smtplib
import subprocess
import threading
from dataclasses import dataclass


class KeywordOnly(Exception):
    def __init__(self, *, code):
        super().__init__()
        self.code = code


class Rewording(Exception):
    """What it gives to super() is not what it takes."""

    def __init__(self, host, port):
        super().__init__(f"cannot reach {host}:{port}")
        self.host = host
        self.port = port


class WithoutSuper(Exception):
    def __init__(self, first, second):
        self.pair = (first, second)


class Slotted(Exception):
    __slots__ = ("__secret", "code", "obj", "unset")

    def __init__(self, code):
        super().__init__("slotted")
        self.code = code
        self.obj = None
        self.__secret = -code

    @property
    def secret(self):
        return self.__secret


@dataclass(frozen=True)
class Frozen(Exception):
    code: int
    label: str = "x"


class OwnNew(Exception):
    def __new__(cls, number, *, unit):
        exc = super().__new__(cls, f"{number} {unit}")
        exc.unit = unit
        return exc

    def __init__(self, number, *, unit):
        super().__init__(f"{number} {unit}")


class Unreadable(OSError):
    def __init__(self, path, why):
        super().__init__(5, why, path)
        self.why = why


class Shadowing(OSError):
    @property
    def filename(self):
        return "always the same"


class BadText(UnicodeDecodeError):
    def __init__(self, path, encoding, data):
        super().__init__(encoding, data, 0, 1, "bad")
        self.path = path


class Errors(ExceptionGroup):
    """As in Python's documentation of exception groups."""

    def __new__(cls, errors, exit_code):
        group = super().__new__(Errors, f"exit code: {exit_code}", errors)
        group.exit_code = exit_code
        return group

    def derive(self, excs):
        return Errors(excs, self.exit_code)


class OwnReduce(Exception):
    def __init__(self, left, right):
        super().__init__(f"{left} {right}")
        self.pair = (left, right)

    def __reduce__(self):
        return OwnReduce, self.pair


class Holder(Exception):
    """Holds another exception, in `args` and as an attribute."""

    def __init__(self, original):
        super().__init__(original)
        self.original = original


class Needy(Exception):
    """Cannot be rebuilt unless what it holds is what it was."""

    def __init__(self, original):
        super().__init__("needy")
        self.original = original

    def __reduce__(self):
        return Needy.of, (self.original,)

    @staticmethod
    def of(original):
        if not isinstance(original, Locked | ValueError):
            raise TypeError("needs the original")
        return Needy(original)


class Locked(Exception):
    def __init__(self, message):
        super().__init__(message)
        self.lock = threading.Lock()


class RaisingReduce(Exception):
    def __reduce__(self):
        raise ZeroDivisionError("in reduce")


class InterruptingReduce(Exception):
    def __reduce__(self):
        raise KeyboardInterrupt


class RaisingStr(Exception):
    def __str__(self):
        raise ZeroDivisionError("in str")


class RaisingCause(Exception):
    @property
    def __cause__(self):
        raise ZeroDivisionError("in cause")


class OtherType(Exception):
    def __reduce__(self):
        return ValueError, ("not what it was",)


class NoException(Exception):
    def __reduce__(self):
        return dict, ()


class RaisingLoad(Exception):
    def __reduce__(self):
        return int, ("not a number",)


class Nameless(type):
    def __getattribute__(cls, name):
        if name == "__qualname__":
            raise ZeroDivisionError("in qualname")
        return super().__getattribute__(name)


class WithoutName(Exception, metaclass=Nameless):
    pass


def with_field(exc, name, value):
    setattr(exc, name, value)
    return exc


FAITHFUL = [
    ValueError("plain", 1, None),
    KeyError("key"),
    KeywordOnly(code=3),
    Rewording("host", 80),
    WithoutSuper(1, 2),
    Frozen(7, label="y"),
    OwnNew(3, unit="m"),
    OwnReduce("a", "b"),
    OSError(2, "No such file", "a/b"),
    OSError(18, "Cross-device link", "a", None, "b"),
    OSError("only words"),
    BlockingIOError(11, "again", 7),
    Unreadable("a/b", "no reason"),
    Shadowing(2, "shadowed"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range"),
    BadText("a/b", "utf-8", b"\xff"),
    SyntaxError("bad", ("f.py", 1, 2, "x =", 1, 3)),
    with_field(SyntaxError("late"), "lineno", 12),
    ImportError("no", name="pkg.mod", path="/pkg"),
    AttributeError("no", name="attr", obj=threading.Lock()),
    NameError("no", name="variable"),
    StopIteration(5),
    subprocess.CalledProcessError(3, ["cmd"], b"out", b"err"),
    subprocess.TimeoutExpired(["cmd"], 1.5),
    smtplib.SMTPAuthenticationError(535, b"denied"),
    SystemExit(3),
    with_field(SystemExit(), "code", 4),
    KeyboardInterrupt(),
    GeneratorExit("bye"),
    RecursionError("deep"),
    with_field(ValueError("extra"), "extra", {"a": [1]}),
    ValueError("a surrogate \udc80"),
]
