//! Rules that the code itself can be made to leave out, on this thread, to see that the search notices.

use std::cell::Cell;

use super::scope::Mutation;

/// A rule that cannot be left out from outside, in what the code talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weakening {
    /// A reader may join a load after its fill was sent.
    JoinAfterFill,
    /// A local copy is counted from the reply, not from the moment the step was sent.
    CopyFromReply,
}

thread_local! {
    static CURRENT: Cell<Option<Weakening>> = const { Cell::new(None) };
}

/// The code is weakened until this is dropped.
pub(super) struct Weakened(());

impl Weakening {
    /// Weakens the code as this mutation says, if it is one of the code.
    pub(super) fn of(mutation: Option<Mutation>) -> Weakened {
        CURRENT.set(match mutation {
            Some(Mutation::JoinAfterFill) => Some(Self::JoinAfterFill),
            Some(Mutation::CopyFromReply) => Some(Self::CopyFromReply),
            _ => None,
        });
        Weakened(())
    }

    /// Whether the code is to be weakened in this way.
    pub(crate) fn is_on(self) -> bool {
        CURRENT.get() == Some(self)
    }
}

impl Drop for Weakened {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}
