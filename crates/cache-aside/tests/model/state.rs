//! What there is: one value in the store, one slot in the cache, processes, readers and writers.

use std::fmt;

use crate::scope::Faults;

/// Room for this many readers; a [`Scope`](crate::scope::Scope) says how many there are.
pub(crate) const READERS: usize = 4;
/// Room for this many writers.
pub(crate) const WRITERS: usize = 3;
pub(crate) const PROCESSES: usize = 3;

/// The place of a value in the order in which the store applied the writes; 0 is the value that was
/// there at the beginning. A removal is a write of the value "none".
pub(crate) type Version = u8;
/// Also the token of its lease: a reader that was granted a lease, or whose request timed out,
/// requests no other.
pub(crate) type ReaderId = u8;
/// Also the token of its fence.
pub(crate) type WriterId = u8;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The version in the store.
    pub(crate) stored: Version,
    /// The newest version that a completed operation has made visible: a read that begins now must
    /// return this version or a later one.
    pub(crate) visible: Version,
    pub(crate) slot: Slot,
    /// What each process keeps as its local copy.
    pub(crate) copies: [Option<Copy>; PROCESSES],
    pub(crate) readers: [Reader; READERS],
    pub(crate) writers: [Writer; WRITERS],
    /// How many faults may still happen.
    pub(crate) faults_left: Faults,
    /// What must never happen.
    pub(crate) violation: Option<Violation>,
}

/// A read returned an older version than it had to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Violation {
    pub(crate) reader: ReaderId,
    pub(crate) returned: Version,
    pub(crate) must_see: Version,
}

/// What the cache holds under the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    Nothing,
    Entry(Version),
    Lease(ReaderId),
    /// For each writer, if it is in the fence, the writer whose deadline removes it: itself, unless
    /// the protocol is mutated. Never empty.
    Fence([Option<WriterId>; WRITERS]),
}

/// How old a local copy is, or the reply that may become one, in relation to the waits of writers.
///
/// Time itself is not modelled. A wait lasts as long as copies do, so when it ends, every copy that is
/// older than the wait has ended. A copy may end sooner at any moment. Its age counts from the moment
/// the step was executed; the client counts from the moment it was sent, because it cannot know
/// more, and that only ends copies sooner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Age {
    /// The writers whose wait is not over yet, and began when the copy was there: one bit each.
    before_wait_of: u8,
    /// A wait that began when the copy was there is over.
    over: bool,
}

impl Age {
    pub(crate) fn is_over(self) -> bool {
        self.over
    }

    fn wait_begins(&mut self, writer: WriterId) {
        if !self.over {
            self.before_wait_of |= 1 << writer;
        }
    }

    fn wait_ends(&mut self, writer: WriterId) {
        if self.before_wait_of & (1 << writer) != 0 {
            *self = Self { before_wait_of: 0, over: true };
        }
    }

    fn wait_is_abandoned(&mut self, writer: WriterId) {
        self.before_wait_of &= !(1 << writer);
    }
}

/// An entry that a process answers from without asking the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Copy {
    pub(crate) version: Version,
    pub(crate) age: Age,
}

/// One call of `get`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reader {
    pub(crate) progress: Reading,
    /// What was visible when it began.
    pub(crate) must_see: Version,
    /// Its request for the lease may still execute.
    pub(crate) late_lease: bool,
    /// Its fill with this version may still execute.
    pub(crate) late_fill: Option<Version>,
}

/// How far a read has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Reading {
    #[default]
    NotBegun,
    GetSent,
    /// It will join a load of its process, or lead one.
    NotCached(CacheState),
    /// It waits for the load that `leader` leads.
    Joined {
        leader: ReaderId,
        /// Whether it joined before the last request of its leader was sent.
        in_time: bool,
    },
    // From here on it leads a load. Others may join until the fill is sent.
    /// It will request the lease, for the first time or after a pause.
    Leading,
    /// It will send the load, with a lease or without.
    Loading(Lease),
    /// It has loaded this version with a lease, and will send the fill.
    Loaded(Version),
    /// It has sent the fill. From here on nobody may join.
    FillSent(Version),
    /// The cache has executed the fill; the reply is on its way. Only where it matters that it takes
    /// time; otherwise the load ends at once.
    FillExecuted(Version, Fill),
    /// Its result is decided; the reply that shows an entry, and may become a local copy, is on its
    /// way.
    CopyOnItsWay(Copy),
    /// It has ended, well or not.
    Done,
}

