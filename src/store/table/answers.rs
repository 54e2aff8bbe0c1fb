//! Whatever a table service answers, or something that stands in its place: what the store makes of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::headers::Headers;
use azure_core::{HttpClient, Request, Response, StatusCode};
use futures_util::stream;
use reqwest::header::{HeaderName, HeaderValue};

use super::{Concurrency, TableAccess, TableStore, client_over};
use crate::store::{Condition, ETag, LoadError, Store, Versioned, WriteError};
use crate::telemetry::Telemetry;
use crate::users::{Name, User, UserId};

const ID: &str = "01KB584F3Y9AF31621Q7N62Q67";

/// A status, headers, an empty line and a body, as in HTTP.
const EXAMPLES: &[&str] = &[
    "200\netag: W/\"datetime'2026-01-01T00%3A00%3A00.0000000Z'\"\nx-ms-request-id: \
     0f8fad5b-d9cb-469f-a165-70867728950e\ndate: Thu, 01 Jan 2026 00:00:00 GMT\n\n\
     {\"odata.metadata\":\"m\",\"PartitionKey\":\"user\",\"RowKey\":\"01KB584F3Y9AF31621Q7N62Q67\",\
     \"Name\":\"Ann\",\"Timestamp\":\"2026-01-01T00:00:00Z\"}",
    "200\netag: x\ndate: Thu, 01 Jan 2026 00:00:00 GMT\n\n{\"odata.metadata\":\"m\",\"PartitionKey\":\"user\",\
     \"RowKey\":\"7ZZZZZZZZZZZZZZZZZZZZZZZZZ\",\"Name\":\"Ann\"}",
    "404\nx-ms-error-code: ResourceNotFound\n\n{}",
    "404\ncontent-type: application/json\n\n{\"code\":\"ResourceNotFound\",\"message\":\"hunter-2\"}",
    "404\nx-ms-error-code: TableNotFound\n\nhunter-2",
    "412\nx-ms-error-code: UpdateConditionNotSatisfied\n\n",
    "204\netag: W/\"a\"\ndate: Thu, 01 Jan 2026 00:00:00 GMT\n\n",
    "409\nx-ms-error-code: EntityAlreadyExists\n\n",
    "403\n\n{\"odata.error\":{\"code\":\"AuthenticationFailed\"}}",
    "429\n\n",
    "500\nx-ms-error-code: hunter-2\n\n",
    "503\n\nbusy",
];

/// A service that gives the same answer to everything.
#[derive(Debug, Default)]
struct Stuck(Mutex<Answer>);

#[derive(Clone, Debug, Default)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Stuck {
    fn answer_with(&self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|status| status.parse().ok()).unwrap_or_default();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.filter_map(|(name, value)| {
            // Only what can be a header arrives as one.
            let name: HeaderName = name.parse().ok()?;
            let value = HeaderValue::from_str(value.trim()).ok()?;
            Some((name.to_string(), value.to_str().ok()?.to_owned()))
        });
        let headers = headers.collect();
        *self.0.lock().unwrap() = Answer { status, headers, body: body.as_bytes().to_vec() };
    }
}

#[async_trait]
impl HttpClient for Stuck {
    async fn execute_request(&self, _: &Request) -> azure_core::Result<Response> {
        let Answer { status, headers, body } = self.0.lock().unwrap().clone();
        let mut all = Headers::new();
        for (name, value) in headers {
            all.insert(name, value);
        }
        let status = StatusCode::try_from(status).unwrap_or(StatusCode::Ok);
        let body = stream::iter([Ok(body.into())]);
        Ok(Response::new(status, all, Box::pin(body)))
    }
}

/// A refusal means that nothing was changed, so only a definite one counts.
fn assert_is_definite(error: &WriteError, status: u16) {
    let is_definite = (400..500).contains(&status) && ![408, 429].contains(&status);
    match error {
        WriteError::NotFound => assert_eq!(status, 404),
        WriteError::PreconditionFailed => assert!([404, 409, 412].contains(&status), "{status}"),
        WriteError::NotApplied(_) => assert!(is_definite, "{status}: {error}"),
        WriteError::Unknown(_) => {}
    }
}

/// A user is read only from a row that is the one asked for, and is missing only if the service says so;
/// a write succeeds only with a success; and no error repeats what is in a body.
#[test]
fn fuzz_an_answer_of_the_table_is_taken_for_what_it_says() {
    // Pauses between attempts take no time.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    let _guard = runtime.enter();
    let service = Arc::new(Stuck::default());
    let access: TableAccess = "AccountName=shop;AccountKey=a2V5".parse().unwrap();
    let client = client_over(Arc::clone(&service) as Arc<dyn HttpClient>, &access, "users");
    let user = User { id: ID.parse::<UserId>().unwrap(), name: Name::parse("Ann").unwrap() };
    let condition = Condition::OneOf(vec![ETag::new("W/\"a\"")]);
    fuzzing::check!(cases: 500, EXAMPLES, |bytes| {
        service.answer_with(bytes);
        // A store for each answer: it remembers that the table is slow.
        let concurrency = Concurrency { calls: 1, queue: 1 };
        let (time, telemetry) = (Duration::from_secs(3), Telemetry::default());
        let store = TableStore::new(access.clone(), "users", time, concurrency, telemetry);
        store.table.set(client.clone()).unwrap();

        let Answer { status, headers, body } = service.0.lock().unwrap().clone();
        let status = StatusCode::try_from(status).map_or(200, u16::from);
        let is_success = (200..300).contains(&status);
        match runtime.block_on(store.load(user.id)) {
            Ok(Some(Versioned { etag, value })) => {
                assert!(is_success);
                assert_eq!(value.id, user.id);
                assert!(headers.iter().any(|(name, it)| name == "etag" && it == etag.as_str()));
                let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(serde_json::to_value(&value.name).unwrap(), json["Name"]);
                assert_eq!(json["PartitionKey"], "user");
            }
            Ok(None) => assert_eq!(status, 404),
            Err(LoadError::Unreadable(cause)) => {
                assert!(is_success);
                assert!(cause.len() < 100, "{cause}");
            }
            Err(LoadError::Unavailable(cause)) => assert!(!cause.contains("hunter-2"), "{cause}"),
        }
        let update = runtime.block_on(store.update(&user, &condition));
        let delete = runtime.block_on(store.delete(user.id, &condition));
        let insert = runtime.block_on(store.insert(&user));
        for write in [update.map(drop), delete, insert.map(drop)] {
            match write {
                Ok(()) => assert!(is_success || status == 409, "{status}"),
                Err(error) => {
                    assert_is_definite(&error, status);
                    assert!(!error.to_string().contains("hunter-2"), "{error}");
                }
            }
        }
    });
}
