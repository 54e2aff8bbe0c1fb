//! Figures: what was measured, beside what, and whether its limit holds; printed as tables and written
//! as JSON.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::machine::{Machine, Versions};

/// What was measured of one subject.
#[derive(Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) measurement: &'static str,
    /// Under which condition, such as `64 connections`; empty if the measurement has only one.
    pub(crate) condition: String,
    pub(crate) quantity: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) subject: String,
    #[serde(serialize_with = "three_decimals")]
    pub(crate) median: f64,
    #[serde(serialize_with = "three_decimals")]
    pub(crate) least: f64,
    #[serde(serialize_with = "three_decimals")]
    pub(crate) most: f64,
    /// Of how many values the median is.
    pub(crate) values: usize,
    /// The ratio of the median to that of another figure.
    pub(crate) beside: Option<Beside>,
    pub(crate) limit: Option<Limit>,
    pub(crate) holds: Option<bool>,
    pub(crate) note: Option<String>,
}

/// A comparison.
#[derive(Clone, Serialize)]
pub(crate) struct Beside {
    pub(crate) what: String,
    #[serde(serialize_with = "three_decimals")]
    pub(crate) ratio: f64,
}

/// What a change must not exceed or miss.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limit {
    /// Of the ratio.
    RatioAtLeast(f64),
    /// Of the ratio.
    RatioAtMost(f64),
    /// Of the median.
    AtMost(f64),
}

fn three_decimals<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 1000.0).round() / 1000.0)
}

impl Figure {
    /// The median of these values.
    pub(crate) fn new(
        quantity: &'static str,
        unit: &'static str,
        subject: impl Into<String>,
        values: &[f64],
    ) -> Self {
        Self {
            measurement: "",
            condition: String::new(),
            quantity,
            unit,
            subject: subject.into(),
            median: median(values),
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            values: values.len(),
            beside: None,
            limit: None,
            holds: None,
            note: None,
        }
    }

    pub(crate) fn under(mut self, condition: impl Into<String>) -> Self {
        self.condition = condition.into();
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Compares it with another figure.
    pub(crate) fn beside(self, other: &Figure) -> Self {
        self.beside_value(&other.subject, other.median)
    }

    /// Compares it with a value that has the same unit.
    pub(crate) fn beside_value(mut self, what: &str, value: f64) -> Self {
        self.beside = Some(Beside { what: what.to_owned(), ratio: self.median / value });
        self
    }

    /// Sets its limit; one of the ratio needs something that it is beside.
    pub(crate) fn limit(mut self, limit: Limit) -> Self {
        let ratio = || self.beside.as_ref().expect("a comparison").ratio;
        self.holds = Some(match limit {
            Limit::RatioAtLeast(least) => ratio() >= least,
            Limit::RatioAtMost(most) => ratio() <= most,
            Limit::AtMost(most) => self.median <= most,
        });
        self.limit = Some(limit);
        self
    }

    /// Sets its limit, if there is one.
    pub(crate) fn limit_if_any(self, limit: Option<Limit>) -> Self {
        limit.into_iter().fold(self, Self::limit)
    }

    /// What the limit says, and a mark if it does not hold.
    fn verdict(&self) -> String {
        let Some(limit) = self.limit else { return String::new() };
        let mark = match (self.holds, limit) {
            (Some(true), _) => "",
            (_, Limit::RatioAtLeast(_)) => "  MISSED",
            _ => "  EXCEEDED",
        };
        format!("  (limit: {limit}){mark}")
    }

    fn heading(&self) -> String {
        let condition = if self.condition.is_empty() { "" } else { ", " };
        format!("{}{condition}{}", self.quantity, self.condition)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::RatioAtLeast(least) => write!(f, "at least {}", number(*least)),
            Limit::RatioAtMost(most) | Limit::AtMost(most) => {
                write!(f, "at most {}", number(*most))
            }
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9} {:<2}", number(self.median), self.unit)?;
        if self.values > 1 {
            let spread = format!("({} to {})", number(self.least), number(self.most));
            write!(f, " {spread:<20}")?;
        }
        if let Some(Beside { what, ratio }) = &self.beside {
            write!(f, "  {} of {what}", number(*ratio))?;
        }
        write!(f, "{}", self.verdict())?;
        self.note.as_ref().map_or(Ok(()), |note| write!(f, "  {note}"))
    }
}

