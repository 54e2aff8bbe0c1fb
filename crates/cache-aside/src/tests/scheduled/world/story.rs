//! What has happened, counted, and in words.

use std::fmt;

use super::World;
use crate::Slot;
use crate::tests::scheduled::event::Event;

impl World {
    /// Counts what has happened, and puts it into words if somebody wants to read them.
    pub(super) fn note(&mut self, who: impl fmt::Display, event: Event) {
        self.happened[event as usize] += 1;
        let state = self.story.is_some().then(|| self.state());
        if let (Some(story), Some(state)) = (&mut self.story, state) {
            let line = format!("{who} {event}");
            story.push(format!("  {line:72} {state}\n"));
        }
    }

    /// The part of the state that explains a schedule.
    fn state(&self) -> String {
        let owner = |token| match self.network.name(token) {
            Some((actor, _)) => actor.to_string(),
            None => "nobody".to_owned(),
        };
        let slot = match self.server.slot() {
            Slot::Nothing | Slot::Foreign => "nothing".to_owned(),
            Slot::Entry(entry) => match entry.found {
                Some(version) => format!("entry v{version}"),
                None => "entry \"no value\"".to_owned(),
            },
            Slot::Lease(token) => format!("lease of {}", owner(token)),
            Slot::Fence(fence) => {
                let writers: Vec<_> = fence.writers().map(|(token, _)| owner(token)).collect();
                format!("fence of {}", writers.join(" and "))
            }
        };
        format!("store: v{}, cache: {slot}", self.server.stored)
    }
}
