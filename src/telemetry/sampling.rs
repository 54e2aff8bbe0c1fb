//! Which requests are traced.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

/// How many traces begin here in a second, at most. A handler answers tens of thousands of requests in that
/// time. The exporter keeps 2,048 spans until it sends them, and drops what is above that: without a limit,
/// most traces would lack some of their spans.
const TRACES_PER_SECOND: u64 = 100;

/// Follows the decision of the client or the host; if there is none, begins a limited number of traces.
pub(super) fn sampler() -> Sampler {
    Sampler::ParentBased(Box::new(Limited::new()))
}

/// Samples the first traces of each second.
#[derive(Clone, Debug)]
struct Limited(Arc<Begun>);

#[derive(Debug)]
struct Begun {
    start: Instant,
    /// The current second since the start, times [`Self::SECOND`], plus the number of traces begun in it.
    traces: AtomicU64,
}

impl Begun {
    const SECOND: u64 = 1 << 32;

    /// Whether a trace may begin in this second.
    fn allows(&self, second: u64) -> bool {
        let next = |traces: u64| match (traces / Self::SECOND == second, traces % Self::SECOND) {
            (true, TRACES_PER_SECOND..) => None,
            (true, _) => Some(traces + 1),
            (false, _) => Some(second * Self::SECOND + 1),
        };
        self.traces.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

impl Limited {
    fn new() -> Self {
        Self(Arc::new(Begun { start: Instant::now(), traces: AtomicU64::new(0) }))
    }
}

impl ShouldSample for Limited {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        _: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let is_allowed = self.0.allows(self.0.start.elapsed().as_secs());
        let decision =
            if is_allowed { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop };
        let trace_state = parent.map(|it| it.span().span_context().trace_state().clone());
        let trace_state = trace_state.unwrap_or_default();
        SamplingResult { decision, attributes: Vec::new(), trace_state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limited_number_of_traces_begins_in_each_second() {
        let Limited(begun) = Limited::new();
        let begin = |second| (0..10 * TRACES_PER_SECOND).filter(|_| begun.allows(second)).count();
        for second in [0, 1, 5] {
            assert_eq!(begin(second) as u64, TRACES_PER_SECOND);
            assert_eq!(begin(second), 0);
        }
    }
}