/// With two to three significant digits; whole numbers with all of them.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        whole if whole.fract() == 0.0 => format!("{value:.0}"),
        large if large >= 100.0 => format!("{value:.0}"),
        large if large >= 10.0 => format!("{value:.1}"),
        large if large >= 0.1 => format!("{value:.2}"),
        large if large >= 0.01 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

/// The median of these values: of an even number, the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    } else {
        sorted[middle]
    }
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The rounds of a measurement, each announced on stderr.
pub(crate) fn rounds(measurement: &'static str, number: usize) -> impl Iterator<Item = usize> {
    (0..number).inspect(move |round| eprintln!("{measurement}: round {} of {number}", round + 1))
}

/// All figures of a run.
#[derive(Serialize)]
pub(crate) struct Report {
    machine: Machine,
    versions: Versions,
    figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn new() -> Self {
        let report =
            Self { machine: Machine::this(), versions: Versions::read(), figures: Vec::new() };
        println!("On {}, which also ran Redis, Azurite and the clients.", report.machine);
        println!("{}", report.versions);
        report
    }

    /// Prints the figures of a measurement, a table for each quantity and condition, and keeps them.
    pub(crate) fn add(&mut self, measurement: &'static str, title: &str, figures: Vec<Figure>) {
        println!("\n== {measurement}: {title}");
        let width = figures.iter().map(|figure| figure.subject.chars().count()).max().unwrap_or(0);
        for table in figures.chunk_by(|a, b| a.heading() == b.heading()) {
            println!("\n{}", table[0].heading());
            for figure in table {
                println!("{}", format!("  {:width$} {figure}", figure.subject).trim_end());
            }
        }
        self.figures.extend(figures.into_iter().map(|figure| Figure { measurement, ..figure }));
    }

    pub(crate) fn figures(&self) -> &[Figure] {
        &self.figures
    }

    pub(crate) fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Prints how many limits hold, and those that do not.
    pub(crate) fn summarise(&self) {
        let with_limit: Vec<_> =
            self.figures.iter().filter(|figure| figure.holds.is_some()).collect();
        let broken: Vec<_> =
            with_limit.iter().filter(|figure| figure.holds == Some(false)).collect();
        println!("\n{} of {} limits hold", with_limit.len() - broken.len(), with_limit.len());
        for figure in broken {
            println!("  {}, {}: {} {figure}", figure.measurement, figure.heading(), figure.subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(values: &[f64]) -> Figure {
        Figure::new("hits", "/s", "x", values)
    }

    #[test]
    fn a_figure_has_the_median_and_the_spread() {
        let odd = figure(&[3.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.least, odd.most), (2.0, 1.0, 3.0));
        assert_eq!(figure(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }

    #[test]
    fn a_limit_that_does_not_hold_is_marked() {
        let beside = |ratio: f64| figure(&[ratio]).beside(&figure(&[1.0]));
        for (figure, mark) in [
            (beside(0.69).limit(Limit::RatioAtLeast(0.70)), "MISSED"),
            (beside(1.06).limit(Limit::RatioAtMost(1.05)), "EXCEEDED"),
            (figure(&[2.0]).limit(Limit::AtMost(1.0)), "EXCEEDED"),
        ] {
            assert_eq!(figure.holds, Some(false));
            assert!(figure.to_string().ends_with(mark), "{figure}");
        }
        for figure in [
            beside(0.70).limit(Limit::RatioAtLeast(0.70)),
            beside(1.05).limit(Limit::RatioAtMost(1.05)),
            figure(&[1.0]).limit(Limit::AtMost(1.0)),
        ] {
            assert_eq!(figure.holds, Some(true));
        }
    }
}
