//! What a server says that it is.

use std::collections::HashMap;

use redis::aio::ConnectionLike;
use redis::{RedisResult, Value, cmd, from_redis_value};

/// The version of [Garnet](https://microsoft.github.io/garnet), if the server is one.
///
/// `HELLO` without arguments changes nothing, and no user needs a permission for it.
pub(super) async fn garnet_version(
    connection: &mut impl ConnectionLike,
) -> RedisResult<Option<String>> {
    let mut properties: HashMap<String, Value> = cmd("HELLO").query_async(connection).await?;
    let version = properties.remove("garnet_version");
    Ok(version.map(from_redis_value).transpose()?)
}
