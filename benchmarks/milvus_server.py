"""A Milvus server of one's own, from the wheel ``milvus``, to start, kill and stop."""

import os
import socket
import time
from pathlib import Path
from urllib.request import urlopen


class Server:
    """Free ports, a folder, and a process.

    Args:
        folder: Where it keeps everything; one that it has left is used again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._server = folder, None

    @property
    def uri(self) -> str:
        """Where it listens."""
        return f'http://127.0.0.1:{self._server.listen_port}'

    def start(self) -> None:
        """Starts it and waits until it is healthy.

        Raises:
            ModuleNotFoundError: If the wheel is not installed.
            RuntimeError: If it does not start within 90 seconds.
        """
        import milvus

        # Its own way to wait does not notice a server that has ended.
        self._server = milvus.MilvusServer(wait_for_started=False)
        self._server.set_base_dir(str(self.folder))
        # It takes the next free one, as it does for its inner ports.
        self._server.listen_port = 19530
        # Seconds until a server that was killed is taken for dead, 30 by default. One that gets no
        # core for so long takes parts of itself for dead, and does not recover.
        self._server.config.set('common.session.ttl', 10)
        config = self._server.config
        config.template_text = config.template_text.replace(
            '\netcd:\n', f'\netcd:\n  config:\n    path: {self._etcd_config()}\n'
        )
        self._server.start()
        until = time.monotonic() + 90
        while not self._is_healthy():
            ended = self._server.server_proc.poll()
            if ended is not None or time.monotonic() > until:
                log = (self.folder / 'logs' / 'milvus-stderr.log').read_text('utf-8', 'replace')
                raise RuntimeError(f'the server did not start ({ended}): {log[-500:]}')
            time.sleep(0.2)

    def _etcd_config(self) -> Path:
        """Ports for the store inside it, which else takes the same two in every server."""
        path = self.folder / 'etcd.yaml'
        if not path.exists():
            with (
                socket.create_server(('127.0.0.1', 0)) as one,
                socket.create_server(('127.0.0.1', 0)) as two,
            ):
                client, peer = (f'http://127.0.0.1:{s.getsockname()[1]}' for s in (one, two))
            path.write_text(
                f'name: default\nlisten-client-urls: {client}\nadvertise-client-urls: {client}\n'
                f'listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\n'
                f'initial-cluster: default={peer}\n'
            )
        return path

    def _is_healthy(self) -> bool:
        url = f'http://127.0.0.1:{self._server.webservice_port}/healthz'
        try:
            with urlopen(url, timeout=5) as answer:
                return b'OK' in answer.read()
        except OSError:
            return False

    def cpu_seconds(self) -> float:
        """CPU time that it has taken so far."""
        status = Path(f'/proc/{self._server.server_proc.pid}/stat').read_text()
        # Behind the name, which may hold anything: fields 14 and 15 of all.
        user, system = status.rpartition(')')[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')

    def memory(self) -> float:
        """Memory that it holds now, in MB."""
        lines = Path(f'/proc/{self._server.server_proc.pid}/status').read_text().splitlines()
        [held] = [line.split()[1] for line in lines if line.startswith('VmRSS:')]
        return int(held) / 1e3

    def disk(self) -> float:
        """Size of its data with its log of writes, in MB."""
        files = (path for path in (self.folder / 'data').rglob('*') if path.is_file())
        return sum(path.stat().st_size for path in files) / 1e6

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self._server.server_proc.kill()
        self._server.server_proc.wait()
        self._server.stop()

    def stop(self) -> None:
        """Ends it in order, if it was started."""
        if self._server is not None:
            self._server.stop()
