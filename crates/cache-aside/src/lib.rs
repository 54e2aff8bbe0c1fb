#![doc = include_str!("../README.md")]

mod answer;
mod cache;
mod cache_aside;
mod call;
mod clock;
mod copies;
mod error;
mod lease;
mod memory;
mod overdue;
mod policy;
#[cfg(feature = "redis")]
pub mod redis;
mod shared_loads;
mod slot;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use self::answer::{Audit, Because, Load, Read, Source, Timing, Written};
pub use self::cache::{Cache, CacheError, Fill, Key, Release, Value};
pub use self::cache_aside::CacheAside;
pub use self::error::{LoadError, Outcome, WriteError};
pub use self::memory::MemoryCache;
pub use self::policy::{LATE_WRITE_MARGIN, Policy, PolicyBuilder, PolicyError};
pub use self::slot::{Entry, Fence, InvalidToken, Slot, Token};
