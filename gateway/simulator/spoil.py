"""How an answer is spoilt on the wire after the call was carried out."""

from __future__ import annotations

import asyncio

import msgspec

from gateway.simulator.wire import Exchange
from providers.contract.emulation import json_response
from providers.contract.exchange import HttpResponse

_PAGE = b"<!doctype html><html><head><title>%s</title></head><body><h1>%s</h1></body></html>"


async def spoil(fault: str, response: HttpResponse, exchange: Exchange, *, stopping: asyncio.Event) -> None:
    """Answer a call in the way a fault of `faults.SPOILS` says, in place of `response`.

    Args:
        fault: its name.
        response: what would have been answered.
        exchange: the call.
        stopping: ends a silence.

    Raises:
        ConnectionResetError: the fault closes connections, and the server below cannot.
        ValueError: there is no such fault.
    """
    match fault:
        case "accept_500":
            await exchange.answer(json_response(500, {"error": "Internal server error"}))
        case "accept_502":
            await exchange.answer(json_response(502, {"error": "Bad gateway"}))
        case "accept_truncated":
            await exchange.cut(response)
        case "accept_truncated_json":
            half = response.body[: len(response.body) // 2]
            await exchange.answer(msgspec.structs.replace(response, body=half))
        case "accept_silence":
            await exchange.keep_silent(stopping)
        case "accept_reset":
            await exchange.reset()
        case "html":
            await exchange.answer(_page(200, b"Welcome"))
        case "html_502":
            await exchange.answer(_page(502, b"502 Bad Gateway"))
        case _:
            raise ValueError(f"no fault {fault!r}")


def _page(status: int, title: bytes) -> HttpResponse:
    headers = {"content-type": "text/html; charset=utf-8"}
    return HttpResponse(status=status, headers=headers, body=_PAGE % (title, title))
