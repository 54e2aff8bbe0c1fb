//! What can happen, in words.

use std::fmt;

use super::action::Actor;
use super::scope::Guarantee;

/// Defines [`Event`]. Each line names a kind of event and describes it, with its actor as the subject.
macro_rules! events {
    ($($event:ident: $description:literal,)*) => {
        /// A kind of event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Event {
            $($event,)*
        }

        impl Event {
            pub(super) const ALL: &[Self] = &[$(Self::$event,)*];
        }

        impl fmt::Display for Event {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$event => $description,)*
                })
            }
        }
    };
}

events! {
    // A read.
    BeginsRead: "begins to read",
    GetFindsEntry: "gets an entry",
    GetFindsNoEntry: "gets no entry",
    GetFails: "receives no reply to its get",
    LeaseGranted: "requests the lease, and is granted it",
    LeaseFindsEntry: "requests the lease, and finds an entry",
    LeaseFindsFence: "requests the lease, and finds a fence",
    LeaseFindsLease: "requests the lease, and finds another's",
    LeaseReplyLost: "requests the lease, but the reply is lost",
    LeaseTimesOut: "sees its request for the lease time out; it may execute later",
    Loads: "loads",
    LoadFails: "sees its load fail",
    FillAccepted: "fills",
    FillRefused: "has its fill refused",
    FillReplyLost: "sends its fill, but the reply is lost",
    FillTimesOut: "sees its fill time out; it may execute later",
    Forfeits: "forfeits its lease",
    ForfeitFails: "forfeits its lease, which is lost",
    ReplyArrives: "receives the reply",
    StopsWaitingForLease: "stops waiting for another's lease",
    ReturnsCopy: "returns a local copy",
    ReturnsEntry: "returns an entry of the cache",
    ReturnsStored: "returns what it has loaded and filled",
    ReturnsNotStored: "returns what it has loaded",
    ReturnsShared: "returns what another has loaded",
    ReturnsLeased: "returns what was loaded while another had the lease for too long",
    ReturnsError: "returns the error of its load",
    ReaderDropped: "is dropped while it reads",
    // A write.
    BeginsWrite: "begins to write",
    FencePlaced: "places its fence",
    FencePlacedAndAgain: "places its fence; the fence may execute again",
    FenceReplyLost: "places its fence, but the reply is lost",
    FenceTimesOut: "sees its fence time out; it may execute later",
    WriteApplied: "has its write applied",
    WriteRefused: "has its write refused",
    WriteTimesOut: "sees its write time out; it may be applied later",
    WriteAnswerLost: "has its write applied, but the answer is lost",
    FencesAgain: "places its fence again, because the first took too long",
    FencesUnknown: "places its fence again, because the outcome of its write is unknown",
    Releases: "releases its fence",
    ReleasesAndAgain: "releases its fence; the release may execute again",
    ReleaseReplyLost: "releases its fence, but the reply is lost",
    ReleaseTimesOut: "sees its release time out; it may execute later",
    EndsReleased: "ends with its fence released",
    EndsNotPlaced: "ends, and its fence was not confirmed",
    EndsLost: "ends, and its fence was lost",
    EndsOverdue: "ends, and its release is overdue",
    EndsLeft: "ends, and leaves its fence",
    Answers: "answers that it has written",
    AnswersRefused: "answers that it was refused",
    AnswersUnknown: "answers that its outcome is unknown",
    WriterDropped: "is dropped while it writes",
    // Overdue releases.
    OwesRelease: "owes a release, which it tries again",
    Retries: "tries an overdue release again",
    RetryFails: "tries an overdue release again, in vain",
    RetryEnds: "owes no release any more",
    // Everything else.
    EntryExpires: "lets the entry expire",
    LeaseExpires: "lets the lease expire",
    FenceExpires: "lets a deadline in the fence pass",
    KeyLost: "loses the key",
    CopiesAge: "sees time pass, in which local copies become older",
    PauseEnds: "sees time pass until a pause ends",
    LateLease: "has its late request for the lease executed",
    LateFill: "has its late fill executed",
    LateFence: "has its late fence executed",
    LateRelease: "has its late release executed",
    LateWrite: "has its late write applied",
    LateWriteDropped: "has its late write dropped: it is never applied",
}

impl Event {
    /// Whether it can happen while the code and its assumptions are whole.
    pub(super) fn may_happen(self, guarantee: Guarantee) -> bool {
        match self {
            Self::KeyLost | Self::EndsNotPlaced => guarantee == Guarantee::ReadAfterAnsweredWrite,
            Self::ReleaseTimesOut => guarantee == Guarantee::Linearizable,
            _ => true,
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reader(reader) => write!(f, "reader {reader}"),
            Self::Writer(writer) => write!(f, "writer {writer}"),
            Self::Background(process) => write!(f, "process {process}"),
        }
    }
}
