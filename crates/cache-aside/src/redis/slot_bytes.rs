//! The bytes of a slot in Redis, which a person can read in `redis-cli`:
//!
//! ```text
//! entry   {"loaded":1764018071123,"expires":1764018081123,"found":{"name":"Ada"}}
//! lease   lease 01KB584F3Y9AF31621Q7N62Q67
//! fence   fence 01KB584F3Y9AF31621Q7N62Q67=1764018081123 01KB…=1764018079456
//! ```
//!
//! Times are milliseconds since the Unix epoch. Anything else is foreign. The Lua scripts read and
//! write the same bytes: what one side would take for a fence and the other not, neither would remove.

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

/// The end of the deadlines: up to there, the numbers of Lua are exact. It is in the scripts, too.
const END_OF_TIME: u64 = 1 << 53;

fn parse_fence(writers: &str) -> Option<Fence> {
    let writer = |text: &str| {
        let (token, deadline) = text.split_once('=')?;
        // Digits only: Rust would read a sign as well, and the scripts do not.
        let is_number = deadline.bytes().all(|byte| byte.is_ascii_digit());
        let deadline = is_number.then(|| deadline.parse().ok())??;
        (deadline < END_OF_TIME).then_some((token.parse().ok()?, deadline))
    };
    writers.split(' ').map(writer).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What the Lua scripts write, other text that looks like it, and foreign bytes.
    pub(in crate::redis) const EXAMPLES: &[&str] = &[
        r#"{"loaded":1764018071123,"expires":1764018081123,"found":"Ann"}"#,
        r#"{"loaded":1,"expires":2,"found":null}"#,
        "lease 01KB584F3Y9AF31621Q7N62Q67",
        "fence 01KB584F3Y9AF31621Q7N62Q67=1764018081123",
        "fence 01KB584F3Y9AF31621Q7N62Q67=1764018081123 7ZZZZZZZZZZZZZZZZZZZZZZZZZ=1764018079456",
        "lease 01kb584f3y9af31621q7n62q67",
        "lease Z1KB584F3Y9AF31621Q7N62Q67",
        "fence 01KB584F3Y9AF31621Q7N62Q67=+7",
        "fence 01KB584F3Y9AF31621Q7N62Q67=18446744073709551616",
        "fence x=4000000000000 01KB584F3Y9AF31621Q7N62Q67=4000000000000",
        "hello",
    ];

    /// A token is a ULID in upper case; the first of 26 characters of 5 bits has only 3 of the 128.
    fn is_token(text: &str) -> bool {
        text.len() == 26
            && text.starts_with(|char| ('0'..='7').contains(&char))
            && text.chars().all(|char| "0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains(char))
    }

    /// A number below 2^53, which is 9007199254740992.
    fn is_deadline(text: &str) -> bool {
        let digits = text.trim_start_matches('0');
        !text.is_empty()
            && text.chars().all(|char| char.is_ascii_digit())
            && (digits.len() < 16 || digits.len() == 16 && digits < "9007199254740992")
    }

    /// The documented bytes of a lease or of a fence.
    fn is_lease_or_fence(text: &str) -> bool {
        match text.split(' ').collect::<Vec<_>>()[..] {
            ["lease", token] => is_token(token),
            ["fence", ref writers @ ..] if !writers.is_empty() => writers.iter().all(|writer| {
                writer
                    .split_once('=')
                    .is_some_and(|(token, deadline)| is_token(token) && is_deadline(deadline))
            }),
            _ => false,
        }
    }

    #[test]
    fn fuzz_a_slot_is_written_as_it_was_read_and_all_else_is_foreign() {
        fuzzing::check!(EXAMPLES, |bytes| {
            let is_text = std::str::from_utf8(bytes).is_ok_and(is_lease_or_fence);
            match parse_slot::<String>(bytes) {
                Slot::Lease(token) => assert_eq!(lease_bytes(token), bytes),
                Slot::Fence(fence) => {
                    let text = std::str::from_utf8(bytes).unwrap().strip_prefix("fence ").unwrap();
                    assert_eq!(fence.writers().count(), text.split(' ').count());
                    for ((token, deadline), writer) in fence.writers().zip(text.split(' ')) {
                        let zeros = writer[27..].len() - deadline.to_string().len();
                        let zeros = "0".repeat(zeros);
                        assert_eq!(format!("{token}={zeros}{deadline}"), writer);
                    }
                }
                Slot::Entry(entry) => {
                    let written = entry_bytes(&entry).unwrap();
                    assert_eq!(parse_slot(&written), Slot::Entry(entry));
                    assert!(written.len() <= 6 * bytes.len(), "escapes are all that is added");
                    return;
                }
                Slot::Foreign => return assert!(!is_text),
                Slot::Nothing => panic!("there is something"),
            }
            assert!(is_text);
        });
    }

    #[test]
    fn a_long_fence_is_read_in_linear_time() {
        let writers = (0..200_000).map(|token| format!(" {}=7", ulid::Ulid(token)));
        let text = format!("fence{}", writers.collect::<String>());
        let begun = std::time::Instant::now();
        assert!(matches!(parse(&text), Slot::Fence(fence) if fence.writers().count() == 200_000));
        // It takes less than a second; in quadratic time it would take minutes.
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }

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
            b"fence 01KB584F3Y9AF31621Q7N62Q67=+7",
            b"fence 01KB584F3Y9AF31621Q7N62Q67=9007199254740992",
            b"fence 81KB584F3Y9AF31621Q7N62Q67=7",
            b"lease 01kb584f3y9af31621q7n62q67",
            b"lease 01KB584F3Y9AF31621Q7N62Q67 more",
            b"\xff\xfe",
            b"hello",
        ] {
            assert_eq!(parse_slot::<String>(bytes), Slot::Foreign, "{bytes:?}");
        }
    }
}
