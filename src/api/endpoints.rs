//! The endpoints, one function for each.

use custom_handler::Call;
use custom_handler::http::header::{IF_MATCH, IF_NONE_MATCH};

use crate::store::{Condition, Put};
use crate::users::{Name, User, UserDocument, UserId};

use super::entity_tags::{EntityTags, put_condition};
use super::error::{ApiError, Write};
use super::reply::{self, Origin, Reply};
use super::request::parse_name;
use super::{Api, Endpoint};

type Answer = Result<Reply, ApiError>;

/// Creates a user, with the given name or a random one.
pub(super) async fn users_create(api: &Api, call: Call<Endpoint>) -> Answer {
    let name = parse_name(&call.headers, &call.body?)?.unwrap_or_else(Name::random);
    let user = User { id: UserId::random(), name };
    let created = api.users().create(&user).await;
    let (etag, timing) =
        created.map_err(|error| ApiError::from_write(error, user.id, Write::Create))?;
    Ok(reply::with_timing(reply::created(user, &etag), timing).into())
}

/// Returns a user, and where it came from.
pub(super) async fn users_get(api: &Api, call: &Call<Endpoint>) -> Answer {
    let id = user_id(call)?;
    let read = api.users().get(id).await?;
    let origin = Origin::new(read.source, api.users().cache_kind());
    let response = match &read.value {
        None => no_such_user(call).into_response(),
        Some(user) => match EntityTags::read(&call.headers, IF_NONE_MATCH) {
            Some(tags) if tags.match_weakly(&user.etag) => reply::not_modified(&user.etag),
            _ => reply::found(user, origin),
        },
    };
    Ok(reply::with_origin(reply::with_timing(response, read.timing), origin))
}

/// Creates or replaces the user with the id in the path.
pub(super) async fn users_put(api: &Api, call: Call<Endpoint>) -> Answer {
    let id = given_id(&call).parse().map_err(|_| {
        ApiError::BadRequest(
            "the id must be a ULID: 26 of the digits and the letters but I, L, O and U, the first of them 0 to 7"
                .to_owned(),
        )
    })?;
    let user = User { id, name: required_name(&call)? };
    let condition = put_condition(&call.headers)?;
    let put = api.users().put(&user, &condition).await;
    let put = put.map_err(|error| ApiError::from_write(error, id, Write::Put(&condition)))?;
    let response = match &put.value {
        Put::Created(etag) => reply::created(user, etag),
        Put::Replaced(etag) => reply::updated(&UserDocument::from(user), etag),
    };
    Ok(reply::with_timing(response, put.timing).into())
}

/// Renames a user.
pub(super) async fn users_update(api: &Api, call: Call<Endpoint>) -> Answer {
    let name = required_name(&call)?;
    let user = User { id: user_id(&call)?, name };
    let condition = condition(&call);
    let updated = api.users().update(&user, &condition).await;
    let updated = updated
        .map_err(|error| ApiError::from_write(error, given_id(&call), Write::Change(&condition)))?;
    let response = reply::updated(&UserDocument::from(user), &updated.value);
    Ok(reply::with_timing(response, updated.timing).into())
}

/// Deletes a user.
pub(super) async fn users_delete(api: &Api, call: Call<Endpoint>) -> Answer {
    let condition = condition(&call);
    let deleted = api.users().delete(user_id(&call)?, &condition).await;
    let deleted = deleted
        .map_err(|error| ApiError::from_write(error, given_id(&call), Write::Change(&condition)))?;
    Ok(reply::with_timing(reply::deleted(), deleted.timing).into())
}

/// Reports whether the cache and the store work, by trying them.
pub(super) async fn health(api: &Api) -> Answer {
    Ok(reply::health(&api.0.probes.health(api.users()).await).into())
}

/// The id as written in the path.
fn given_id(call: &Call<Endpoint>) -> &str {
    call.params.get("id")
}

/// The id in the path. Text that is not a ULID cannot be an id, so neither the cache nor the store
/// is asked.
fn user_id(call: &Call<Endpoint>) -> Result<UserId, ApiError> {
    given_id(call).parse().map_err(|_| no_such_user(call))
}

/// The name in the body, which must have one.
fn required_name(call: &Call<Endpoint>) -> Result<Name, ApiError> {
    let body = call.body.as_ref().map_err(|error| *error)?;
    parse_name(&call.headers, body)?.ok_or_else(|| {
        ApiError::BadRequest("name is missing: send {\"name\":\"Ada Lovelace\"}".to_owned())
    })
}

fn no_such_user(call: &Call<Endpoint>) -> ApiError {
    ApiError::NoSuchUser(given_id(call).to_owned())
}

fn condition(call: &Call<Endpoint>) -> Condition {
    EntityTags::read(&call.headers, IF_MATCH).map_or(Condition::Exists, EntityTags::into_condition)
}
