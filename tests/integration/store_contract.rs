//! The contract of [`Store`], as tests, on the in-process store and on a table of Azurite. Another
//! implementation is written against them: add a module with a function that creates it.

use std::sync::Arc;
use std::time::Duration;

use cache_aside_handler::store::{
    Concurrency, Condition, ETag, LoadError, MemoryStore, Put, PutCondition, Store, TableStore,
    WriteError,
};
use cache_aside_handler::telemetry::Telemetry;
use cache_aside_handler::users::{Name, User, UserId};

use crate::support::{Azurite, connection_string, free_port, fresh_table};

/// Makes a test of each rule for each store.
macro_rules! store_contract {
    ($($rule:ident)*) => {
        mod memory {$(
            #[tokio::test]
            async fn $rule() { super::$rule(super::MemoryStore::default()).await }
        )*}
        mod table {$(
            #[tokio::test]
            async fn $rule() {
                let (store, _azurite) = super::on_azurite();
                super::$rule(store).await;
            }
        )*}
    };
}

store_contract! {
    a_user_that_was_not_inserted_is_not_found
    an_inserted_user_is_loaded_with_its_version
    a_second_insert_of_an_id_is_refused_and_changes_nothing
    an_update_replaces_the_user_and_its_version
    an_update_of_a_user_that_does_not_exist_is_not_found
    a_deleted_user_is_not_found
    a_delete_of_a_user_that_does_not_exist_is_not_found
    a_condition_names_the_versions_that_may_be_changed
    a_put_creates_a_user_or_replaces_it_and_says_which
    a_put_of_an_absent_user_never_replaces
    a_put_of_a_present_user_never_creates
    a_put_holds_to_the_versions_that_may_be_replaced
    of_concurrent_puts_of_a_new_id_one_creates_it
    a_deleted_user_can_be_inserted_again
    users_do_not_affect_each_other
    the_probe_succeeds
}

fn on_azurite() -> (TableStore, Arc<Azurite>) {
    let azurite = Azurite::shared();
    (table_store(azurite.port), azurite)
}

fn table_store(port: u16) -> TableStore {
    let access = connection_string(port).parse().unwrap();
    let concurrency = Concurrency { calls: 16, queue: 16 };
    TableStore::new(access, &fresh_table(), Duration::from_secs(3), concurrency, Telemetry::off())
}

fn user(name: &str) -> User {
    User { id: UserId::random(), name: Name::parse(name).unwrap() }
}

fn renamed(user: &User, name: &str) -> User {
    User { id: user.id, ..self::user(name) }
}

async fn a_user_that_was_not_inserted_is_not_found(store: impl Store) {
    assert_eq!(store.load(UserId::random()).await, Ok(None));
}

async fn an_inserted_user_is_loaded_with_its_version(store: impl Store) {
    let ann = user("Ann");
    let etag = store.insert(&ann).await.unwrap();
    let loaded = store.load(ann.id).await.unwrap().unwrap();
    assert_eq!((loaded.value, loaded.etag), (ann, etag));
}

async fn a_second_insert_of_an_id_is_refused_and_changes_nothing(store: impl Store) {
    let ann = user("Ann");
    store.insert(&ann).await.unwrap();
    let second = store.insert(&renamed(&ann, "Bea")).await;
    assert!(matches!(second, Err(WriteError::NotApplied(_))), "{second:?}");
    assert_eq!(store.load(ann.id).await.unwrap().unwrap().value, ann);
}

async fn an_update_replaces_the_user_and_its_version(store: impl Store) {
    let ann = user("Ann");
    let first = store.insert(&ann).await.unwrap();
    let bea = renamed(&ann, "Bea");
    let second = store.update(&bea, &Condition::Exists).await.unwrap();
    assert_ne!(first, second);
    let loaded = store.load(ann.id).await.unwrap().unwrap();
    assert_eq!((loaded.value, loaded.etag), (bea, second));
}

async fn an_update_of_a_user_that_does_not_exist_is_not_found(store: impl Store) {
    let ann = user("Ann");
    let one_of = Condition::OneOf(vec![ETag::new("W/\"1\"")]);
    for condition in [Condition::Exists, one_of] {
        assert_eq!(store.update(&ann, &condition).await, Err(WriteError::NotFound));
    }
    assert_eq!(store.load(ann.id).await, Ok(None));
}

