"""Where one request ends and the next begins: the same for every segmentation, or refused."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from typing import Any

import pytest
from support.site import Site, open_site

from iii_skill.calls import Call
from iii_skill.server.http.limits import HttpLimits

LAST = b"GET /last HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
CUTS = [0, 1, 7]
"""Bytes in a segment; 0: everything in one."""


def routes(site: Site) -> None:
    """Functions that answer with the body they got; `/admin` is what nobody may reach through a body."""

    def echo(call: Call) -> None:
        data = json.loads(call.data)
        call.succeed(json.dumps({"body": [data["path"], data["body"]]}).encode())

    for path in ("/e", "/admin", "/last"):
        site.route(path, echo)
        site.route(path, echo, "POST")


async def sent(data: bytes, cut: int, *, last: bytes = LAST) -> tuple[list[int], list[Any]]:
    """Statuses of the answers, and path, body and headers of each call, for the data and one request more."""
    async with open_site() as site:
        routes(site)
        reader, writer = await site.connect()
        whole = data + last
        for start in range(0, len(whole), cut or len(whole)):
            writer.write(whole[start : start + (cut or len(whole))])
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            answers = await reader.read()
        calls = [site.data(index) for index in range(len(site.calls))]
        statuses = [int(line[:3]) for line in answers.split(b"HTTP/1.1 ")[1:]]
        return statuses, calls


POST = b"POST /e HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
ADMIN = b"GET /admin HTTP/1.1\r\nhost: localhost\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"

REFUSED = [
    # content-length with transfer-encoding, and two lengths
    (POST + b"content-length: 3\r\n" + CHUNKED + b"0\r\n\r\n" + ADMIN, 400),
    (POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n" + ADMIN, 400),
    (POST + b"content-length: 0\r\n" + CHUNKED + b"0\r\n\r\n" + ADMIN, 400),
    (POST + b"content-length: 2\r\ncontent-length: 2\r\n\r\n[]", 400),
    (POST + b"content-length: 2\r\nContent-Length: 0\r\n\r\n[]", 400),
    # odd lengths
    (POST + b"content-length: 2, 2\r\n\r\n[]", 400),
    (POST + b"content-length: +2\r\n\r\n[]", 400),
    (POST + b"content-length: -2\r\n\r\n[]", 400),
    (POST + b"content-length: 0x2\r\n\r\n[]", 400),
    (POST + b"content-length: 2 2\r\n\r\n[]", 400),
    (POST + b"content-length: 2.0\r\n\r\n[]", 400),
    (POST + b"content-length:\r\n\r\n[]", 400),
    (POST + b"content-length: 18446744073709551618\r\n\r\n[]", 400),
    # odd codings
    (POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + ADMIN, 400),
    (POST + b"transfer-encoding: identity\r\n\r\n" + ADMIN, 400),
    (POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    (POST + b"transfer-encoding: gzip\r\n" + CHUNKED + b"0\r\n\r\n", 501),
    (POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    (POST + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n", 400),
    (POST + b"transfer-encoding: chunked\r\n" + CHUNKED + b"0\r\n\r\n", 400),
    (POST + b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
    (POST + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    (POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    (POST + b"transfer_encoding\x00: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST /e HTTP/1.0\r\n" + CHUNKED + b"0\r\n\r\n" + ADMIN, 400),
    # lines
    (POST + b"content-length : 2\r\n\r\n[]", 400),
    (POST + b" content-length: 2\r\n\r\n[]", 400),
    (POST + b"a: b\r\n content-length: 2\r\n\r\n[]", 400),
    (POST + b"a: b\ncontent-length: 2\r\n\r\n[]", 400),
    (POST + b"a: b\rcontent-length: 2\r\n\r\n[]", 400),
    (POST + b"a: b\r\n\n", 400),
    (POST + b"a: b\x00c\r\n\r\n", 400),
    (POST + b"a\x00: b\r\n\r\n", 400),
    (POST + b": b\r\n\r\n", 400),
    (POST + b"a\r\n\r\n", 400),
    (b"GET /e HTTP/1.1\n\n", 400),
    (b"GET /e HTTP/1.1\r\n\n", 400),
    # targets and versions
    (b"GET /e#f HTTP/1.1\r\n\r\n", 400),
    (b"GET e HTTP/1.1\r\n\r\n", 400),
    (b"GET ftp://localhost/e HTTP/1.1\r\n\r\n", 400),
    (b"GET /e\x80 HTTP/1.1\r\n\r\n", 400),
    (b"GET /e?\xff HTTP/1.1\r\n\r\n", 400),
    (b"GET /e HTTP/1.1 \r\n\r\n", 400),
    (b"GET /e f HTTP/1.1\r\n\r\n", 400),
    (b"CONNECT localhost:80 HTTP/1.1\r\n\r\n" + ADMIN, 405),
    (b"GET /e HTTP/2.0\r\n\r\n", 505),
    (b"GET /e HTTP/0.9\r\n\r\n", 505),
    (b"GET /e\r\n\r\n", 505),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("data", "status"), REFUSED)
async def test_what_could_be_read_in_two_ways_is_refused_however_it_is_cut(
    data: bytes, status: int, cut: int
) -> None:
    statuses, calls = await sent(data, cut)
    assert statuses == [status]
    assert calls == []


BROKEN = [
    b"5 \r\n[1,2]\r\n0\r\n\r\n",
    b"0x5\r\n[1,2]\r\n0\r\n\r\n",
    b"-5\r\n[1,2]\r\n0\r\n\r\n",
    b"5\n[1,2]\n0\n\n",
    b"5\r\n[1,2]XX0\r\n\r\n",
    b"5\r\n[1,2]0\r\n\r\n",
    b"fffffffffffffffff\r\n[1,2]\r\n0\r\n\r\n",
    b'5;a="\n"\r\n[1,2]\r\n0\r\n\r\n',
    b"\r\n5\r\n[1,2]\r\n0\r\n\r\n",
    b"5\r\n[1,2]\r\n0\r\ncontent-length: 7\r\n\r\n",
    b"5\r\n[1,2]\r\n0\r\na: b\nc: d\r\n\r\n",
    b"5\r\n[1,2]\r\n0\r\na: b\r\n c\r\n\r\n",
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("chunks", BROKEN)
async def test_a_chunk_that_breaks_the_rules_ends_the_connection(chunks: bytes, cut: int) -> None:
    statuses, calls = await sent(POST + CHUNKED + chunks + ADMIN, cut)
    assert statuses == [400]
    assert calls == []


ONE = [
    b"content-length: 5\r\n\r\n[1,2]",
    b"content-length: 5 \r\n\r\n[1,2]",
    b"content-length:\t5\r\n\r\n[1,2]",
    b"content-length: 0000000005\r\n\r\n[1,2]",
    CHUNKED + b"5\r\n[1,2]\r\n0\r\n\r\n",
    CHUNKED + b"2\r\n[1\r\n3;x=y\r\n,2]\r\n0\r\n\r\n",
    CHUNKED + b"0000000000000000000000000005\r\n[1,2]\r\n000\r\n\r\n",
    b"Transfer-Encoding: CHUNKED\r\n\r\n5\r\n[1,2]\r\n0\r\n\r\n",
]

OFFERS = [
    b"",
    b"connection: Upgrade\r\nupgrade: h2c\r\n",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    b"connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
    b"upgrade: TLS/1.0, h2c\r\nconnection: upgrade\r\n",
    b"connection: upgrade\r\nupgrade: h2c\r\nupgrade: websocket\r\n",
    b"upgrade: h2c\r\n",
    b"connection: upgrade\r\n",
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("framed", ONE)
async def test_a_body_is_one_body_whatever_is_offered_and_however_it_is_cut(
    framed: bytes, offer: bytes, cut: int
) -> None:
    statuses, calls = await sent(POST + offer + framed, cut)
    assert statuses == [200, 200]
    assert [(call["path"], call["body"]) for call in calls] == [("/e", [1, 2]), ("/last", None)]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_looks_like_a_request_is_none(offer: bytes, chunked: bool, cut: int) -> None:
    head = b"POST /e HTTP/1.1\r\nhost: localhost\r\n" + offer
    if chunked:
        data = head + CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(ADMIN), ADMIN)
    else:
        data = head + b"content-length: %d\r\n\r\n%b" % (len(ADMIN), ADMIN)
    statuses, calls = await sent(data, cut)
    assert statuses == [200, 200]
    assert [call["path"] for call in calls] == ["/e", "/last"]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("offer", OFFERS)
async def test_requests_behind_an_offer_without_a_body_are_served(offer: bytes, cut: int) -> None:
    head = b"GET /e HTTP/1.1\r\nhost: localhost\r\n" + offer
    statuses, calls = await sent(head + b"\r\n" + ADMIN + head + b"content-length: 0\r\n\r\n", cut)
    assert statuses == [200] * 4
    assert [call["path"] for call in calls] == ["/e", "/admin", "/e", "/last"]


@pytest.mark.parametrize("cut", CUTS)
async def test_an_offer_on_a_connection_that_is_to_close_closes_it(cut: int) -> None:
    head = b"connection: close, upgrade\r\nupgrade: h2c\r\ncontent-length: 5\r\n\r\n[1,2]"
    statuses, calls = await sent(POST + head, cut, last=b"")
    assert statuses == [200]
    assert [call["body"] for call in calls] == [[1, 2]]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("offer", [OFFERS[0], OFFERS[1]])
async def test_trailers_are_never_headers(offer: bytes, cut: int) -> None:
    head = POST + offer + b"authorization: Bearer mine\r\ntrailer: authorization\r\n" + CHUNKED
    trailers = b"authorization: Bearer other\r\nx-new: 1\r\nhost: evil.example\r\n"
    statuses, calls = await sent(head + b"5\r\n[1,2]\r\n0\r\n" + trailers + b"\r\n", cut)
    assert statuses == [200, 200]
    assert [call["path"] for call in calls] == ["/e", "/last"]
    assert calls[0]["headers"]["authorization"] == "Bearer mine"
    assert "authorization" not in calls[1]["headers"]
    assert [call["headers"].get("x-new") for call in calls] == [None, None]
    assert [call["headers"]["host"] for call in calls] == ["localhost", "localhost"]


@pytest.mark.parametrize("cut", CUTS)
async def test_blank_lines_before_a_request_are_skipped(cut: int) -> None:
    blank = b"\r\n\r\n\r\n"
    statuses, calls = await sent(blank + ADMIN + blank, cut)
    assert statuses == [200, 200]
    assert [call["path"] for call in calls] == ["/admin", "/last"]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://localhost/e", b"localhost", 200),
        (b"HTTP://localhost:3111/e?a=1", b"evil.example", 200),
        (b"http://localhost?a=1", b"localhost", 404),
        (b"http://localhost", b"localhost", 404),
        (b"http://evil.example/e", b"localhost", 403),
        (b"http://localhost@evil.example/e", b"localhost", 403),
        (b"http:///e", b"localhost", 403),
        (b"*", b"localhost", 404),
    ],
)
async def test_the_authority_of_an_absolute_target_is_the_host(
    target: bytes, host: bytes, status: int, cut: int
) -> None:
    statuses, calls = await sent(b"GET %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (target, host), cut)
    assert statuses == [status, 200]
    assert [call["headers"]["host"].split(":")[0] for call in calls] == ["localhost"] * len(calls)


@pytest.mark.parametrize("method", [b"TRACE", b"PROPFIND", b"M-SEARCH", b"SOURCE"])
async def test_other_methods_find_no_route(method: bytes) -> None:
    statuses, calls = await sent(method + b" /e HTTP/1.1\r\nhost: localhost\r\n\r\n", 0)
    assert statuses == [405, 200]
    assert len(calls) == 1


async def test_pipelined_requests_of_every_kind_keep_their_order() -> None:
    body = b"content-length: 5\r\n\r\n[1,2]"
    chunked = CHUNKED + b"3\r\n[1,\r\n2\r\n2]\r\n0\r\nx: y\r\n\r\n"
    data = b"".join(ADMIN + POST + body + POST + OFFERS[1] + chunked + ADMIN for _ in range(25))
    statuses, calls = await sent(data, 0)
    assert statuses == [200] * 101
    assert [call["path"] for call in calls] == ["/admin", "/e", "/e", "/admin"] * 25 + ["/last"]
    assert [call["body"] for call in calls] == [None, [1, 2], [1, 2], None] * 25 + [None]


def mutated(seed: int) -> tuple[bytes, list[int]]:
    """A few requests with a few bytes changed, inserted or taken away, and where to cut them."""
    chosen = random.Random(seed)
    framed = [POST + chosen.choice(OFFERS) + chosen.choice(ONE) for _ in range(3)]
    data = bytearray(b"".join(chosen.sample([*framed, ADMIN, ADMIN], 4)))
    for _ in range(chosen.randrange(4)):
        at = chosen.randrange(len(data))
        odd = chosen.choice(
            [b"\r", b"\n", b"\r\n", b"\x00", b" ", b":", b"0", b"\t", b"\x80", b";", b"#", b","]
        )
        data[at : at + chosen.randrange(2)] = odd
    cuts = sorted(chosen.sample(range(1, len(data)), 6))
    return bytes(data), cuts


@pytest.mark.parametrize("seed", range(150))
async def test_requests_with_odd_bytes_are_read_alike_however_they_are_cut(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    data, cuts = mutated(seed)
    results = []
    for segments in ([data], [data[a:b] for a, b in itertools.pairwise([0, *cuts, len(data)])]):
        async with open_site(limits=HttpLimits(silence_s=0.2)) as site:
            routes(site)
            reader, writer = await site.connect()
            for segment in [*segments, LAST]:
                writer.write(segment)
                await asyncio.sleep(0)
            async with asyncio.timeout(20):
                answers = await reader.read()
            statuses = [int(line[:3]) for line in answers.split(b"HTTP/1.1 ")[1:]]
            calls = [site.data(index) for index in range(len(site.calls))]
            results.append((statuses, [(call["path"], call["body"], call["headers"]) for call in calls]))
    assert results[0] == results[1]
    assert statuses
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
