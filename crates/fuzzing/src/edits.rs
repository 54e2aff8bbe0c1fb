//! Inputs for a test: the examples, and what a few random edits make of them.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};

use crate::Examples;

/// A change of an input at one place.
#[derive(Clone, Debug)]
enum Edit {
    /// Bytes instead of some that are there, or between them.
    Replace { at: Index, length: usize, with: Vec<u8> },
    /// A part of an example instead of what is there.
    Splice { at: Index, length: usize, example: Index, from: Index, taken: usize },
    /// Some of what is there, once more.
    Repeat { at: Index, length: usize },
    /// The end, left out.
    Truncate { at: Index },
}

impl Edit {
    fn any() -> impl Strategy<Value = Self> {
        // Often nothing is replaced.
        let length = || prop_oneof![Just(0), 1..4usize, 0..40usize];
        let with = prop_oneof![
            vec(any::<u8>(), 0..3),
            any::<char>().prop_map(|char| char.to_string().into_bytes()),
            // What is special in JSON, URLs, headers and connection strings.
            select(&b" \t\n,;:=/?#@%&[]{}\"\\'()*-+.0189aAfFzZ"[..]).prop_map(|byte| vec![byte]),
        ];
        prop_oneof![
            4 => (any::<Index>(), length(), with)
                .prop_map(|(at, length, with)| Self::Replace { at, length, with }),
            2 => (any::<Index>(), length(), any::<Index>(), any::<Index>(), length()).prop_map(
                |(at, length, example, from, taken)| Self::Splice { at, length, example, from, taken }
            ),
            1 => (any::<Index>(), 1..40usize)
                .prop_map(|(at, length)| Self::Repeat { at, length }),
            1 => any::<Index>().prop_map(|at| Self::Truncate { at }),
        ]
    }

    fn apply(&self, input: &mut Vec<u8>, examples: &[Vec<u8>]) {
        match self {
            Self::Replace { at, length, with } => {
                input.splice(part(input, at, *length), with.iter().copied());
            }
            Self::Splice { at, length, example, from, taken } => {
                let example = &examples[example.index(examples.len())];
                let taken = example[part(example, from, *taken)].to_vec();
                input.splice(part(input, at, *length), taken);
            }
            Self::Repeat { at, length } => {
                let part = part(input, at, *length);
                let again = input[part.clone()].to_vec();
                input.splice(part.end..part.end, again);
            }
            Self::Truncate { at } => input.truncate(at.index(input.len() + 1)),
        }
    }
}

/// A part of at most this length, which may be empty at the end.
fn part(bytes: &[u8], at: &Index, length: usize) -> Range<usize> {
    let start = at.index(bytes.len() + 1);
    start..bytes.len().min(start + length)
}

impl Examples {
    /// Checks the property with the examples, and with this many random edits of them.
    ///
    /// # Panics
    /// It does not hold. The message has the input, with as few edits as make it fail.
    pub fn and_edited_ones(&self, cases: u32, property: &dyn Fn(&[u8])) {
        self.0.iter().for_each(|example| property(example));
        let inputs = (any::<Index>(), vec(Edit::any(), 1..6)).prop_map(|(example, edits)| {
            let mut input = example.get(&self.0).clone();
            edits.iter().for_each(|edit| edit.apply(&mut input, &self.0));
            Input(input)
        });
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let check = |input: Input| {
            property(&input.0);
            Ok(())
        };
        if let Err(failure) = TestRunner::new(config).run(&inputs, check) {
            panic!("{failure}");
        }
    }
}

/// Bytes, shown as text as far as they are.
#[derive(Clone)]
struct Input(Vec<u8>);

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::CASES;

    #[test]
    fn the_examples_come_first_and_the_rest_is_similar() {
        let inputs = RefCell::new(Vec::new());
        let note = |input: &[u8]| inputs.borrow_mut().push(input.to_vec());
        Examples::new(["{\"name\":\"Ann\"}", "x"]).and_edited_ones(CASES, &note);
        let inputs = inputs.into_inner();
        assert_eq!(inputs.len(), 2 + CASES as usize);
        assert_eq!(inputs[..2], [b"{\"name\":\"Ann\"}".to_vec(), b"x".to_vec()]);
        let with_a_part = |part: &[u8]| {
            inputs.iter().filter(|it| it.windows(part.len()).any(|window| window == part)).count()
        };
        assert!(with_a_part(b"name") > CASES as usize / 10);
        let lengths = |is_it: &dyn Fn(usize) -> bool| inputs.iter().any(|it| is_it(it.len()));
        let longest = inputs[0].len();
        assert!(lengths(&|it| it > longest) && lengths(&|it| (2..longest).contains(&it)));
        let different: HashSet<_> = inputs.iter().collect();
        assert!(different.len() > CASES as usize / 2, "{}", different.len());
    }

    #[test]
    fn a_property_that_does_not_hold_is_shown_with_an_input() {
        let no_comma = |input: &[u8]| assert!(!input.contains(&b','), "a comma");
        let check = AssertUnwindSafe(|| Examples::new(["name"]).and_edited_ones(CASES, &no_comma));
        let failure = catch_unwind(check).unwrap_err();
        let message = failure.downcast_ref::<String>().unwrap();
        assert!(
            message.contains("a comma") && message.contains("minimal failing input"),
            "{message}"
        );
    }
}
