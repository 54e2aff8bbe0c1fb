//! The measurements, each in a file of its own.

mod hits;
mod race;
mod stampede;

use crate::effort::Effort;
use crate::program::Program;
use crate::report::Report;

/// A measurement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measurement {
    Hits,
    Stampede,
    Race,
}

impl Measurement {
    pub(crate) const ALL: [Self; 3] = [Self::Hits, Self::Stampede, Self::Race];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hits => hits::NAME,
            Self::Stampede => stampede::NAME,
            Self::Race => race::NAME,
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measurement| measurement.name() == name)
    }

    /// The programs that are measured.
    pub(crate) fn programs(self) -> &'static [Program] {
        match self {
            Self::Hits => &[Program::Handler],
            Self::Stampede | Self::Race => &Program::ALL,
        }
    }

    pub(crate) async fn make(self, effort: Effort, report: &mut Report) {
        match self {
            Self::Hits => hits::measure(effort, report).await,
            Self::Stampede => stampede::measure(effort, report).await,
            Self::Race => race::measure(effort, report).await,
        }
    }
}
