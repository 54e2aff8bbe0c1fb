//! The columns of a user's row.

use serde::{Deserialize, Serialize};

use crate::users::{Name, User, UserId};

/// The partition that all users are in.
pub(super) const PARTITION: &str = "user";

/// A user's row. Other columns, and those that the service adds, are ignored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Row {
    partition_key: Partition,
    row_key: UserId,
    name: Name,
}

/// Spelled as a type so that a row of another partition is not taken for a user.
#[derive(Debug, Serialize, Deserialize)]
enum Partition {
    #[serde(rename = "user")] // PARTITION
    User,
}

impl From<&User> for Row {
    fn from(user: &User) -> Self {
        Self { partition_key: Partition::User, row_key: user.id, name: user.name.clone() }
    }
}

impl From<Row> for User {
    fn from(row: Row) -> Self {
        Self { id: row.row_key, name: row.name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_in_the_partition_of_users() {
        let id = "01KB584F3Y9AF31621Q7N62Q67";
        let user = User { id: id.parse().unwrap(), name: Name::parse("Ann").unwrap() };
        let json = serde_json::to_value(Row::from(&user)).unwrap();
        let expected = serde_json::json!({"PartitionKey": PARTITION, "RowKey": id, "Name": "Ann"});
        assert_eq!(json, expected);
        assert_eq!(User::from(serde_json::from_value::<Row>(json).unwrap()), user);
    }
}