async fn a_deleted_user_is_not_found(store: impl Store) {
    let ann = user("Ann");
    store.insert(&ann).await.unwrap();
    store.delete(ann.id, &Condition::Exists).await.unwrap();
    assert_eq!(store.load(ann.id).await, Ok(None));
}

async fn a_delete_of_a_user_that_does_not_exist_is_not_found(store: impl Store) {
    let gone = store.delete(UserId::random(), &Condition::Exists).await;
    assert_eq!(gone, Err(WriteError::NotFound));
}

async fn a_condition_names_the_versions_that_may_be_changed(store: impl Store) {
    let ann = user("Ann");
    let old = store.insert(&ann).await.unwrap();
    let bea = renamed(&ann, "Bea");
    let current = store.update(&bea, &Condition::OneOf(vec![old.clone()])).await.unwrap();

    let other = ETag::new("\"other\"");
    for etags in [vec![], vec![old.clone()], vec![other.clone()], vec![old.clone(), other.clone()]]
    {
        let condition = Condition::OneOf(etags);
        let failed = Err(WriteError::PreconditionFailed);
        assert_eq!(store.update(&ann, &condition).await, failed, "{condition:?}");
        let failed = Err(WriteError::PreconditionFailed);
        assert_eq!(store.delete(ann.id, &condition).await, failed, "{condition:?}");
    }
    assert_eq!(store.load(ann.id).await.unwrap().unwrap().value, bea);

    let listed = Condition::OneOf(vec![other, current]);
    let current = store.update(&ann, &listed).await.unwrap();
    store.delete(ann.id, &Condition::OneOf(vec![current])).await.unwrap();
}

async fn a_put_creates_a_user_or_replaces_it_and_says_which(store: impl Store) {
    let ann = user("Ann");
    let mut versions = Vec::new();
    for (user, creates) in [
        (ann.clone(), true),
        (renamed(&ann, "Bea"), false),
        (ann.clone(), false),
        (ann.clone(), false), // the same again is a new version, too
    ] {
        let put = store.put(&user, &PutCondition::Always).await.unwrap();
        let (created, etag) = match put {
            Put::Created(etag) => (true, etag),
            Put::Replaced(etag) => (false, etag),
        };
        assert_eq!(created, creates);
        assert!(!versions.contains(&etag), "a version is never used twice");
        versions.push(etag.clone());
        let loaded = store.load(ann.id).await.unwrap().unwrap();
        assert_eq!((loaded.value, loaded.etag), (user, etag));
    }
    store.delete(ann.id, &Condition::Exists).await.unwrap();
    let put = store.put(&ann, &PutCondition::Always).await;
    assert!(matches!(put, Ok(Put::Created(_))), "{put:?}");
}

async fn a_put_of_an_absent_user_never_replaces(store: impl Store) {
    let ann = user("Ann");
    let put = store.put(&ann, &PutCondition::Absent).await;
    let Ok(Put::Created(etag)) = put else { panic!("{put:?}") };
    for again in [ann.clone(), renamed(&ann, "Bea")] {
        let put = store.put(&again, &PutCondition::Absent).await;
        assert_eq!(put, Err(WriteError::PreconditionFailed));
    }
    let loaded = store.load(ann.id).await.unwrap().unwrap();
    assert_eq!((loaded.value, loaded.etag), (ann, etag));
}

async fn a_put_of_a_present_user_never_creates(store: impl Store) {
    let ann = user("Ann");
    let weak = ETag::new("W/\"1\"");
    let lists = [vec![], vec![weak.clone()], vec![weak, ETag::new("\"other\"")]];
    for condition in lists.map(Condition::OneOf).into_iter().chain([Condition::Exists]) {
        let put = store.put(&ann, &PutCondition::Present(condition.clone())).await;
        assert_eq!(put, Err(WriteError::PreconditionFailed), "{condition:?}");
    }
    assert_eq!(store.load(ann.id).await, Ok(None));
}

