"""Workers and callers in the guests of the lab, and the server's own look at the spool."""

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

from support import wait_until

PROJECT = Path(__file__).parent / "project"
# The lab's server sometimes answers nothing for up to half a minute, while its disk writes.
PATIENCE = 100.0
# A step of a guest must have ended by then.
STEP = 50.0
# Seconds between looks into a guest, which take its time.
LOOK = 0.05
# Every scenario that is not about the defaults: two beats a second.
BRISK = {"FSQUEUE__HEARTBEAT": "0.5"}

LINES = """[
    line for name in os.listdir({0!r}) if name.startswith('runs.')
    for line in open({0!r} + '/' + name).read().split()
]"""


class Process:
    """A command in a guest."""

    def __init__(self, site, client, arguments, env):
        self.client, self._site = client, site
        self._job = site.lab.popen(
            client, [site.python, *arguments], env=site.env | env, cwd=str(PROJECT)
        )

    @property
    def log(self):
        return self._job.stderr

    @property
    def printed(self):
        return self._job.stdout

    def wait_for(self, text, *, timeout=PATIENCE):
        """Wait until a text has come out, on either channel."""
        self._wait(lambda: text in self.log or text in self.printed, text, timeout)

    def _wait(self, has_come, text, timeout=PATIENCE):
        def there():
            if has_come():
                return True
            assert self._job.poll() is None, f"ended without {text!r}: {self._all()}"
            return False

        try:
            wait_until(there, timeout=timeout, what=f"{text!r} on {self.client}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self._all()}") from None

    def published(self):
        """The id that a caller has printed: of a call, or of the client of many."""
        self._wait(lambda: "\n" in self.printed, "a line")  # its log may come first
        word, invocation_id = self.printed.splitlines()[0].split()
        assert word == "published"
        return invocation_id

    def answer(self, *, timeout=PATIENCE):
        """What a caller's command has found out."""
        try:
            status = self._job.wait(timeout)
        except subprocess.TimeoutExpired:
            self._show_where_it_is()
            raise AssertionError(f"not within {timeout:g} s: {self._all()}") from None
        assert status == 0, self._all()
        return json.loads(self.printed.splitlines()[-1])

    def _show_where_it_is(self):
        """Let a caller write its stacks into its log."""
        self._job.send_signal(signal.SIGUSR1)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: "Current thread" in self.log, timeout=5)

    def signal(self, number):
        """Send it a signal."""
        self._job.send_signal(number)

    def stop(self):
        """Let a worker finish what it runs, and leave."""
        self.signal(signal.SIGTERM)
        self.ends()

    def ends(self):
        """Wait for an end without an error."""
        assert self._job.wait(PATIENCE) == 0, self._all()

    def end(self):
        """End it, if it still runs."""
        if self._job.poll() is None:
            self._job.kill()
            self._job.wait(PATIENCE)

    def _all(self):
        return f"{self.printed}\n{self.log}\n{self._site.picture()}"


