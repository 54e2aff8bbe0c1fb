//! Plain cache-aside in axum and redis-rs, which `make bench` measures beside the handler: the same
//! calls and headers, without leases, fences, shared loads or limits.

mod cache;
mod error;
mod reply;
mod table;
mod user;

use std::env;
use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header::{HeaderMap, IF_NONE_MATCH};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

use crate::cache::{Cache, Entry};
use crate::error::ApiError;
use crate::reply::{Origin, Timing};
use crate::table::Table;
use crate::user::{User, parse_name, random_name};

/// The handler's allocator, so that allocators are not what is compared.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

struct App {
    cache: Cache,
    table: Table,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = setting("PORT")?.parse()?;
    let ttl = env::var("CACHE_TTL").unwrap_or_else(|_| "10".to_owned()).parse()?;
    let app = App {
        cache: Cache::open(&setting("REDIS_URL")?, ttl)?,
        table: Table::open(&setting("USERS_TABLE_CONNECTION")?).await?,
    };
    let router = Router::new()
        .route("/api/users", post(create))
        .route("/api/users/{id}", get(read).patch(rename).delete(remove))
        .route("/api/live", get(live))
        .with_state(Arc::new(app));
    let listener = TcpListener::bind(("127.0.0.1", port)).await?.tap_io(|stream| {
        let _ = stream.set_nodelay(true); // without it, it is slower, not wrong
    });
    axum::serve(listener, router).await?;
    Ok(())
}

fn setting(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set"))
}

async fn create(State(app): State<Arc<App>>, body: Bytes) -> Result<Response, ApiError> {
    let user = User::new(parse_name(&body)?.unwrap_or_else(random_name));
    let mut timing = Timing::default();
    let etag = timing.table(app.table.insert(&user)).await?;
    Ok(reply::created(&user, &etag, timing))
}

async fn read(
    State(app): State<Arc<App>>,
    Path(given): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Some(id) = user::parse_id(&given) else {
        return Ok(reply::not_found(&given));
    };
    let mut timing = Timing::default();
    let if_none_match = headers.get(IF_NONE_MATCH);
    if let Some(entry) = timing.cache(app.cache.get(&id)).await? {
        let origin = Origin::Redis { seconds_left: entry.seconds_left() };
        return Ok(reply::read(&entry, origin, if_none_match, timing));
    }
    let Some((user, etag)) = timing.table(app.table.get(&id)).await? else {
        return Ok(reply::not_found_in_table(&given, timing));
    };
    let entry = Entry::new(user, etag, app.cache.ttl());
    timing.cache(app.cache.set(&id, &entry)).await?;
    Ok(reply::read(&entry, Origin::Table, if_none_match, timing))
}

async fn rename(
    State(app): State<Arc<App>>,
    Path(given): Path<String>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let name = parse_name(&body)?.ok_or(ApiError::BadRequest("name is missing"))?;
    let Some(id) = user::parse_id(&given) else {
        return Ok(reply::not_found(&given));
    };
    let user = User::with_id(id, name);
    let mut timing = Timing::default();
    let Some(etag) = timing.table(app.table.merge(&user)).await? else {
        return Ok(reply::not_found(&given));
    };
    timing.cache(app.cache.delete(user.id())).await?;
    Ok(reply::updated(&user, &etag, timing))
}

async fn remove(
    State(app): State<Arc<App>>,
    Path(given): Path<String>,
) -> Result<Response, ApiError> {
    let Some(id) = user::parse_id(&given) else {
        return Ok(reply::not_found(&given));
    };
    let mut timing = Timing::default();
    if !timing.table(app.table.delete(&id)).await? {
        return Ok(reply::not_found(&given));
    }
    timing.cache(app.cache.delete(&id)).await?;
    Ok(reply::deleted(timing))
}

async fn live() -> Response {
    reply::alive()
}