/// Whether the cache answered this reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CacheState {
    Usable,
    Unusable,
}

/// Whether a leader holds the lease, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lease {
    Granted,
    Denied,
}

/// What became of a fill, as far as its reader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fill {
    Accepted,
    Refused,
    /// It was not sent, or its reply was lost.
    Unknown,
}

/// One call of `write`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    pub(crate) progress: Writing,
    /// It has not received the reply to its fence.
    pub(crate) fence_unanswered: bool,
    /// The store may still apply its write, although the writer no longer waits for it.
    pub(crate) late_write: bool,
    /// Its fence may still execute, or execute again.
    pub(crate) late_fence: bool,
    /// Its release may still execute, or execute again.
    pub(crate) late_release: bool,
}

/// How far a write has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Writing {
    /// It will place its fence.
    #[default]
    NotBegun,
    /// It waits until all local copies that were taken before its fence have ended.
    WaitingForCopies,
    WriteSent,
    /// The store has applied or refused the write. The answer, and then the release, is on its way.
    Settled(Outcome),
    /// It waits until all local copies that were taken before its release have ended.
    WaitingAgain(Outcome),
    /// It has answered, or crashed.
    Done,
}

/// What a write answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// It is this version.
    Applied(Version),
    /// It was refused when the store had this version.
    Refused(Version),
    /// An error that does not say whether it was applied.
    Unknown,
}

impl Writer {
    /// Whether the store may still apply its write. The rules of time see to it that its fence
    /// lasts until then, see the assumptions in `main.rs`.
    pub(crate) fn write_can_land(&self) -> bool {
        use Writing::*;
        self.late_write || matches!(self.progress, WaitingForCopies | WriteSent)
    }
}

impl State {
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            stored: 0,
            visible: 0,
            slot: Slot::Nothing,
            copies: [None; PROCESSES],
            readers: [Reader::default(); READERS],
            writers: [Writer::default(); WRITERS],
            faults_left: faults,
            violation: None,
        }
    }

    pub(crate) fn reader(&mut self, reader: ReaderId) -> &mut Reader {
        &mut self.readers[usize::from(reader)]
    }

    pub(crate) fn writer(&mut self, writer: WriterId) -> &mut Writer {
        &mut self.writers[usize::from(writer)]
    }

    pub(crate) fn wait_begins(&mut self, writer: WriterId) {
        self.ages(|age| age.wait_begins(writer));
    }

    /// A wait for the local copies is over, and so are the copies that it was for.
    pub(crate) fn wait_ends(&mut self, writer: WriterId) {
        self.ages(|age| age.wait_ends(writer));
        for copy in &mut self.copies {
            if copy.is_some_and(|copy| copy.age.is_over()) {
                *copy = None;
            }
        }
    }

    pub(crate) fn wait_is_abandoned(&mut self, writer: WriterId) {
        self.ages(|age| age.wait_is_abandoned(writer));
    }

    /// The ages of all copies, and of all replies that may become one.
    fn ages(&mut self, mut change: impl FnMut(&mut Age)) {
        for copy in self.copies.iter_mut().flatten() {
            change(&mut copy.age);
        }
        for reader in &mut self.readers {
            if let Reading::CopyOnItsWay(copy) = &mut reader.progress {
                change(&mut copy.age);
            }
        }
    }
}

/// The part of it that explains a counterexample.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store: v{}, cache: {}", self.stored, self.slot)?;
        for (process, copy) in self.copies.iter().enumerate() {
            if let Some(copy) = copy {
                write!(f, ", copy of process {process}: v{}", copy.version)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Entry(version) => write!(f, "entry v{version}"),
            Self::Lease(reader) => write!(f, "lease of reader {reader}"),
            Self::Fence(deadlines) => {
                let writers =
                    deadlines.iter().enumerate().filter(|(_, deadline)| deadline.is_some());
                let writers: Vec<_> = writers.map(|(writer, _)| writer.to_string()).collect();
                write!(f, "fence of writer {}", writers.join(" and "))
            }
        }
    }
}
