"""A headless Chromium that opens a page from disk, as a reader would, and tells what it sees."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FOUND = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Chromium:
    """One browser with one page; it is steered over a pipe (Chrome's DevTools protocol), without any port.

    Args:
        profile: an empty folder.
    """

    def __init__(self, profile: Path) -> None:
        assert FOUND is not None
        self._errors: list[str] = []
        their_in, self._out = os.pipe()
        self._in, their_out = os.pipe()
        options = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
            "--no-first-run", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
        ]  # fmt: skip
        script = f'exec "$0" "$@" 3<&{their_in} 4>&{their_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, FOUND, *options],
            pass_fds=(their_in, their_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_in)
        os.close(their_out)
        self._held, self._count = b"", 0
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = ""
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._out)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)

    def open(self, page: Path, width: int = 1280, height: int = 900, dark: bool = False) -> list[str]:
        """Opens a page at a width and waits for it.

        Returns:
            All that the console complained about, and every address that was asked for beside the page itself.
        """
        self._errors = []
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])
        self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self._send("Page.navigate", url=page.resolve().as_uri())
        self.run(
            "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))"
        )
        return list(self._errors)

    def run(self, script: str) -> Any:
        """The value of a piece of JavaScript."""
        told = self._send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def press(self, key: str) -> None:
        """A key of the keyboard, such as ``Tab`` or ``Enter``."""
        text = {"text": "\r"} if key == "Enter" else {}
        self._send(
            "Input.dispatchKeyEvent",
            type="keyDown",
            key=key,
            code=key,
            windowsVirtualKeyCode=_KEYS[key],
            **text,
        )
        self._send(
            "Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=_KEYS[key]
        )

    def screenshot(self, to: Path) -> None:
        """The whole page as PNG."""
        data = self._send("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        to.write_bytes(base64.b64decode(data))

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if getattr(self, "_session", ""):
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        name, told = event.get("method"), event.get("params", {})
        if name == "Runtime.exceptionThrown":
            self._errors.append(json.dumps(told["exceptionDetails"]))
        elif name == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self._errors.append(json.dumps(told["args"]))
        elif name == "Log.entryAdded":
            self._errors.append(told["entry"]["text"])
        elif name == "Network.requestWillBeSent" and told["type"] != "Document":
            address = told["request"]["url"]
            if not address.startswith("data:"):
                self._errors.append(f"asked for {address}")

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            data = os.read(self._in, 1 << 20)
            assert data, "Chromium ended"
            self._held += data
        line, _, self._held = self._held.partition(b"\0")
        return dict(json.loads(line))


_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowRight": 39, "ArrowDown": 40}