class Site:
    """A spool on NFS, and who works there."""

    def __init__(self, lab, name, python):
        self.lab, self.python = lab, python
        self.base = f"{lab.mountpoint}/{name}"
        self.folder = f"{self.base}/marks"
        self.root = f"{self.base}/spool"
        # A folder of the same path on each client, of its own.
        self.local = f"/run/{name}"
        self.env = {"FSQUEUE__ROOT": self.root, "PYTHONDONTWRITEBYTECODE": "1"}
        if "FSQUEUE_TESTS_RECORDS" in os.environ:  # otherwise links, as on any network filesystem
            self.env["FSQUEUE__RECORDS"] = os.environ["FSQUEUE_TESTS_RECORDS"]
        if "FSQUEUE_TESTS_WATCH" in os.environ:  # "push"
            self.env["FSQUEUE__WATCH"] = os.environ["FSQUEUE_TESTS_WATCH"]
        self._exported = f"/export/{name}"
        self.exported_marks = f"{self._exported}/marks"
        self._processes = []
        self.on_server(f"os.makedirs('{self.exported_marks}')")
        for client in lab.clients:
            lab.run(client, ["mkdir", self.local], check=True)

    def worker(self, client, *, slots=4, app="nfs_tasks:app", queue="", **env):
        arguments = ["-m", "fsqueue", "worker", app, "--concurrency", str(slots)]
        if queue:
            arguments += ["--queue", "default", "--queue", queue]
        process = self._start(client, arguments, BRISK | env)
        process.wait_for(" serves ")
        return process

    def executor_worker(self, client, *, slots, **env):
        arguments = ["-m", "fsqueue", "worker", "--root", self.root, "--runner", "thread"]
        process = self._start(client, [*arguments, "--concurrency", str(slots)], BRISK | env)
        process.wait_for(" serves ")
        return process

    def caller(self, client, *arguments, **env):
        return self.program(client, "nfs_calls.py", *arguments, **env)

    def program(self, client, name, *arguments, **env):
        return self._start(client, [name, *map(str, arguments)], BRISK | env)

    def script(self, client, name, *arguments):
        process = self._start(client, [name, self.folder, *arguments], {})
        process.wait_for("ready")
        return process

    def _start(self, client, arguments, env):
        process = Process(self, client, arguments, env)
        self._processes.append(process)
        return process

    def close(self):
        for process in self._processes:
            if not self.lab.guests[process.client].gone:
                process.end()

    # -- the server's view, which no cache comes between ------------------------------------

    def requests(self):
        """Requests that the server has answered since it booted."""
        lines = self.on_server("open('/proc/net/rpc/nfsd').read()").splitlines()
        (line,) = (line for line in lines if line.startswith("rpc "))
        return int(line.split()[1])

    def on_server(self, code):
        """Evaluate Python on the server, by one that stays: most ask again and again."""
        guest = self.lab.guests["server"]
        booted, remote = getattr(self.lab, "looker", (None, None))
        if booted is not guest:
            remote = self.lab.remote("server")
            self.lab.looker = guest, remote
        return remote(code, STEP)

    def steps(self, client):
        """A Python in a guest that evaluates step by step, within a moment each."""
        plain = self.lab.remote(client)  # its Python knows the standard library only
        plain.close()
        return contextlib.closing(type(plain)(self.lab, client, self.python))

    def on(self, guest, code):
        """Evaluate Python in a guest."""
        remote = self.lab.remote(guest)
        with contextlib.closing(remote):
            return remote(code, STEP)

    def exported(self, top):
        """The path of a folder of the spool on the server."""
        return f"{self._exported}/spool/{top}"

    def files(self, top):
        """Names of files in a folder of the spool, at any depth."""
        return self.on_server(
            f"sorted(name for _, _, names in os.walk({self.exported(top)!r}) for name in names)"
        )

    def digest(self, path):
        """Tells whether a file of the spool has changed."""
        return self.on_server(
            "import hashlib\n"
            f"path = '{self._exported}/spool/{path}'\n"
            "is_link = os.path.islink(path)\n"
            "data = os.readlink(path).encode() if is_link else open(path, 'rb').read()\n"
            "hashlib.sha256(data).hexdigest()"
        )

    def runs(self):
        """What the bodies have noted in the shared folder, one line each."""
        return self.on_server(LINES.format(self.exported_marks))

    def local_runs(self, client):
        """What they have noted in the client's own folder."""
        return self.on(client, LINES.format(self.local))

    def wait_for_runs(self, count, *, timeout=PATIENCE):
        wait_until(
            lambda: len(self.runs()) >= count,
            timeout=timeout,
            what=f"{count} runs of bodies",
            pause=LOOK,
        )

    def allow(self, name):
        """Make the file that processes or bodies wait for."""
        self.on_server(f"open('{self.exported_marks}/{name}', 'w').close()")

    def picture(self):
        """What is going on, for the message of a failure."""
        spool = f"{self._exported}/spool"
        lines = [f"on {process.client}: {process.log}" for process in self._processes]
        if not self.lab.guests["server"].gone:
            seen = f"[(d[{len(spool)}:], sorted(n)[:20]) for d, _, n in os.walk({spool!r}) if n]"
            lines += map(str, self.on_server(seen))
        return "\n".join(lines)

    def reconcile(self, ids=(), *, late=0):
        """Everything accepted is finished, once, and nothing else is left.

        Args:
            ids: of the calls whose outcomes are kept.
            late: results that came after the collection of the outcome, which nobody sees.
        """
        left = {top: self.files(top) for top in ("pending", "running", "quarantine")}
        assert left == {"pending": [], "running": [], "quarantine": []}
        uncollected = self.files("done")
        assert len(uncollected) == late, uncollected
        assert self.files("kept") == sorted(ids)
