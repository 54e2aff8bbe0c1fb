//! Folds warnings and errors that are repeated: a fault makes a few lines, not thousands.
//!
//! The first record of a place in the code is written at once. Of those that follow within the next
//! interval only the last is written, when the interval ends, with their number. Records are told
//! apart by their place and not by their text, because the text of a repetition often differs, for
//! example in an address or a duration.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::{Level, Record};

/// The interval in which repetitions are folded.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// The place in the code that a record comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    level: Level,
    target: String,
    file: String,
    line: u32,
    /// The text, if the record does not say which line of code it comes from.
    text: String,
}

impl From<&Record<'_>> for Place {
    fn from(record: &Record) -> Self {
        Self {
            level: record.level(),
            target: record.target().to_owned(),
            file: record.file().unwrap_or_default().to_owned(),
            line: record.line().unwrap_or_default(),
            text: if record.line().is_some() { String::new() } else { record.args().to_string() },
        }
    }
}

/// The records of one place in this interval, after the first.
#[derive(Debug, Default, PartialEq)]
struct Repetitions {
    number: usize,
    last: String,
}

/// What is folded at the moment.
#[derive(Default)]
pub(super) struct Folding(Mutex<HashMap<Place, Repetitions>>);

/// What becomes of a record.
#[derive(Debug, PartialEq)]
pub(super) enum Fate {
    /// It is written.
    Write,
    /// It is written, and is the only one that may be repeated: intervals begin. From now on, call
    /// [`Folding::end_interval`] after every [`INTERVAL`] until it returns `None`.
    WriteAndBegin,
    /// It was counted as a repetition.
    Fold,
}

/// The repetitions of a record in an interval, as one record.
#[derive(Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) level: Level,
    pub(super) target: String,
    pub(super) text: String,
}

impl Folding {
    fn places(&self) -> MutexGuard<'_, HashMap<Place, Repetitions>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fate(&self, record: &Record) -> Fate {
        let mut places = self.places();
        let is_empty = places.is_empty();
        let mut is_new = false;
        let repetitions = places.entry(Place::from(record)).or_insert_with(|| {
            is_new = true;
            Repetitions::default()
        });
        match (is_new, is_empty) {
            (true, true) => Fate::WriteAndBegin,
            (true, false) => Fate::Write,
            (false, _) => {
                repetitions.number += 1;
                repetitions.last = record.args().to_string();
                Fate::Fold
            }
        }
    }

    /// Ends the interval. Returns what has been folded in it, or `None` if no record may be folded any
    /// more, because none came in the whole interval.
    pub(super) fn end_interval(&self) -> Option<Vec<Summary>> {
        // A place is kept while its record is repeated, so that each interval has one line of it.
        self.places().retain(|_, repetitions| repetitions.number > 0);
        let summaries = self.take();
        if summaries.is_empty() { None } else { Some(summaries) }
    }

    /// Takes what has been folded in this interval so far.
    pub(super) fn take(&self) -> Vec<Summary> {
        let mut summaries = Vec::new();
        for (place, repetitions) in self.places().iter_mut() {
            let Repetitions { number, last } = std::mem::take(repetitions);
            if number > 0 {
                let seconds = INTERVAL.as_secs();
                let text = match number {
                    1 => last,
                    _ => format!("{last} (the last of {number} such records within {seconds} s)"),
                };
                let (level, target) = (place.level, place.target.clone());
                summaries.push(Summary { level, target, text });
            }
        }
        summaries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(folding: &Folding, level: Level, line: Option<u32>, text: &str) -> Fate {
        let mut record = Record::builder();
        record.level(level).target("t").file(Some("f.rs")).line(line);
        folding.fate(&record.args(format_args!("{text}")).build())
    }

    #[test]
    fn the_first_record_of_a_place_is_written_and_the_last_of_each_interval() {
        let folding = Folding::default();
        assert_eq!(fate(&folding, Level::Warn, Some(1), "a"), Fate::WriteAndBegin);
        assert_eq!(fate(&folding, Level::Warn, Some(2), "a"), Fate::Write);
        assert_eq!(fate(&folding, Level::Error, Some(1), "a"), Fate::Write);
        for interval in 0..2 {
            for text in ["b", "c"] {
                assert_eq!(fate(&folding, Level::Warn, Some(1), text), Fate::Fold, "{interval}");
            }
            let text = "c (the last of 2 such records within 5 s)".to_owned();
            let summary = Summary { level: Level::Warn, target: "t".to_owned(), text };
            assert_eq!(folding.end_interval(), Some(vec![summary]));
        }
        assert_eq!(folding.end_interval(), None);
        assert_eq!(fate(&folding, Level::Warn, Some(1), "d"), Fate::WriteAndBegin);
    }

    #[test]
    fn records_without_a_place_are_told_apart_by_their_text() {
        let folding = Folding::default();
        assert_eq!(fate(&folding, Level::Warn, None, "a"), Fate::WriteAndBegin);
        assert_eq!(fate(&folding, Level::Warn, None, "b"), Fate::Write);
        assert_eq!(fate(&folding, Level::Warn, None, "a"), Fate::Fold);
    }
}
