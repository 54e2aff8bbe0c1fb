//! Users: what they are.
//!
//! A [`UserId`] and a [`Name`] are parsed where they enter the program; no function behind that sees
//! an unchecked string.

mod document;
mod id;
mod name;

pub use self::document::UserDocument;
pub use self::id::{NotAUlid, UserId};
pub use self::name::{InvalidName, MAX_NAME_LENGTH, Name};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's id.
    pub id: UserId,
    /// The user's name.
    pub name: Name,
}