async fn a_put_holds_to_the_versions_that_may_be_replaced(store: impl Store) {
    let ann = user("Ann");
    let old = store.insert(&ann).await.unwrap();
    let mut current = old.clone();
    type Allow = fn(ETag) -> Condition;
    let allow: [(&str, Allow); 3] = [
        ("Bea", |_| Condition::Exists),
        ("Cleo", |current| Condition::OneOf(vec![current])),
        ("Dora", |current| Condition::OneOf(vec![ETag::new("\"other\""), current])),
    ];
    for (name, allow) in allow {
        let condition = allow(current);
        let put = store.put(&renamed(&ann, name), &PutCondition::Present(condition)).await;
        let Ok(Put::Replaced(etag)) = put else { panic!("{name}: {put:?}") };
        let loaded = store.load(ann.id).await.unwrap().unwrap();
        assert_eq!((loaded.value, &loaded.etag), (renamed(&ann, name), &etag));
        current = etag;
    }
    let other = ETag::new("\"other\"");
    for etags in [vec![], vec![old.clone()], vec![other.clone()], vec![old, other]] {
        let condition = PutCondition::Present(Condition::OneOf(etags));
        let put = store.put(&ann, &condition).await;
        assert_eq!(put, Err(WriteError::PreconditionFailed), "{condition:?}");
    }
    assert_eq!(store.load(ann.id).await.unwrap().unwrap().etag, current);
}

async fn of_concurrent_puts_of_a_new_id_one_creates_it(store: impl Store) {
    for condition in [PutCondition::Always, PutCondition::Absent] {
        let ann = user("Ann");
        let users: Vec<User> = (0..8).map(|nth| renamed(&ann, &format!("Ann {nth}"))).collect();
        let puts = users.iter().map(|user| store.put(user, &condition));
        let puts = futures_util::future::join_all(puts).await;
        let mut created = 0;
        for put in puts {
            match (put, &condition) {
                (Ok(Put::Created(_)), _) => created += 1,
                (Ok(Put::Replaced(_)), PutCondition::Always) => {}
                (Err(WriteError::PreconditionFailed), PutCondition::Absent) => {}
                (put, _) => panic!("{condition:?}: {put:?}"),
            }
        }
        assert_eq!(created, 1, "{condition:?}");
        let loaded = store.load(ann.id).await.unwrap().unwrap();
        assert!(users.contains(&loaded.value));
    }
}

async fn a_deleted_user_can_be_inserted_again(store: impl Store) {
    let ann = user("Ann");
    let first = store.insert(&ann).await.unwrap();
    store.delete(ann.id, &Condition::Exists).await.unwrap();
    let second = store.insert(&ann).await.unwrap();
    assert_ne!(first, second, "a version is never used twice");
}

async fn users_do_not_affect_each_other(store: impl Store) {
    let (ann, bea) = (user("Ann"), user("Bea"));
    store.insert(&ann).await.unwrap();
    store.insert(&bea).await.unwrap();
    store.delete(ann.id, &Condition::Exists).await.unwrap();
    assert_eq!(store.load(bea.id).await.unwrap().unwrap().value, bea);
}

async fn the_probe_succeeds(store: impl Store) {
    assert_eq!(store.probe().await, Ok(()));
}

/// The in-process store cannot be unreachable; every other can.
#[tokio::test]
async fn a_table_that_cannot_be_reached_is_unavailable_and_refuses_writes() {
    let store = table_store(free_port());
    let ann = user("Ann");
    assert!(matches!(store.load(ann.id).await, Err(LoadError::Unavailable(_))));
    assert!(matches!(store.probe().await, Err(LoadError::Unavailable(_))));
    // No connection was made, so it is certain that nothing was changed.
    assert!(matches!(store.insert(&ann).await, Err(WriteError::NotApplied(_))));
    let update = store.update(&ann, &Condition::Exists).await;
    assert!(matches!(update, Err(WriteError::NotApplied(_))), "{update:?}");
    let put = store.put(&ann, &PutCondition::Always).await;
    assert!(matches!(put, Err(WriteError::NotApplied(_))), "{put:?}");
}
