"""Checks that a server answers as the handler does, in what the peers have in common with it:

    python3 bench/peers/check_contract.py PORT

It prints each difference and ends with 1 if there is one. The server needs Redis and the table.
"""

import http.client
import json
import re
import sys

ULID = "[0-7][0-9A-HJKMNP-TV-Z]{25}"
UNUSED = "01KB584F3Y9AF31621Q7N62Q67"
JSON = {"content-type": "application/json", "cache-control": "private, no-cache"}
JSON_PATTERNS = {name: re.escape(value) for name, value in JSON.items()}
ETAG = {"etag": 'W/"[^"]+"'}
CACHE = {"server-timing": r"cache;dur=\d+\.\d{3}"}
TABLE = {"server-timing": r"table;dur=\d+\.\d{3}"}
BOTH = {"server-timing": rf"{CACHE['server-timing']}, {TABLE['server-timing']}"}
HIT = CACHE | {"cache-status": r"cache-aside; hit; ttl=\d+"}
MISS = BOTH | {"cache-status": "cache-aside; fwd=miss; stored"}
# The handler stores that there is no such user; plain cache-aside does not.
MISSING = BOTH | {"cache-status": "cache-aside; fwd=miss(; stored)?"}


class Server:
    """A server, over one connection that must be kept alive."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.connection.connect()
        self.socket = self.connection.sock
        self.differences = []

    def call(self, method, path, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            body = json.dumps(body, ensure_ascii=False).encode()
            headers["Content-Type"] = "application/json"
        self.connection.request(method, path, body, headers)
        return Answer(self, f"{method} {path} {headers or ''}", self.connection.getresponse())


class Answer:
    """A response, and what is unexpected about it."""

    def __init__(self, server, call, response):
        self.server, self.call = server, call
        self.status, self.body = response.status, response.read()
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.expect("connection is kept alive", True, server.connection.sock is server.socket)

    def expect(self, what, expected, actual):
        if expected != actual:
            self.server.differences.append(
                f"{self.call}\n  {what}: expected {expected!r}, not {actual!r}"
            )

    def is_(self, status, body, headers):
        """Expects this status, exactly this body, and headers that match these patterns."""
        self.expect("status", status, self.status)
        compact = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        self.expect("body", b"" if body is None else compact.encode(), self.body)
        return self.has(headers)

    def has(self, headers):
        for name, pattern in (JSON_PATTERNS | headers).items():
            value = self.headers.get(name, "")
            if not re.fullmatch(pattern, value):
                self.expect(name, pattern, value)
        return self

    def refuses(self, status):
        """Expects an error with this status; its words may differ."""
        self.expect("status", status, self.status)
        self.expect("fields", ["status", "detail"], list(json.loads(self.body or b"{}")))
        self.has({})


def check(server):
    server.call("GET", "/api/live").is_(200, {"status": "alive"}, {})

    name = "Åda 👩‍💻 \"Lovelace\""
    created = server.call("POST", "/api/users", {"name": f" {name} "})
    created.has(ETAG | TABLE | {"location": f"/api/users/{ULID}"})
    path = created.headers["location"]
    user_id = path.rsplit("/", 1)[1]
    user = {"PartitionKey": "user", "RowKey": user_id, "Name": name}
    created.is_(201, user, {})
    exactly_tag = {"etag": re.escape(created.headers["etag"])}

    from_table = {"source": "table", "data": user}
    from_redis = {"source": "redis", "data": user}
    server.call("GET", path).is_(200, from_table, MISS | exactly_tag)
    server.call("GET", path).is_(200, from_redis, HIT | exactly_tag)
    lower = f"/api/users/{user_id.lower()}"
    server.call("GET", lower).is_(200, from_redis, HIT | exactly_tag)

    tag = created.headers["etag"]
    for tags in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        same = server.call("GET", path, If_None_Match=tags)
        same.is_(304, None, HIT | exactly_tag)
    other = server.call("GET", path, If_None_Match='"other"')
    other.is_(200, from_redis, HIT | exactly_tag)

    user["Name"] = "Grace Hopper"
    renamed = server.call("PATCH", path, {"name": user["Name"]})
    renamed.is_(200, user, ETAG | BOTH)
    renamed.expect("a new entity tag", True, renamed.headers.get("etag") != tag)
    new_tag = {"etag": re.escape(renamed.headers.get("etag", ""))}
    changed = server.call("GET", path, If_None_Match=tag)
    changed.is_(200, {"source": "table", "data": user}, MISS | new_tag)
    server.call("GET", path, If_None_Match=tag).is_(200, from_redis, HIT | new_tag)

    for body in ({}, {"name": ""}, {"name": 1}, {"name": "x" * 257}, []):
        server.call("PATCH", path, body).refuses(400)
    server.call("POST", "/api/users", {"name": 1}).refuses(400)

    server.call("DELETE", path).is_(204, None, BOTH)
    gone = {"user_id": user_id, "status": "Not found"}
    server.call("GET", path).is_(404, gone, MISSING)
    server.call("PATCH", path, {"name": "Ada"}).is_(404, gone, {})
    server.call("DELETE", path).is_(404, gone, {})
    for other_id in ("nobody", f"8{UNUSED[1:]}", f"{UNUSED}0", f"{UNUSED[:-1]}U"):
        answer = server.call("GET", f"/api/users/{other_id}")
        answer.is_(404, {"user_id": other_id, "status": "Not found"}, {})
        # Neither Redis nor the table was asked.
        answer.expect("server-timing", None, answer.headers.get("server-timing"))

    for body in (None, {}):
        random = server.call("POST", "/api/users", body)
        random.expect("status", 201, random.status)
        user = json.loads(random.body)
        random.expect("two names", True, " " in user.get("Name", ""))
        server.call("DELETE", random.headers["location"]).is_(204, None, BOTH)


def main():
    server = Server(int(sys.argv[1]))
    try:
        check(server)
    finally:
        print(*server.differences, sep="\n", end="\n" if server.differences else "")
    sys.exit(1 if server.differences else 0)


if __name__ == "__main__":
    main()
