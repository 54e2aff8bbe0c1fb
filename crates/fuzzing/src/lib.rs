//! Checks a property of a decoder with many inputs. One statement of the property is both:
//!
//! - a test: under `cargo test`, it is checked with the examples, and with a few thousand inputs that
//!   are made of them by random edits;
//! - a fuzz target: under `make fuzz`, libFuzzer looks for inputs that take other branches, for as long
//!   as it is given, and begins with the examples.
//!
//! The examples are what makes the test worthwhile: of random bytes alone, hardly any are JSON or a URL.

/// Checks a property, which panics if it does not hold, with inputs like these examples.
///
/// The examples are a slice of anything that is [`AsRef<[u8]>`](AsRef), such as texts. The property takes
/// `&[u8]` or, with `text`, a `&str`, for which bytes that are not UTF-8 are replaced. It must be the whole
/// body of the test, whose name must begin with `fuzz_`: `scripts/fuzz.sh` finds it by that. A test of a slow
/// property takes fewer inputs, `cases: 500`.
///
/// ```
/// fn fuzz_numbers_are_read_back() {
///     fuzzing::check!(text, &["7", "-7", ""], |text| {
///         if let Ok(number) = text.parse::<i32>() {
///             assert_eq!(number.to_string().parse(), Ok(number));
///         }
///     });
/// }
/// # fuzz_numbers_are_read_back();
/// ```
#[macro_export]
macro_rules! check {
    (text, $examples:expr, $property:expr) => {{
        let property: &dyn Fn(&str) = &$property;
        $crate::check!($examples, |bytes: &[u8]| property(&String::from_utf8_lossy(bytes)));
    }};
    (cases: $cases:expr, $examples:expr, $property:expr) => {{
        let examples = $crate::Examples::new($examples);
        let property: &dyn Fn(&[u8]) = &$property;
        $crate::engine!(examples, $cases, property);
    }};
    ($examples:expr, $property:expr) => {
        $crate::check!(cases: $crate::CASES, $examples, $property)
    };
}

mod edits;

#[cfg(not(fuzzing))]
#[doc(hidden)]
#[macro_export]
macro_rules! engine {
    ($examples:ident, $cases:expr, $property:ident) => {
        $examples.and_edited_ones($cases, $property)
    };
}

/// How many edited examples a test takes, unless it says otherwise.
pub const CASES: u32 = 3_000;

#[cfg(fuzzing)]
pub use bolero;

// A macro, because bolero's finds out by it where the test is.
#[cfg(fuzzing)]
#[doc(hidden)]
#[macro_export]
macro_rules! engine {
    ($examples:ident, $cases:expr, $property:ident) => {{
        $examples.write_to_corpus();
        let property = ::std::panic::AssertUnwindSafe($property);
        $crate::bolero::check!().for_each(move |bytes: &[u8]| (*property)(bytes));
    }};
}

/// What inputs may look like. Used directly for a property that is a test only, because it is slow.
pub struct Examples(Vec<Vec<u8>>);

impl Examples {
    /// These examples.
    pub fn new<E: AsRef<[u8]>>(examples: impl IntoIterator<Item = E>) -> Self {
        Self(examples.into_iter().map(|example| example.as_ref().to_vec()).collect())
    }

    /// Puts them where the fuzzer begins: into the folder that `FUZZ_CORPUS` names.
    #[cfg(fuzzing)]
    #[allow(clippy::expect_used)] // a fuzz target that cannot begin fails
    pub fn write_to_corpus(&self) {
        let Some(folder) = std::env::var_os("FUZZ_CORPUS") else { return };
        for (number, example) in self.0.iter().enumerate() {
            let path = std::path::Path::new(&folder).join(format!("example-{number}"));
            std::fs::write(path, example).expect("the corpus can be written");
        }
    }
}
