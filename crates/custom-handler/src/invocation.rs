//! The invocation that a request belongs to. Every record that is logged for the request knows it.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;
use warp::http::HeaderMap;

/// The host's id of the invocation, in every mode.
const INVOCATION_ID: &str = "x-azure-functions-invocationid";
/// W3C Trace Context: <https://www.w3.org/TR/trace-context/>.
const TRACEPARENT: &str = "traceparent";

/// An id in a header can be any text. Only an id of at most this length, of letters, digits and
/// hyphens, is logged.
const LONGEST_ID: usize = 64;

tokio::task_local! {
    static CURRENT: Invocation;
}

/// One call of a function by the host: its id, and the trace that it is part of. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Invocation(Option<Arc<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    id: Option<String>,
    traceparent: Option<String>,
}

impl Invocation {
    /// The invocation that the calling code runs in; `None` outside of a call, and in a task that a
    /// call has spawned.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// The host's id of the invocation; `None` if the request did not come from a host.
    pub fn id(&self) -> Option<&str> {
        self.0.as_ref()?.id.as_deref()
    }

    /// The trace that the invocation is part of, as the value of a `traceparent` header
    /// ([W3C Trace Context](https://www.w3.org/TR/trace-context/#traceparent-header)).
    pub fn traceparent(&self) -> Option<&str> {
        self.0.as_ref()?.traceparent.as_deref()
    }

    /// The invocation that these headers name.
    ///
    /// When the host forwards a request whose client sent an id of its own, the header has both, and
    /// the host's is the last (measured on the host).
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let last = headers.get_all(INVOCATION_ID).iter().next_back();
        let id = last.and_then(|value| value.to_str().ok()?.rsplit(',').next());
        let id = id.map(str::trim).filter(|id| is_id(id)).map(str::to_owned);
        let traceparent = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
        let traceparent = traceparent.filter(|it| is_traceparent(it)).map(str::to_owned);
        if id.is_none() && traceparent.is_none() {
            return Self(None);
        }
        Self(Some(Arc::new(Inner { id, traceparent })))
    }

    /// The same invocation, in the trace that the client named, if it named one.
    pub(crate) fn in_trace_of(&self, client: &HeaderMap) -> Self {
        match Self::from_headers(client).traceparent() {
            None => self.clone(),
            Some(traceparent) => {
                let (id, traceparent) =
                    (self.id().map(str::to_owned), Some(traceparent.to_owned()));
                Self(Some(Arc::new(Inner { id, traceparent })))
            }
        }
    }

    /// Runs work within this invocation.
    pub(crate) fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }

    /// Runs work within this invocation. The work is pinned by its caller: by value it would be copied
    /// into each of the futures around it.
    ///
    /// # Errors
    /// The work panicked.
    pub(crate) async fn run<T>(
        &self,
        work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Panicked> {
        // As in a task, whose panic is caught in the same way, a panic can leave shared state as it was
        // at that moment; a lock that the panic poisons says so.
        let work = AssertUnwindSafe(CURRENT.scope(self.clone(), work)).catch_unwind();
        work.await.map_err(|_| Panicked)
    }

    /// Runs work within this invocation, in a task of its own: it is completed even if this future
    /// is dropped.
    ///
    /// # Errors
    /// The work panicked.
    pub(crate) async fn run_to_completion<T>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Panicked>
    where
        T: Send + 'static,
    {
        tokio::spawn(CURRENT.scope(self.clone(), work)).await.map_err(|_| Panicked)
    }
}

/// A call panicked. The panic has been logged where it was raised.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

