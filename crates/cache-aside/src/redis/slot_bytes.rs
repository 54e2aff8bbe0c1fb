//! The bytes of a slot in Redis, which a person can read in `redis-cli`:
//!
//! ```text
//! entry   {"loaded":1764018071123,"expires":1764018081123,"found":{"name":"Ada"}}
//! lease   lease 01KB584F3Y9AF31621Q7N62Q67
//! fence   fence 01KB584F3Y9AF31621Q7N62Q67=1764018081123 01KB…=1764018079456
//! ```
//!
//! Times are milliseconds since the Unix epoch. Anything else is foreign. The Lua scripts read and
//! write the same bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::slot::{Entry, Fence, Slot, Token};

/// The bytes of a lease.
pub(super) fn lease_bytes(token: Token) -> Vec<u8> {
    format!("lease {token}").into_bytes()
}

/// The bytes of an entry; `None` for a value that JSON cannot express, such as a map whose keys are
/// not strings. Such a value is not cached.
pub(super) fn entry_bytes<V: Serialize>(entry: &Entry<V>) -> Option<Vec<u8>> {
    serde_json::to_vec(entry).ok()
}

/// What the bytes under a key mean.
pub(super) fn parse_slot<V: DeserializeOwned>(bytes: &[u8]) -> Slot<V> {
    if bytes.first() == Some(&b'{') {
        return serde_json::from_slice(bytes).map_or(Slot::Foreign, Slot::Entry);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Slot::Foreign;
    };
    match text.split_once(' ') {
        Some(("lease", token)) => token.parse().map_or(Slot::Foreign, Slot::Lease),
        Some(("fence", writers)) => parse_fence(writers).map_or(Slot::Foreign, Slot::Fence),
        _ => Slot::Foreign,
    }
}

fn parse_fence(writers: &str) -> Option<Fence> {
    writers.split(' ').try_fold(Fence::default(), |fence, writer| {
        let (token, deadline) = writer.split_once('=')?;
        Some(fence.with(token.parse().ok()?, deadline.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "01KB584F3Y9AF31621Q7N62Q67";
    const OTHER: &str = "01KB584F3Y9AF31621Q7N62Q68";

    fn parse(text: &str) -> Slot<String> {
        parse_slot(text.as_bytes())
    }

    #[test]
    fn an_entry_is_json() {
        for (found, json) in [
            (Some("Ann".to_owned()), r#"{"loaded":1,"expires":2,"found":"Ann"}"#),
            (None, r#"{"loaded":1,"expires":2,"found":null}"#),
        ] {
            let entry = Entry { loaded: 1, expires: 2, found };
            assert_eq!(String::from_utf8(entry_bytes(&entry).unwrap()).unwrap(), json);
            assert_eq!(parse(json), Slot::Entry(entry));
        }
    }

    #[test]
    fn a_lease_names_its_reader_and_a_fence_its_writers() {
        let (token, other) = (TOKEN.parse().unwrap(), OTHER.parse().unwrap());
        assert_eq!(lease_bytes(token), format!("lease {TOKEN}").into_bytes());
        assert_eq!(parse(&format!("lease {TOKEN}")), Slot::Lease(token));
        assert_eq!(
            parse(&format!("fence {TOKEN}=7 {OTHER}=9")),
            Slot::Fence(Fence::default().with(token, 7).with(other, 9))
        );
    }

    #[test]
    fn anything_else_is_foreign() {
        for bytes in [
            &b""[..],
            b"{",
            b"{}",
            br#"{"loaded":1,"expires":2}"#,
            b"lease",
            b"lease x",
            b"fence",
            b"fence ",
            b"fence x=1",
            b"fence 01KB584F3Y9AF31621Q7N62Q67",
            b"fence 01KB584F3Y9AF31621Q7N62Q67=x",
            b"fence 01KB584F3Y9AF31621Q7N62Q67=7 ",
            b"lease 01KB584F3Y9AF31621Q7N62Q67 more",
            b"\xff\xfe",
            b"hello",
        ] {
            assert_eq!(parse_slot::<String>(bytes), Slot::Foreign, "{bytes:?}");
        }
    }
}
