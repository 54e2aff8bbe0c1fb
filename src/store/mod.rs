//! Adapters of the port [`Store`](crate::cache_aside::Store).

mod memory;
mod table;

pub use self::memory::MemoryStore;
pub use self::table::{TableAccess, TableStore};
