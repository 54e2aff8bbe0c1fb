//! The measurements, each in a file of its own.

mod footprint;
mod growth;
mod hits;
mod misses;
mod outage;
mod overload;
mod peers;
mod race;
mod stampede;
mod telemetry;
mod writes;

use crate::effort::Effort;
use crate::report::Report;
use test_programs::program::Program;

/// A measurement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measurement {
    Hits,
    Peers,
    Misses,
    Stampede,
    Race,
    Footprint,
    Growth,
    Outage,
    Writes,
    Overload,
    Telemetry,
}

impl Measurement {
    /// All of them, in the order in which they are made.
    pub(crate) const ALL: [Self; 11] = [
        Self::Hits,
        Self::Peers,
        Self::Misses,
        Self::Stampede,
        Self::Race,
        Self::Footprint,
        Self::Growth,
        Self::Outage,
        Self::Writes,
        Self::Overload,
        Self::Telemetry,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hits => hits::NAME,
            Self::Peers => peers::NAME,
            Self::Misses => misses::NAME,
            Self::Stampede => stampede::NAME,
            Self::Race => race::NAME,
            Self::Footprint => footprint::NAME,
            Self::Growth => growth::NAME,
            Self::Outage => outage::NAME,
            Self::Writes => writes::NAME,
            Self::Overload => overload::NAME,
            Self::Telemetry => telemetry::NAME,
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measurement| measurement.name() == name)
    }

    /// The programs that are measured.
    pub(crate) fn programs(self) -> &'static [Program] {
        match self {
            Self::Peers | Self::Misses | Self::Stampede | Self::Race | Self::Footprint => {
                &Program::ALL
            }
            Self::Hits
            | Self::Growth
            | Self::Outage
            | Self::Writes
            | Self::Overload
            | Self::Telemetry => &[Program::Handler],
        }
    }

    /// Makes it, and adds its figures to the report.
    pub(crate) async fn make(self, effort: Effort, report: &mut Report) {
        match self {
            Self::Hits => hits::measure(effort, report).await,
            Self::Peers => peers::measure(effort, report).await,
            Self::Misses => misses::measure(effort, report).await,
            Self::Stampede => stampede::measure(effort, report).await,
            Self::Race => race::measure(effort, report).await,
            Self::Footprint => footprint::measure(effort, report).await,
            Self::Growth => growth::measure(effort, report).await,
            Self::Outage => outage::measure(effort, report).await,
            Self::Writes => writes::measure(effort, report).await,
            Self::Overload => overload::measure(effort, report).await,
            Self::Telemetry => telemetry::measure(effort, report).await,
        }
    }
}
