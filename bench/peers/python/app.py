"""Plain cache-aside in Python: an ASGI app on redis-py and azure-data-tables.

It makes the calls that the original of this project makes, with the handler's responses.
"""

import asyncio
import logging
import multiprocessing
import os
import random
import re
import time

import orjson
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError
from ulid import ULID

log = logging.getLogger("uvicorn.error")

TABLE = "users"
PARTITION = "user"
USERS = "/api/users"
ULID_PATTERN = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")
MAX_NAME_LENGTH = 256
TTL = int(os.environ.get("CACHE_TTL", "10"))

FIRST_NAMES = ("Ada", "Alan", "Barbara", "Edsger", "Frances", "Grace", "Katherine", "Tony")
LAST_NAMES = ("Allen", "Hopper", "Johnson", "Lamport", "Liskov", "Lovelace", "Perlman", "Turing")

HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"private, no-cache"),
]


class BadRequest(Exception):
    """The request is invalid; the message says how."""


class App:
    """The ASGI app. It connects when the server starts, because a client belongs to an event loop."""

    redis: Redis
    table: TableClient

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
        elif scope["type"] == "http":
            status, headers, body = await self.respond(scope, receive)
            if body:
                headers.append((b"content-length", b"%d" % len(body)))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def lifespan(self, receive, send):
        await receive()
        # uvicorn's workers would outlive a supervisor that is killed.
        supervisor = multiprocessing.parent_process()
        if supervisor is not None:
            asyncio.get_running_loop().add_reader(supervisor.sentinel, os._exit, 1)
        await self.open()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.table.close()
        await self.redis.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def open(self):
        # A request waits for a free connection; the default pool would refuse it.
        pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=100)
        self.redis = Redis.from_pool(pool)
        connection = os.environ["USERS_TABLE_CONNECTION"]
        self.table = TableClient.from_connection_string(connection, TABLE)
        try:
            await self.table.create_table()
        except ResourceExistsError:
            pass

    async def respond(self, scope, receive):
        method, path = scope["method"], scope["path"]
        try:
            if path == USERS and method == "POST":
                return await self.create(await read_body(receive))
            if path.startswith(USERS + "/"):
                given = path[len(USERS) + 1 :]
                if method == "GET":
                    return await self.read(given, scope["headers"])
                if method == "PATCH":
                    return await self.rename(given, await read_body(receive))
                if method == "DELETE":
                    return await self.delete(given)
            if path == "/api/live" and method == "GET":
                return reply(200, {"status": "alive"})
            return reply(404, {"status": "Not found", "detail": "there is no such call"})
        except BadRequest as error:
            return reply(400, {"status": "Bad request", "detail": str(error)})
        except (AzureError, RedisError) as error:
            log.error("%s: %s", type(error).__name__, error)
            detail = "Redis or the table cannot be used: see the log"
            return reply(500, {"status": "Internal server error", "detail": detail})

    async def create(self, body):
        name = parse_name(body)
        if name is None:
            name = f"{random.choice(FIRST_NAMES)} {random.choice(LAST_NAMES)}"
        user = {"PartitionKey": PARTITION, "RowKey": str(ULID()), "Name": name}
        start = time.perf_counter()
        created = await self.table.create_entity(user)
        table_time = time.perf_counter() - start
        return reply(
            201,
            user,
            ("location", f"{USERS}/{user['RowKey']}"),
            ("etag", created["etag"]),
            server_timing(None, table_time),
        )

    async def read(self, given, headers):
        user_id = parse_id(given)
        if user_id is None:
            return not_found(given)
        key = f"user:{user_id}"
        start = time.perf_counter()
        cached = await self.redis.get(key)
        cache_time = time.perf_counter() - start
        if cached:
            entry = orjson.loads(cached)
            ttl = int((entry["expires"] - time.time() * 1000) // 1000)
            status = f"cache-aside; hit; ttl={ttl}"
            return found("redis", entry, headers, status, server_timing(cache_time, None))

        start = time.perf_counter()
        try:
            row = await self.table.get_entity(PARTITION, user_id)
        except ResourceNotFoundError:
            timing = server_timing(cache_time, time.perf_counter() - start)
            return not_found(given, ("cache-status", "cache-aside; fwd=miss"), timing)
        table_time = time.perf_counter() - start
        entry = {
            "expires": int(time.time() * 1000) + TTL * 1000,
            "etag": row.metadata["etag"],
            "user": {"PartitionKey": PARTITION, "RowKey": user_id, "Name": row["Name"]},
        }
        start = time.perf_counter()
        await self.redis.set(key, orjson.dumps(entry), ex=TTL)
        cache_time += time.perf_counter() - start
        status = "cache-aside; fwd=miss; stored"
        return found("table", entry, headers, status, server_timing(cache_time, table_time))

    async def rename(self, given, body):
        name = parse_name(body)
        if name is None:
            raise BadRequest("name is missing")
        user_id = parse_id(given)
        if user_id is None:
            return not_found(given)
        user = {"PartitionKey": PARTITION, "RowKey": user_id, "Name": name}
        start = time.perf_counter()
        try:
            updated = await self.table.update_entity(user, UpdateMode.MERGE)
        except ResourceNotFoundError:
            return not_found(given)
        written = time.perf_counter()
        await self.redis.delete(f"user:{user_id}")
        timing = server_timing(time.perf_counter() - written, written - start)
        return reply(200, user, ("etag", updated["etag"]), timing)

    async def delete(self, given):
        user_id = parse_id(given)
        if user_id is None:
            return not_found(given)
        # The library hides whether there was such a row.
        statuses = []
        start = time.perf_counter()
        await self.table.delete_entity(
            PARTITION,
            user_id,
            raw_response_hook=lambda response: statuses.append(response.http_response.status_code),
        )
        if statuses[-1] == 404:
            return not_found(given)
        deleted = time.perf_counter()
        await self.redis.delete(f"user:{user_id}")
        timing = server_timing(time.perf_counter() - deleted, deleted - start)
        return reply(204, None, timing)


async def read_body(receive):
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def parse_id(given):
    """The id in upper case, if it is a ULID."""
    user_id = given.upper()
    return user_id if ULID_PATTERN.fullmatch(user_id) else None


def parse_name(body):
    """The name in a body, if there is one."""
    if not body:
        return None
    try:
        name = orjson.loads(body).get("name")
    except (orjson.JSONDecodeError, AttributeError):
        raise BadRequest("the body must be a JSON object with a name") from None
    if name is None:
        return None
    if not isinstance(name, str) or not 1 <= len(name.strip()) <= MAX_NAME_LENGTH:
        raise BadRequest("name must be 1 to 256 characters")
    return name.strip()


def server_timing(cache, table):
    parts = []
    if cache is not None:
        parts.append(f"cache;dur={cache * 1000:.3f}")
    if table is not None:
        parts.append(f"table;dur={table * 1000:.3f}")
    return "server-timing", ", ".join(parts)


def found(source, entry, request_headers, cache_status, timing):
    """The user, or 304 if the client has this version."""
    etag = ("etag", entry["etag"])
    headers = (etag, ("cache-status", cache_status), timing)
    for name, value in request_headers:
        if name == b"if-none-match" and matches(value.decode("latin-1"), entry["etag"]):
            return reply(304, None, *headers)
    return reply(200, {"source": source, "data": entry["user"]}, *headers)


def matches(tags, etag):
    """Whether one of these entity tags is this one, compared weakly."""
    opaque = etag.removeprefix("W/")
    return tags.strip() == "*" or any(
        tag.strip().removeprefix("W/") == opaque for tag in tags.split(",")
    )


def not_found(given, *headers):
    return reply(404, {"user_id": given, "status": "Not found"}, *headers)


def reply(status, body, *headers):
    """The status, the headers and the body of a response."""
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return status, HEADERS + encoded, b"" if body is None else orjson.dumps(body)


app = App()
