//! What a run of the checker explores, and how the protocol may be broken on purpose.

use std::fmt;

use crate::state::{PROCESSES, ReaderId};

/// How much a run explores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    /// What is checked. It also decides what may go wrong, see the assumptions in `main.rs`.
    pub(crate) guarantee: Guarantee,
    /// The number of readers in each process. Readers of one process share loads and a local copy.
    /// Each reads once.
    pub(crate) readers: [usize; PROCESSES],
    /// The number of writers. Each writes once.
    pub(crate) writers: usize,
    /// Whether processes keep local copies.
    pub(crate) copies: Copies,
    /// How many faults one execution may have: crashes, steps of the cache that fail or execute
    /// late or twice, loads that fail, writes that are refused or whose outcome is unknown. Expiry and
    /// lost keys are not counted: they may happen at any time.
    pub(crate) faults: Faults,
}

/// Whether processes keep local copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    None,
    Local,
}

/// How many faults one execution may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Faults {
    AtMost(u8),
    Unlimited,
}

impl Scope {
    /// The process of a reader: the first readers are in the first process, and so on.
    pub(crate) fn process_of(&self, reader: ReaderId) -> usize {
        let mut last = 0;
        self.readers
            .iter()
            .take_while(|readers| {
                last += **readers;
                last <= usize::from(reader)
            })
            .count()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guarantee, readers, writers, copies, faults } = self;
        let readers: Vec<_> = readers.iter().filter(|readers| **readers > 0).collect();
        write!(f, "{guarantee:?}, readers {readers:?}, writers {writers}, ")?;
        match copies {
            Copies::None => f.write_str("no local copies, ")?,
            Copies::Local => f.write_str("local copies, ")?,
        }
        match faults {
            Faults::AtMost(faults) => write!(f, "faults: at most {faults}"),
            Faults::Unlimited => f.write_str("faults: any number"),
        }
    }
}

/// What is claimed of the protocol.
///
/// # Why comparing versions is enough
///
/// The store applies writes one after another, and every written value is unique, so a value is
/// identified by its *version*: its place in the order in which the store applied the writes. The
/// checker remembers the newest version that any completed operation has made visible. A read notes
/// that version when it begins, and must return the same version or a later one.
///
/// If this holds in an execution, then its history is linearizable. Order the writes as the store
/// applied them, and place each read after the write whose value it returned and before the next
/// write; reads of one version by the time they began. No operation then comes before one that had
/// ended when it began:
///
/// - A write before a read: the read returned the write's version or a later one, as checked.
/// - A read before a read: the second returned the first's version or a later one, as checked.
/// - A read before a write: the write was applied after the read had ended, so its version is later
///   than any that the read could return.
/// - A write before a write: the store applied the first before it was answered, and the second after it
///   was sent. A write that has not been answered, or whose outcome was answered as unknown, has no
///   end and may be placed anywhere after its beginning.
///
/// The converse holds if the store itself is counted as an object that can be looked at: the check
/// demands that reads agree with the order in which the store applied concurrent writes, and that
/// order can be seen by loading at the right moment. A history that the check refuses and that is
/// still linearizable in some other order of its writes therefore counts as a violation, which is the
/// safe side.
///
/// A refused write (a conflict, an entity tag that does not match) tells its caller something
/// about the value in the store, so it counts as a read of that version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guarantee {
    /// A read returns a version at least as new as any that a completed read or write had made
    /// visible before it began. The cache keeps what it was given until it expires.
    Linearizable,
    /// A read returns a version at least as new as that of any write that was answered before it
    /// began. The cache may lose any key at any moment.
    ReadAfterAnsweredWrite,
}

/// A change that breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    // Rules of the protocol that are left out.
    /// A write places no fence.
    NoFence,
    /// A second writer's fence replaces the first's instead of joining it.
    FenceReplaces,
    /// A release removes the key although another writer is in the fence.
    ReleaseRemovesOthers,
    /// A fill does not check that its lease is still there.
    FillWithoutLease,
    /// A reader may join a load after its fill was sent.
    JoinAfterFill,
    /// Every joiner gets the result although the fill was refused.
    ShareRefusedFill,
    /// A release does nothing unless a fence is there.
    ReleaseOnlyFences,
    /// A lease that timed out is requested again with the same token.
    LeaseResent,
    /// A write whose outcome is unknown is treated as refused, and released.
    ReleaseUnknown,
    /// All writers in a fence share the deadline of the one that joined last.
    SharedDeadline,
    /// A write does not wait for the local copies to end after its fence.
    NoWaitAfterFence,
    /// A release that did not find its token does not wait for the local copies to end.
    NoWaitAfterRelease,
    /// A local copy is counted from the reply, not from the moment the step was sent.
    CopyFromReply,
    /// With local copies, a fence may execute again after it was answered.
    FenceResent,
    /// A write whose fence was not answered trusts a release that found its token.
    UnansweredFenceTrusted,

    // Assumptions that do not hold.
    /// A fence may execute after its write was sent, although the guarantee is linearizability.
    FenceLate,
    /// The deadline of a fence may pass before its write is applied.
    FenceTooShort,
    /// A release may execute after its write was answered, although the cache may lose keys.
    ReleaseLate,
    /// The cache may lose keys, although the guarantee is linearizability.
    KeyLost,
}
