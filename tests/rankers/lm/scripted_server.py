"""A server on loopback that answers chat completions as a script says, one entry per request, the last one for ever."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def answer(text="ok", *, finish="stop", usage=(10, 2), status=200, **more):
    """A reply as the protocol says; ``more`` is put into the message."""
    body = {
        "id": "1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text, **more}, "finish_reason": finish}],
    }
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return {"status": status, "json": body}


def error(status, message="no", *, code=None, param=None, headers=None):
    return {
        "status": status,
        "json": {"error": {"message": message, "code": code, "param": param, "type": "e"}},
        "headers": headers or {},
    }


def raw(data, status=200):
    return {"status": status, "raw": data}


HANG = {"hang": 5.0}
DROP = {"drop": True}
"""Half of a body, and the connection is closed."""


class Script:
    def __init__(self, *replies):
        self.replies = list(replies)
        self.requests = []
        self.times = []
        self.keys = []
        self.lock = threading.Lock()
        self.at_once = 0
        self.most_at_once = 0

    def next(self, body):
        with self.lock:
            self.requests.append(body)
            self.times.append(time.monotonic())
            number = len(self.requests) - 1
        reply = self.replies[min(number, len(self.replies) - 1)]
        return reply(body) if callable(reply) else reply


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._send(
            200, json.dumps({"object": "list", "data": [{"id": m, "object": "model"} for m in self.server.models]})
        )

    def do_POST(self):
        script = self.server.script
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        script.keys.append(self.headers.get("Authorization"))
        with script.lock:
            script.at_once += 1
            script.most_at_once = max(script.most_at_once, script.at_once)
        try:
            reply = script.next(body)
            time.sleep(reply.get("wait", 0))
        finally:
            with script.lock:
                script.at_once -= 1
        if "hang" in reply:
            self.server.released.wait(reply["hang"])
            self.close_connection = True
            return
        if reply.get("drop"):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [{"message": {"content": "[3] > [')
            self.close_connection = True
            return
        if "chunks" in reply:
            self._send_chunks(reply["chunks"])
            return
        data = reply["raw"] if "raw" in reply else json.dumps(reply["json"])
        self._send(reply["status"], data, reply.get("headers", {}))

    def _send_chunks(self, chunks):
        """Bytes one after the other, each in a packet of its own; a number is a pause, and None an early death."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in chunks:
            if chunk is None:
                self.close_connection = True
                return
            if isinstance(chunk, bytes):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.flush()
            else:
                self.server.released.wait(chunk)
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, status, data, headers=()):
        data = data if isinstance(data, bytes) else data.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that went away is what some tests are about."""


@contextmanager
def serving(*replies, models=("m",)):
    """The script, with its ``url``."""
    server = Quiet(("127.0.0.1", 0), Handler)
    server.script = Script(*replies)
    server.models = models
    server.released = threading.Event()
    server.script.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.script
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
