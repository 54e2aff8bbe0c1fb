//! Users in Azure Table Storage.

use std::error::Error;
use std::sync::Arc;

use azure_core::{StatusCode, TransportOptions};
use azure_data_tables::IfMatchCondition;
use azure_data_tables::clients::{EntityClient, TableClient, TableServiceClientBuilder};
use azure_storage::{CloudLocation, ConnectionString};
use serde::de::IgnoredAny;

use crate::user::{PARTITION, User};

const NAME: &str = "users";

pub(crate) struct Table(TableClient);

impl Table {
    /// Opens the table, and creates it if it is missing.
    pub(crate) async fn open(connection_string: &str) -> Result<Self, Box<dyn Error>> {
        let parts = ConnectionString::new(connection_string)?;
        let location = CloudLocation::Custom {
            account: parts.account_name.ok_or("AccountName is missing")?.to_owned(),
            uri: parts.table_endpoint.ok_or("TableEndpoint is missing")?.to_owned(),
        };
        // The library's default client closes each connection after one request.
        let client = Arc::new(reqwest::Client::new());
        let service =
            TableServiceClientBuilder::with_location(location, parts.storage_credentials()?)
                .transport(TransportOptions::new(client))
                .build();
        let table = service.table_client(NAME);
        if let Err(error) = table.create().await {
            let code = error.as_http_error().and_then(|http| http.error_code());
            if code != Some("TableAlreadyExists") {
                return Err(error.into());
            }
        }
        Ok(Self(table))
    }

    fn entity(&self, id: &str) -> EntityClient {
        self.0.partition_key_client(PARTITION).entity_client(id)
    }

    pub(crate) async fn insert(&self, user: &User) -> azure_core::Result<String> {
        Ok(self.0.insert::<_, IgnoredAny>(user)?.await?.etag.to_string())
    }

    pub(crate) async fn get(&self, id: &str) -> azure_core::Result<Option<(User, String)>> {
        let found = if_found(self.entity(id).get::<User>().await)?;
        Ok(found.map(|found| (found.entity, found.etag.to_string())))
    }

    /// Changes a row that exists.
    pub(crate) async fn merge(&self, user: &User) -> azure_core::Result<Option<String>> {
        let merge = self.entity(user.id()).merge(user, IfMatchCondition::Any)?;
        Ok(if_found(merge.await)?.map(|merged| merged.etag.to_string()))
    }

    /// Whether there was such a row.
    pub(crate) async fn delete(&self, id: &str) -> azure_core::Result<bool> {
        Ok(if_found(self.entity(id).delete().await)?.is_some())
    }
}

fn if_found<T>(outcome: azure_core::Result<T>) -> azure_core::Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.as_http_error().map(|http| http.status()) {
            Some(StatusCode::NotFound) => Ok(None),
            _ => Err(error),
        },
    }
}
