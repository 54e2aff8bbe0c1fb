//! Users: ids and names.
//!
//! Input is parsed where it enters. Names read from the table are not checked: other programs may
//! have written them.

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
