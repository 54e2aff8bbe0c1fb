//! The users that clients read and write: a few at a time, each for some seconds.
//!
//! A user is created with a name and may be deleted once, or does not exist at first and is never deleted:
//! so "no such user" is written at most once, as every other value, and the checker knows who wrote it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rand::RngExt as _;
use rand::rngs::StdRng;
use test_programs::table::{path, user_id};

use crate::history::{History, Recorder, Value};

/// The ids of the users are those of this series.
const SERIES: char = 'C';

/// A user, and what clients have done with it.
pub struct User {
    /// Which of all users of the run it is.
    pub number: usize,
    /// Its ULID.
    pub id: String,
    /// Its path in the API.
    pub path: String,
    /// What it is at first.
    pub initial: Value,
    /// What clients have done.
    pub recorder: Recorder,
    may_be_deleted: AtomicBool,
}

/// The users in use, and those that were.
pub struct Users {
    in_use: Vec<RwLock<Arc<User>>>,
    all: Mutex<Vec<Arc<User>>>,
    next_name: AtomicU64,
}

/// The name that stands for this number.
pub fn name(number: u64) -> String {
    format!("v{number}")
}

/// The value that this name stands for.
pub fn value(name: &str) -> Option<Value> {
    name.strip_prefix('v')?.parse().ok().map(Value::Number)
}

impl User {
    /// A user who does not exist yet, and will not be deleted.
    pub fn absent(number: usize) -> Self {
        let id = user_id(SERIES, number);
        Self {
            path: path(&id),
            id,
            number,
            initial: Value::None,
            recorder: Recorder::new(),
            may_be_deleted: AtomicBool::new(false),
        }
    }

    /// A user who has been created at this path.
    pub fn present(number: usize, path: String, initial: Value) -> Self {
        let id = path.rsplit('/').next().unwrap_or_default().to_owned();
        let may_be_deleted = AtomicBool::new(true);
        Self { number, id, path, initial, recorder: Recorder::new(), may_be_deleted }
    }

    /// Whether the caller may delete it: nobody else has, or may any more.
    pub fn claim_deletion(&self) -> bool {
        self.may_be_deleted.swap(false, Ordering::SeqCst)
    }

    /// Gives the claim back, because the deletion was refused.
    pub fn return_deletion(&self) {
        self.may_be_deleted.store(true, Ordering::SeqCst);
    }

    /// What clients have done so far.
    pub fn history(&self) -> History {
        self.recorder.history(self.initial)
    }
}

impl Users {
    /// These users, all of them in use.
    pub fn new(users: Vec<User>, next_name: u64) -> Self {
        let users: Vec<_> = users.into_iter().map(Arc::new).collect();
        Self {
            in_use: users.iter().cloned().map(RwLock::new).collect(),
            all: Mutex::new(users),
            next_name: AtomicU64::new(next_name),
        }
    }

    /// How many are in use at the same time.
    pub fn places(&self) -> usize {
        self.in_use.len()
    }

    /// One of those in use, the first ones more often.
    pub fn pick(&self, random: &mut StdRng) -> Arc<User> {
        let bound = random.random_range(1..=self.in_use.len());
        let place = random.random_range(0..bound);
        Arc::clone(&self.in_use[place].read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A number that no name had before.
    pub fn fresh_name(&self) -> u64 {
        self.next_name.fetch_add(1, Ordering::Relaxed)
    }

    /// Puts a new user in the place of another.
    pub fn replace(&self, place: usize, user: User) {
        let user = Arc::new(user);
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&user));
        *self.in_use[place].write().unwrap_or_else(PoisonError::into_inner) = user;
    }

    /// All users of the run.
    pub fn all(&self) -> Vec<Arc<User>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
