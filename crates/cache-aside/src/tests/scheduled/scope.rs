//! What a search explores, and how the code may be broken on purpose.

use std::fmt;

/// How many processes there are.
pub(super) const PROCESSES: usize = 2;

/// How much a search explores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// What is checked. It also decides what may go wrong, see the assumptions in `mod.rs`.
    pub(super) guarantee: Guarantee,
    /// The number of readers in each process. Each reads once.
    pub(super) readers: [usize; PROCESSES],
    /// The process of each writer. Each writes once.
    pub(super) writers: &'static [usize],
    /// The last writer removes the value instead of changing it.
    pub(super) removes: bool,
    /// Whether processes keep local copies.
    pub(super) copies: Copies,
    pub(super) limits: Limits,
    pub(super) mutation: Option<Mutation>,
}

/// How often something may happen in one schedule, apart from the steps of the readers and writers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Callers that are dropped, steps of the cache that fail or execute late or twice, loads that fail,
    /// writes that are refused or whose outcome is unknown.
    pub(super) faults: usize,
    /// Entries, leases and local copies that expire, keys that are lost.
    pub(super) losses: usize,
    /// Jumps of the clock: to the end of the next pause, or of a fence.
    pub(super) jumps: usize,
}

/// Whether processes keep local copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copies {
    None,
    Local,
}

/// What is claimed of the code. The model's `Guarantee` explains why comparing versions is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guarantee {
    /// A read returns a version at least as new as any that a completed read or write had made visible
    /// before it began. The cache keeps what it was given until it expires.
    Linearizable,
    /// A read returns a version at least as new as that of any write that was answered before it began.
    /// The cache may lose any key at any moment.
    ReadAfterAnsweredWrite,
}

/// A change that breaks the code, or an assumption that does not hold. The names are the model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    // Rules that are left out, in what the code talks to.
    /// A write places no fence: the connection answers in its place.
    NoFence,
    /// A second writer's fence replaces the first's instead of joining it.
    FenceReplaces,
    /// A release removes the key although another writer is in the fence.
    ReleaseRemovesOthers,
    /// A fill does not check that its lease is still there.
    FillWithoutLease,
    /// Every joiner gets the result although the fill was refused: the cache says that it was accepted.
    ShareRefusedFill,
    /// A release does nothing unless a fence is there.
    ReleaseOnlyFences,
    /// A lease that timed out is requested again with the same token, by the connection.
    LeaseResent,
    /// A write whose outcome is unknown is treated as refused, and released: by the error's type.
    ReleaseUnknown,
    /// All writers in a fence share the deadline of the one that joined last.
    SharedDeadline,
    /// A write does not wait for the local copies to end after its fence: the policy of its process
    /// says that there are none.
    NoWaitAfterFence,
    /// A release that did not find its token does not wait for the local copies to end: the cache says
    /// that it was found.
    NoWaitAfterRelease,
    /// A write whose fence was not answered trusts a release that found its token: the connection
    /// answers in the cache's place.
    UnansweredFenceTrusted,

    // Rules that are left out in the code itself, see `Weakening`.
    /// A reader may join a load after its fill was sent.
    JoinAfterFill,
    /// A local copy is counted from the reply, not from the moment the step was sent.
    CopyFromReply,

    // Assumptions that do not hold.
    /// With local copies, a fence may execute again after it was answered.
    FenceResent,
    /// A fence may execute after its write was sent, although the guarantee is linearizability.
    FenceLate,
    /// The store may apply a write after the deadline of its fence.
    FenceTooShort,
    /// A release may execute after its write was answered, although the cache may lose keys.
    ReleaseLate,
    /// The cache may lose keys, although the guarantee is linearizability.
    KeyLost,
}

impl Scope {
    pub(super) fn is_mutated(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub(super) fn has_copies(&self) -> bool {
        self.copies == Copies::Local
    }

    pub(super) fn loses_keys(&self) -> bool {
        self.guarantee == Guarantee::ReadAfterAnsweredWrite || self.is_mutated(Mutation::KeyLost)
    }

    /// Whether the fence of a write may execute after the write was sent, or never.
    pub(super) fn fence_may_be_late(&self) -> bool {
        self.guarantee == Guarantee::ReadAfterAnsweredWrite || self.is_mutated(Mutation::FenceLate)
    }

    /// Whether a fence that was answered may execute again. With local copies, it would put back the token
    /// of a fence that was lost, which matters only if keys are lost.
    pub(super) fn fence_may_be_resent(&self) -> bool {
        !self.has_copies()
            || self.guarantee == Guarantee::Linearizable
            || self.is_mutated(Mutation::FenceResent)
    }

    /// Whether a release may execute after its write was answered, or never. If the cache loses keys, its
    /// fence may be gone.
    pub(super) fn release_may_be_late(&self) -> bool {
        self.guarantee == Guarantee::Linearizable || self.is_mutated(Mutation::ReleaseLate)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guarantee, readers, writers, removes, copies, limits, mutation } = self;
        write!(f, "{guarantee:?}, readers {readers:?}, writers in {writers:?}")?;
        if *removes {
            f.write_str(", the last removes")?;
        }
        if *copies == Copies::Local {
            f.write_str(", local copies")?;
        }
        let Limits { faults, losses, jumps } = limits;
        write!(f, "; at most {faults} faults, {losses} losses, {jumps} jumps")?;
        mutation.map_or(Ok(()), |mutation| write!(f, "; {mutation:?}"))
    }
}
