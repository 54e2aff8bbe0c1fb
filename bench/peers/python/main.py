"""Serves the app with uvicorn: `PORT`, and `WORKERS` processes."""

import os

import uvicorn

if __name__ == "__main__":
    uvicorn.run(
        "app:app",
        app_dir=os.path.dirname(os.path.abspath(__file__)),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        workers=int(os.environ.get("WORKERS", "1")),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # About as long as Fastify keeps an idle connection; the default is five seconds.
        timeout_keep_alive=75,
    )