fn is_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether this is a `traceparent` of version 00: in lower case, as the specification demands, and with
/// ids that are not zero.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut part = |length| {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        parts.next().filter(|part| part.len() == length && part.bytes().all(is_hex))
    };
    let is_some_id = |id: &str| id.bytes().any(|byte| byte != b'0');
    part(2).is_some_and(|version| version != "ff")
        && part(32).is_some_and(is_some_id)
        && part(16).is_some_and(is_some_id)
        && part(2).is_some()
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use warp::http::{HeaderName, HeaderValue};

    use super::*;

    /// The headers of a request, one a line: `x` for the invocation's id, `t` for the trace.
    fn headers(text: &[u8]) -> HeaderMap {
        let lines = text.split(|byte| *byte == b'\n').filter_map(|line| {
            let (name, value) = match line {
                [b'x', value @ ..] => (INVOCATION_ID, value),
                [b't', value @ ..] => (TRACEPARENT, value),
                _ => return None,
            };
            Some((HeaderName::from_static(name), HeaderValue::from_bytes(value).ok()?))
        });
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        headers
    }

    /// `version-trace-parent-flags` by the grammar of W3C Trace Context, section 3.2.
    fn is_by_the_grammar(text: &str) -> bool {
        let hex = |part: &str| part.chars().all(|char| "0123456789abcdef".contains(char));
        let zeros = |part: &str| part.chars().all(|char| char == '0');
        match text.split('-').collect::<Vec<_>>()[..] {
            [version, trace, parent, flags] => {
                [version.len(), trace.len(), parent.len(), flags.len()] == [2, 32, 16, 2]
                    && [version, trace, parent, flags].into_iter().all(hex)
                    && version != "ff"
                    && !zeros(trace)
                    && !zeros(parent)
            }
            _ => false,
        }
    }

    /// What goes into each log line is short, and cannot be mistaken for another part of the line.
    #[test]
    fn fuzz_an_invocation_has_the_last_id_and_a_trace_by_the_grammar() {
        let examples = [
            "x6e1fc2c4-9f0d-4c5b-8b8f-1f0d3c1f0a55\nt00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "xa, 6e1fc2c4\nxé\nxb",
            "tff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "t00-00000000000000000000000000000000-B7AD6B7169203331-01",
        ];
        fuzzing::check!(examples, |bytes| {
            let headers = headers(bytes);
            let invocation = Invocation::from_headers(&headers);
            let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
            let last = headers.get_all(INVOCATION_ID).iter().next_back().and_then(text);
            let last = last.and_then(|ids| Some(ids.split(',').next_back()?.trim().to_owned()));
            let id = last.filter(|id| {
                let is_allowed = |char: char| char.is_ascii_alphanumeric() || char == '-';
                (1..65).contains(&id.len()) && id.chars().all(is_allowed)
            });
            assert_eq!(invocation.id(), id.as_deref());
            let trace = headers.get(TRACEPARENT).and_then(text);
            let trace = trace.filter(|trace| is_by_the_grammar(trace));
            assert_eq!(invocation.traceparent(), trace.as_deref());
        });
    }

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn read(name: &'static str, value: &str) -> Invocation {
        let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        Invocation::from_headers(&headers)
    }

    #[test]
    fn only_a_plausible_id_or_trace_is_accepted() {
        let id = "b8c2b1a0-1111-4222-8333-123456789abc";
        assert_eq!(read(INVOCATION_ID, id).id(), Some(id));
        assert_eq!(read(INVOCATION_ID, "x y").id(), None);
        assert_eq!(read(INVOCATION_ID, &"x".repeat(65)).id(), None);
        assert_eq!(read(TRACEPARENT, TRACE).traceparent(), Some(TRACE));
        for bad in ["", "00-x", &TRACE[1..], &TRACE.replace('b', "g")] {
            assert_eq!(read(TRACEPARENT, bad).traceparent(), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn code_knows_the_invocation_it_runs_in() {
        let invocation = read(INVOCATION_ID, "abc");
        let id = || Invocation::current().and_then(|current| current.id().map(str::to_owned));
        let abc = Ok(Some("abc".to_owned()));
        assert_eq!(invocation.run(pin!(async { id() })).await, abc);
        assert_eq!(invocation.run_to_completion(async move { id() }).await, abc);
        assert_eq!(invocation.scope(id), Some("abc".to_owned()));
        assert!(Invocation::current().is_none());
    }

    #[tokio::test]
    async fn work_is_completed_although_nobody_waits_for_it() {
        let (started, has_started) = tokio::sync::oneshot::channel();
        let (release, released) = tokio::sync::oneshot::channel();
        let (done, is_done) = tokio::sync::oneshot::channel();
        let invocation = Invocation::default();
        let run = invocation.run_to_completion(async move {
            started.send(()).unwrap();
            released.await.unwrap();
            done.send(()).unwrap();
        });
        tokio::select! {
            _ = run => unreachable!("the work waits to be released"),
            started = has_started => started.unwrap(),
        }
        release.send(()).unwrap();
        is_done.await.unwrap();
    }
}
