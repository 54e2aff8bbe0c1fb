//! The invocation that a request belongs to. Every record that is logged for the request knows it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinError;
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
    /// In the payload mode: the log lines that are returned with the response.
    lines: Option<Mutex<Vec<String>>>,
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

    /// The invocation of a proxied or forwarded request.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        Self::read(headers, false)
    }

    /// The invocation of a payload, which collects its log lines.
    pub(crate) fn collecting(headers: &HeaderMap) -> Self {
        Self::read(headers, true)
    }

    fn read(headers: &HeaderMap, collect: bool) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let id = text(INVOCATION_ID).filter(|id| is_id(id)).map(str::to_owned);
        let traceparent = text(TRACEPARENT).filter(|it| is_traceparent(it)).map(str::to_owned);
        if id.is_none() && traceparent.is_none() && !collect {
            return Self(None);
        }
        let lines = collect.then(Mutex::default);
        Self(Some(Arc::new(Inner { id, traceparent, lines })))
    }

    /// Adds a log line, if this invocation collects them.
    pub(crate) fn collect(&self, line: impl FnOnce() -> String) {
        if let Some(lines) = self.0.as_ref().and_then(|inner| inner.lines.as_ref()) {
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line());
        }
    }

    /// Takes the lines collected so far.
    pub(crate) fn take_lines(&self) -> Vec<String> {
        let lines = self.0.as_ref().and_then(|inner| inner.lines.as_ref());
        lines.map_or_else(Vec::new, |lines| {
            std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }

    /// Runs work within this invocation.
    pub(crate) fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }

    /// Runs work within this invocation, in a task of its own: it is completed even if this future
    /// is dropped.
    ///
    /// # Errors
    /// The work panicked.
    pub(crate) async fn run<T>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError>
    where
        T: Send + 'static,
    {
        tokio::spawn(CURRENT.scope(self.clone(), work)).await
    }
}

fn is_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_traceparent(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([2, 32, 16, 2]) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(invocation.run(async move { id() }).await.unwrap(), Some("abc".to_owned()));
        assert_eq!(invocation.scope(id), Some("abc".to_owned()));
        assert!(Invocation::current().is_none());
    }

    #[tokio::test]
    async fn work_is_completed_although_nobody_waits_for_it() {
        let (started, has_started) = tokio::sync::oneshot::channel();
        let (release, released) = tokio::sync::oneshot::channel();
        let (done, is_done) = tokio::sync::oneshot::channel();
        let invocation = Invocation::default();
        let run = invocation.run(async move {
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
