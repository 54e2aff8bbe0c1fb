//! The invocation that a request belongs to, known to every log line that is written for it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinError;
use warp::Filter;
use warp::http::HeaderMap;

/// The host's id of the invocation, in every mode.
const INVOCATION_ID: &str = "x-azure-functions-invocationid";
/// W3C Trace Context: <https://www.w3.org/TR/trace-context/>.
const TRACEPARENT: &str = "traceparent";

/// An id in a header is somebody's text: no longer than this, and of these characters, it may be logged.
const LONGEST_ID: usize = 64;

tokio::task_local! {
    static CURRENT: Invocation;
}

/// What the host, or a caller, said about a request. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Invocation(Option<Arc<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    id: Option<String>,
    traceparent: Option<String>,
    /// Log lines that travel back with the answer, in the payload mode.
    lines: Option<Mutex<Vec<String>>>,
}

impl Invocation {
    /// Reads what the headers say.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        Self::read(headers, false)
    }

    /// The same, and collects the log lines.
    pub fn collecting(headers: &HeaderMap) -> Self {
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

    /// The invocation that this code runs in.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// The host's id of it.
    pub fn id(&self) -> Option<&str> {
        self.0.as_ref()?.id.as_deref()
    }

    /// The trace that it is part of, as W3C Trace Context writes it.
    pub fn traceparent(&self) -> Option<&str> {
        self.0.as_ref()?.traceparent.as_deref()
    }

    /// Adds a log line to those that travel back, if they do.
    pub fn collect(&self, line: impl FnOnce() -> String) {
        if let Some(lines) = self.0.as_ref().and_then(|inner| inner.lines.as_ref()) {
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line());
        }
    }

    /// Takes the lines collected so far.
    pub fn take_lines(&self) -> Vec<String> {
        let lines = self.0.as_ref().and_then(|inner| inner.lines.as_ref());
        lines.map_or_else(Vec::new, |lines| {
            std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }

    /// Runs work in this invocation, as a task of its own: it is carried through although its caller
    /// goes away.
    ///
    /// # Errors
    /// The work panicked.
    pub async fn run<T>(
        self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError>
    where
        T: Send + 'static,
    {
        tokio::spawn(CURRENT.scope(self, work)).await
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

/// The invocation of a request, the payload's or what the headers say; and the headers.
pub fn invocation()
-> impl Filter<Extract = (Invocation, HeaderMap), Error = Infallible> + Clone + Send + Sync + 'static
{
    warp::ext::optional::<Invocation>()
        .and(warp::header::headers_cloned())
        .map(|known: Option<Invocation>, headers: HeaderMap| {
            (known.unwrap_or_else(|| Invocation::from_headers(&headers)), headers)
        })
        .untuple_one()
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
    fn only_what_looks_like_an_id_or_a_trace_is_taken() {
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
        let ran = read(INVOCATION_ID, "abc").run(async {
            Invocation::current().and_then(|current| current.id().map(str::to_owned))
        });
        assert_eq!(ran.await.unwrap(), Some("abc".to_owned()));
        assert!(Invocation::current().is_none());
    }
}
