//! How much is measured.

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// As much as the figures in the README.
    Full,
    /// A little, for a first impression: `make bench-quick`.
    Quick,
}

impl Effort {
    /// This, or the lesser amount.
    pub(crate) fn of(self, full: usize, quick: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}
