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
    fn fuzz_a_row_is_the_user_in_its_columns() {
        let examples = [
            r#"{"PartitionKey":"user","RowKey":"01KB584F3Y9AF31621Q7N62Q67","Name":"Ann","Timestamp":"x"}"#,
            r#"{"odata.etag":"W/\"a\"","RowKey":"01kb584f3y9af31621q7n62q67","Name":"","PartitionKey":"user"}"#,
            r#"{"PartitionKey":"users","RowKey":"8","Name":7}"#,
        ];
        fuzzing::check!(examples, |bytes| {
            let Ok(row) = serde_json::from_slice::<Row>(bytes) else { return };
            let user = User::from(row);
            if let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes) {
                assert_eq!(json["PartitionKey"], PARTITION);
                let row_key = json["RowKey"].as_str().unwrap();
                assert_eq!(user.id.to_string(), row_key.to_ascii_uppercase());
                assert_eq!(serde_json::to_value(&user.name).unwrap(), json["Name"]);
            }
            let written = serde_json::to_vec(&Row::from(&user)).unwrap();
            assert_eq!(User::from(serde_json::from_slice::<Row>(&written).unwrap()), user);
        });
    }

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
