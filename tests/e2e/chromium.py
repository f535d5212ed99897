"""Chromium without a head, driven by its DevTools protocol: what a person does, and what the page did."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium")
"""Debian's package; None where it is not installed."""
PATIENCE_S = 30.0
_FLAGS = (
    "--headless", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-extensions", "--no-first-run", "--mute-audio", "--hide-scrollbars",
    "--remote-debugging-port=0",
)  # fmt: skip


class Tab:
    """One page.

    Attributes:
        asked: every address it asked for.
        said: what went wrong by the browser's own word: exceptions, refused loads, console errors.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.asked: list[str] = []
        self.said: list[str] = []
        self._socket = socket
        self._session = ""
        self._numbers = iter(range(1, 1_000_000))
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def open(self) -> None:
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.call(f"{domain}.enable")

    async def listen(self) -> None:
        async for message in self._socket:
            document = json.loads(message.data)
            if "id" in document:
                self._answers.pop(document["id"]).set_result(document)
            else:
                self._hear(document.get("method", ""), document.get("params", {}))

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        document = {"id": number, "method": method, "params": params}
        await self._socket.send_json(document | ({"sessionId": self._session} if self._session else {}))
        said = await asyncio.wait_for(answer, PATIENCE_S)
        assert "error" not in said, (method, said)
        result: dict[str, Any] = said["result"]
        return result

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})")

    async def evaluate(self, script: str) -> Any:
        """The value of a script; None while the page is on its way to another."""
        document = await self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        return document["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait for a script to be true of the page, whichever page that is by then."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    found = await self.evaluate(
                        f"(() => {{ try {{ return {script} }} catch {{ return null }} }})()"
                    )
                    if found or found == {}:  # as which an element comes back
                        return found
                    await asyncio.sleep(0.05)
        except TimeoutError:
            shown = await self.evaluate("document.body.innerText")
            raise AssertionError(f"never came true: {script}\n{shown}\n{self.said}") from None

    async def click(self, selector: str) -> None:
        """Press the mouse over an element, as a person does."""
        place = await self.until(
            f"""(() => {{ const one = document.querySelector({json.dumps(selector)});
            one.scrollIntoView({{block: 'center'}}); const box = one.getBoundingClientRect();
            return {{x: box.x + box.width / 2, y: box.y + box.height / 2}} }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    async def write(self, selector: str, text: str) -> None:
        """Write into a field."""
        await self.click(selector)
        await self.call("Input.insertText", text=text)

    async def look(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Give the window a size, and the person a taste."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def picture(self, file: Path, *, whole: bool = False) -> None:
        """Keep a picture of the window, or of the whole page."""
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        await asyncio.to_thread(_keep, file, base64.b64decode(shot["data"]))

    def _hear(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.said.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.said.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.said.append(str(params["args"]))


@asynccontextmanager
async def open_tab(folder: Path) -> AsyncIterator[Tab]:
    """Start a browser that knows nothing, with one page; both end with the block.

    Args:
        folder: empty, for all it keeps.
    """
    assert CHROMIUM is not None
    as_root = ("--no-sandbox",) if os.geteuid() == 0 else ()
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *_FLAGS, *as_root, f"--user-data-dir={folder}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        address = await asyncio.wait_for(_address(process.stderr), PATIENCE_S)
        reading = asyncio.create_task(process.stderr.read())  # lest it waits for somebody to read
        async with aiohttp.ClientSession() as http, http.ws_connect(address, max_msg_size=0) as socket:
            tab = Tab(socket)
            listening = asyncio.create_task(tab.listen())
            await tab.open()
            yield tab
        await listening
    finally:
        process.kill()
        await process.wait()
    await reading


def _keep(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


async def _address(lines: asyncio.StreamReader) -> str:
    said: list[str] = []
    async for line in lines:
        said.append(line.decode())
        if found := re.search(r"DevTools listening on (ws://\S+)", said[-1]):
            return found[1]
    raise AssertionError(f"Chromium did not start: {''.join(said)[-2000:]}")
